"""The read side's pure core: a view's state, and durable commits applied to it one after another.

Here: plain functions and values, no loop, no I/O. Not here: queues, and queries that wait (`actor`); what was left out
(`parked`).

Invariants: whole commits, in order, each once; a gap is refused; an event that can't be applied is treated as the
view's policy says, and is never just passed over:

    policy  the event                              what follows
    ------  ---------                              ------------
    stop    the view is faulted there              nothing is applied, nothing answered
    park    is kept with its cause                 events of the same key wait behind it, all others are applied
    skip    is counted                             everything else is applied

After the latter two every answer says that something is missing, until what was parked is replayed. What a method had
changed before it raised stays changed, unless the view itself changes it back: one that may fail is to look first, and
to change the state then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from millstream.engine.application.about import About, own_about
from millstream.engine.application.app import App
from millstream.engine.application.applying import apply_all
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Event, Query
from millstream.engine.application.methods import Method
from millstream.engine.application.sides import ReadSide, code_version_of, poison_of
from millstream.engine.commits.applied import Applied
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.marks import view_part
from millstream.engine.errors import ViewIncomplete
from millstream.engine.observers import Observer
from millstream.engine.read.parked import LeftOut, Parked, text_of
from millstream.engine.snapshots.shape import fingerprint_of

__all__ = ["ReadState"]

#: Events applied between two looks at the clock.
_STRIDE = 64


class ReadState:
    """One view's state, and what it has left out: the part of the read side that this view is.

    Args:
        app: the application.
        view: which of its views.
        parked_max: how many events may be parked; past it the view is faulted, also when a snapshot's notes hold more.
        observer: is called with events that are left out.
    """

    has_past: ClassVar = True

    def __init__(self, app: App, view: type[ReadSide], *, parked_max: int, observer: Observer) -> None:
        #: The class name of the view.
        self.view = view.__name__
        self.name = view_part(view.__name__)
        self.types = frozenset(view.__appliers__)
        self._app = app
        self._class = view
        self._poison = poison_of(view)
        self._code_version = code_version_of(view)
        self._parked_max = parked_max
        self._observer = observer
        self.reset()

    def reset(self) -> None:
        """Be new again."""
        self.state = self._class()
        #: The last commit that was applied.
        self.head = Head()
        #: What it could not apply, and what waits behind it.
        self.left_out = LeftOut()
        #: Whether that is anything. A plain attribute, as each answer looks at it.
        self.is_incomplete = False
        #: Where it stopped, and why.
        self.fault: tuple[int, BaseException] | None = None
        #: Whether the state is that of `head`, and not on its way to the next commit.
        self.is_whole = True
        self.appliers: Mapping[type[Any], Callable[[Any], None]] = {
            event: self._applier(method) for event, method in self._class.__appliers__.items()
        }
        #: What is being applied: some of a commit's events, or one that was parked.
        self._applied: Applied | Parked | None = None

    @property
    def fingerprint(self) -> str:
        """The shape of its class."""
        return fingerprint_of(self._class)

    @property
    def is_sound(self) -> bool:
        """Whether the state is what the events up to `head` make of it, so that it may be stored."""
        return self.is_whole and self.fault is None

    def steps(self, decoded: DecodedCommit) -> Iterator[None]:
        """Apply the commit that follows, some events at each step; a state between two steps is not to be shown.

        A commit that was applied already, and any after a fault, is passed over.

        Raises:
            RuntimeError: the commit does not follow the last one: a defect of the engine.
        """
        behind = decoded.head.number - self.head.number
        if behind <= 0 or self.fault is not None:
            return
        if behind > 1:
            number = decoded.head.number
            raise RuntimeError(f"view {self.view} is at commit {self.head.number:,} and was given {number:,}")
        if not self.types.isdisjoint(decoded.types):
            self.is_whole = False
            for start in range(0, len(decoded.events), _STRIDE):
                if start:
                    yield
                if not self._apply(decoded, start):
                    return
        self.head = decoded.head
        self.is_whole = True

    def replay_parked(self) -> int:
        """Try again what is parked, key by key, in order; returns how many events were applied."""
        self.is_whole = False
        applied = self.left_out.try_again(self._apply_one, self._code_version)
        self.is_whole, self.is_incomplete = True, bool(self.left_out)
        return applied

    def incomplete(self, query: Query[Any], answer: Any) -> ViewIncomplete:
        """The error for a caller that wants an answer of all events: the one that there is, and how many it lacks."""
        name, left_out = type(query).__name__, self.left_out
        return ViewIncomplete(self.view, name, self.head.position, left_out.count, left_out.skipped, answer)

    def skip_parked(self, position: int) -> int:
        """Leave out for good what is parked of the event at a position; returns how many that were."""
        return self.left_out.skip(position)

    def snapshot(self) -> Iterator[bytes] | None:
        """The view's own pieces."""
        return self.state.snapshot()

    def notes(self) -> bytes:
        """What it has left out."""
        return self.left_out.notes()

    def restore(self, piece: bytes) -> None:
        """Take up the next of the view's own pieces."""
        self.state.restore(piece)

    def restored(self, head: Head, notes: bytes) -> None:
        """All pieces were taken up: the state is that of ``head``.

        Raises:
            msgspec.DecodeError: the notes are none, or hold an event that can't be read any more.
        """
        try:
            self.left_out = LeftOut.noted(notes, self.view, self._app.read_event, self._key_of)
        except msgspec.DecodeError as error:
            raise msgspec.DecodeError(f"what it has parked can't be read: {error}") from error
        self.head, self.is_incomplete = head, bool(self.left_out)
        for number, parked in enumerate(sorted(self.left_out, key=lambda each: each.position), start=1):
            if number > self._parked_max:
                self._too_many(parked.position)
                break

    def _apply(self, decoded: DecodedCommit, start: int) -> bool:
        """Apply a stride of a commit's events, from the one with that index on. Returns False if the view stopped."""
        appliers, parked = self.appliers, self.left_out.parked
        self._applied = applied = Applied(self._app, decoded, start, _STRIDE)
        left = applied.left
        while True:
            try:
                if not parked:
                    apply_all(appliers, left, decoded.types)
                    return True
                for event in left:
                    apply = appliers.get(type(event))
                    if apply is None:
                        continue
                    if (key := self._key_of(event)) is not None and key in parked:
                        self._park(applied, "")
                        if self.fault is not None:
                            return False
                    else:
                        apply(event)
                return True
            except INTERRUPTS:
                raise
            except BaseException as error:  # noqa: BLE001 - kept, reported, and raised for every caller
                self._poisoned(applied, error)
                if self.fault is not None:
                    return False

    def _applier(self, method: Method) -> Callable[[Any], None]:
        bound: Callable[..., None] = method.function.__get__(self.state)
        return (lambda event: bound(event, self._about())) if method.wants_more else bound

    def _about(self) -> About:
        """What is known about the event that is applied just now."""
        assert self._applied is not None, "an event is applied"
        return self._applied.about

    def _apply_one(self, parked: Parked) -> None:
        self._applied = msgspec.structs.replace(parked, about=own_about(parked.about))
        self.appliers[type(parked.event)](parked.event)

    def _poisoned(self, applied: Applied, error: BaseException) -> None:
        event, position = applied.event, applied.position
        if self._poison == "stop":
            self.fault = (position, error)
            return
        cause, parks = text_of(error), self._poison == "park"
        tell = self._observer.event_parked if parks else self._observer.event_skipped
        kind, key = type(event).__name__, self._key_of(event)
        told = applied.about.correlation
        tell(view=self.view, position=position, event_type=kind, key=key, error=cause, raised=error, correlation=told)
        if parks:
            self._park(applied, cause)
        else:
            self.left_out.skipped += 1
            self.is_incomplete = True

    def _park(self, applied: Applied, cause: str) -> None:
        event, position = applied.event, applied.position
        key, about = self._key_of(event), applied.about
        self.left_out.park(Parked(self.view, position, key, event, cause, self._code_version, about))
        self.is_incomplete = True
        if self.left_out.count > self._parked_max:
            self._too_many(position)

    def _too_many(self, position: int) -> None:
        problem = f"more than view_parked_max={self._parked_max:,} events are parked: raise it, or mend the view"
        self.fault = (position, OverflowError(problem))

    def _key_of(self, event: Event) -> str | None:
        return self._app.events[type(event)].key_of(event)
