"""The effects of one method: which may be performed next.

Here: order per key, what waits behind what is parked, and how many may begin. It sees no loop and no writer. Not here:
performing one (`attempts`), and handing in what came of it (`runner`).

Invariant: of one key at most one effect is taken and not released, and it is the first of those that wait.
"""

from __future__ import annotations

from collections import deque

from millstream.engine.application.effects import EffectEntry
from millstream.engine.write.entries import Effect, Name

__all__ = ["Lane"]


class Lane:
    """What one method has to perform.

    Args:
        entry: the method.
    """

    def __init__(self, entry: EffectEntry) -> None:
        self.entry = entry
        self.terms = entry.method.terms
        #: An operator has said that none is to begin.
        self.is_paused = False
        #: How many are taken, and not done with.
        self.running = 0
        #: Since the engine was opened: attempts that have succeeded, and that have failed.
        self.succeeded = 0
        self.failed = 0
        self._waiting: dict[str, deque[Effect]] = {}
        self._ready: deque[Effect | str] = deque()
        self._busy: set[str] = set()
        self._parked: dict[str, set[Name]] = {}
        #: When the next attempt may begin, by the measuring clock.
        self._next_at = float("-inf")

    @property
    def has_room(self) -> bool:
        """Whether one more may be taken."""
        return not self.is_paused and self.running < self.terms.concurrency_max

    def clear(self) -> None:
        """Forget what waits and what is parked: all that is there comes anew. What is taken stays so."""
        self._waiting.clear()
        self._ready.clear()
        self._parked.clear()

    def add(self, effect: Effect) -> None:
        """One more that is owed. It has its place by its position: one that is tried again comes before later ones."""
        key = effect.key
        if key is None:
            self._ready.append(effect)
            return
        queue = self._waiting.setdefault(key, deque())
        later = []
        while queue and queue[-1].position > effect.position:
            later.append(queue.pop())
        queue.append(effect)
        queue.extend(reversed(later))
        self._look_at(key)

    def take(self) -> Effect | None:
        """The next one, whose key is taken with it; None if there is none that may be performed now."""
        while self._ready:
            ready = self._ready.popleft()
            if isinstance(ready, Effect):
                self.running += 1
                return ready
            queue = self._waiting.get(ready)
            if not queue or ready in self._busy or self._is_held(ready):
                continue  # it is looked at again when that is over
            effect = queue.popleft()
            if not queue:
                del self._waiting[ready]
            self._busy.add(ready)
            self.running += 1
            return effect
        return None

    def release(self, effect: Effect) -> None:
        """One that was taken is done with: the next of its key may come."""
        self.running -= 1
        if effect.key is not None:
            self._busy.discard(effect.key)
            self._look_at(effect.key)

    def park(self, key: str | None, name: Name) -> None:
        """One of that key is parked."""
        if key is not None:
            self._parked.setdefault(key, set()).add(name)

    def unpark(self, name: Name) -> None:
        """It is not any more, if it was."""
        if not self._parked:
            return
        for key, names in [(key, names) for key, names in self._parked.items() if name in names]:
            names.discard(name)
            if not names:
                del self._parked[key]
                self._look_at(key)

    def seconds_until_next(self, now: float) -> float:
        """How long it is until an attempt may begin."""
        return max(0.0, self._next_at - now)

    def reserve(self, now: float) -> float:
        """The next attempt is to begin: in how many seconds it may."""
        if self.terms.per_second is None:
            return 0.0
        begins_at = max(now, self._next_at)
        self._next_at = begins_at + 1 / self.terms.per_second
        return begins_at - now

    def _is_held(self, key: str) -> bool:
        return self.terms.after_parked == "wait" and key in self._parked

    def _look_at(self, key: str) -> None:
        if key in self._waiting and key not in self._busy and not self._is_held(key):
            self._ready.append(key)
