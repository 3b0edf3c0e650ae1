"""The read side's pure core: a view's state, and durable commits applied to it one after another.

Here: plain functions and values, no loop, no I/O. Not here: queues, and queries that wait (`viewing`).

Invariants: whole commits, in order, each once; a gap is refused; an event that can't be applied is treated as the
view's policy says, and is never just passed over:

    policy  the event                              what follows
    ------  ---------                              ------------
    stop    the view is faulted there              nothing is applied, nothing answered
    park    is kept with its cause                 events of the same key wait behind it, all others are applied
    skip    is counted                             everything else is applied

After the latter two every answer says that something is missing, until what was parked is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import length_hint

import msgspec
import structlog

from penstock.engine.app import App
from penstock.engine.codec import encode
from penstock.engine.commit import Head
from penstock.engine.messages import Event
from penstock.engine.replay import Chapter
from penstock.engine.sides import ReadSide
from penstock.engine.snapshots import Part, fingerprint_of

__all__ = ["Parked", "ReadState"]

_log = structlog.get_logger("penstock")

#: Events applied between two looks at the clock.
_STRIDE = 64


class Parked(msgspec.Struct, frozen=True):
    """An event that a view could not apply, or one that waits behind such a one.

    ``cause`` is what the view raised, empty for one that only waits; ``code_version`` that of the view then.
    """

    view: str
    position: int
    key: str | None
    event: Event
    cause: str
    code_version: int


class _Note(msgspec.Struct, array_like=True):
    """A parked event as a snapshot holds it."""

    position: int
    key: str | None
    event: msgspec.Raw
    cause: str
    code_version: int


class _Notes(msgspec.Struct, array_like=True):
    skipped: int
    parked: list[_Note]


class ReadState:
    """One view's state, and what it has left out.

    Args:
        app: the application.
        view: which of its views.
        state: the view's state at ``head``; the one before the first event if none is given.
        head: the last commit that is in the state.
        notes: what a snapshot noted beside the state.
        parked_max: how many events may be parked.

    Raises:
        msgspec.DecodeError: the notes are none, or hold an event that can't be read any more.
    """

    def __init__(
        self,
        app: App,
        view: type[ReadSide],
        state: ReadSide | None = None,
        head: Head | None = None,
        notes: bytes = b"",
        *,
        parked_max: int,
    ) -> None:
        self.name = view.__name__
        self.state = view() if state is None else state
        #: The last commit that was applied.
        self.head = head or Head()
        #: What it could not apply and what waits behind it, by key, in order.
        self.parked: dict[str | None, list[Parked]] = {}
        self.skipped = 0
        #: Where it stopped, and why.
        self.fault: tuple[int, BaseException] | None = None
        self.appliers = {event: m.function.__get__(self.state) for event, m in view.__appliers__.items()}
        self.types = frozenset(self.appliers)
        self._app = app
        self._poison = view.poison
        self._code_version = view.code_version
        self._parked_max = parked_max
        if notes:
            self._take_up(msgspec.json.decode(notes, type=_Notes))

    @property
    def parked_count(self) -> int:
        """How many events are parked, those that wait behind others included."""
        return sum(map(len, self.parked.values()))

    @property
    def is_incomplete(self) -> bool:
        """Whether something is missing from the state."""
        return bool(self.parked or self.skipped)

    def steps(self, chapter: Chapter) -> Iterator[None]:
        """Apply the commit that follows, some events at each step; a state between two steps is not to be shown.

        A commit that was applied already, and any after a fault, is passed over.

        Raises:
            RuntimeError: the commit does not follow the last one: a defect of the engine.
        """
        behind = chapter.head.number - self.head.number
        if behind <= 0 or self.fault is not None:
            return
        if behind > 1:
            number = chapter.head.number
            raise RuntimeError(f"view {self.name} is at commit {self.head.number:,} and was given {number:,}")
        if not self.types.isdisjoint(chapter.types):
            for start in range(0, len(chapter.events), _STRIDE):
                if start:
                    yield
                if not self._apply(chapter, chapter.events[start : start + _STRIDE], chapter.start + start):
                    return
        self.head = chapter.head

    def replay_parked(self) -> int:
        """Try again what is parked, key by key, in order; returns how many events were applied."""
        applied = 0
        for key in list(self.parked):
            waiting = self.parked.pop(key)
            while waiting:
                first = waiting[0]
                try:
                    self.appliers[type(first.event)](first.event)
                except Exception as error:  # noqa: BLE001 - it stays parked, with what it raised this time
                    waiting[0] = msgspec.structs.replace(first, cause=repr(error), code_version=self._code_version)
                    self.parked[key] = waiting
                    break
                del waiting[0]
                applied += 1
        return applied

    def part(self) -> Part:
        """What there is to be snapshot."""
        return Part(f"view {self.name}", fingerprint_of(type(self.state)), self.state, self.head, self._notes())

    def _apply(self, chapter: Chapter, events: Sequence[Event], position: int) -> bool:
        """Apply some events that follow ``position``; whether the view is well."""
        appliers, parked, left = self.appliers, self.parked, iter(events)
        while True:
            try:
                for event in left:
                    apply = appliers.get(type(event))
                    if apply is not None and not (parked and self._waits(event, position, events, left)):
                        apply(event)
                return self.fault is None
            except Exception as error:  # noqa: BLE001 - kept, logged, and told to everyone who asks
                at = min(position + len(events) - length_hint(left), chapter.head.position)
                self._poisoned(event, at, error)
                if self.fault is not None:
                    return False

    def _waits(self, event: Event, position: int, events: Sequence[Event], left: Iterator[Event]) -> bool:
        key = self._key_of(event)
        if key is None or key not in self.parked:
            return False
        self._keep(Parked(self.name, position + len(events) - length_hint(left), key, event, "", self._code_version))
        return True

    def _poisoned(self, event: Event, position: int, error: Exception) -> None:
        if self._poison == "stop":
            self.fault = (position, error)
            return
        key, name, parks = self._key_of(event), type(event).__name__, self._poison == "park"
        line = "event_parked" if parks else "event_skipped"
        _log.error(line, view=self.name, position=position, event_type=name, key=key, error=repr(error))
        if parks:
            self._keep(Parked(self.name, position, key, event, repr(error), self._code_version))
        else:
            self.skipped += 1

    def _keep(self, parked: Parked) -> None:
        self.parked.setdefault(parked.key, []).append(parked)
        if self.parked_count > self._parked_max:
            problem = OverflowError(f"more than view_parked_max={self._parked_max:,} events are parked")
            self.fault = (parked.position, problem)

    def _key_of(self, event: Event) -> str | None:
        return self._app.events[type(event)].key_of(event)

    def _notes(self) -> bytes:
        if not self.is_incomplete:
            return b""
        parked = sorted(chain.from_iterable(self.parked.values()), key=lambda each: each.position)
        notes = [_Note(p.position, p.key, msgspec.Raw(encode(p.event)), p.cause, p.code_version) for p in parked]
        return encode(_Notes(self.skipped, notes))

    def _take_up(self, notes: _Notes) -> None:
        self.skipped = notes.skipped
        for note in notes.parked:
            event = self._app.read_event(bytes(note.event))
            self._keep(Parked(self.name, note.position, note.key, event, note.cause, note.code_version))
