"""The read side's pure core: a view's state, and durable commits applied to it one after another.

Here: plain functions and values, no loop, no I/O but log lines. Not here: queues, and queries that wait (`actor`).

Invariants: whole commits, in order, each once; a gap is refused; an event that can't be applied is treated as the
view's policy says, and is never just passed over:

    policy  the event                              what follows
    ------  ---------                              ------------
    stop    the view is faulted there              nothing is applied, nothing answered
    park    is kept with its cause                 events of the same key wait behind it, all others are applied
    skip    is counted                             everything else is applied

After the latter two every answer says that something is missing, until what was parked is replayed. What a method had
changed before it raised stays changed: one that may fail is to look first, and to change the state then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import length_hint

import msgspec
import structlog

from millstream.engine.application.app import App
from millstream.engine.application.messages import Event
from millstream.engine.application.sides import ReadSide, code_version_of, poison_of
from millstream.engine.application.validation import encode
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.marks import view_part
from millstream.engine.snapshots.part import Part
from millstream.engine.snapshots.shape import fingerprint_of

__all__ = ["Parked", "ReadState"]

_log = structlog.get_logger("millstream")

#: Events applied between two looks at the clock.
_STRIDE = 64
#: How much is kept of what an error says of itself.
_CAUSE_CHARS_MAX = 1_000


class Parked(msgspec.Struct, frozen=True):
    """An event that a view could not apply, or one that waits behind such a one.

    ``position`` is that of the stored event, which several of today's may come from. ``cause`` is what the view raised,
    empty for one that only waits; ``code_version`` that of the view then.
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
        parked_max: how many events may be parked; past it the view is faulted, also when ``notes`` hold more.
        quiet: log no line about an event that is left out: whoever has the live state does.

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
        quiet: bool = False,
    ) -> None:
        self.name = view.__name__
        self.state = view() if state is None else state
        #: The last commit that was applied.
        self.head = head or Head()
        #: What it could not apply and what waits behind it, by key, in order; under None what has no key.
        self.parked: dict[str | None, list[Parked]] = {}
        #: How many those are.
        self.parked_count = 0
        self.skipped = 0
        #: Where it stopped, and why.
        self.fault: tuple[int, BaseException] | None = None
        #: Whether the state is that of `head`, and not on its way to the next commit.
        self.is_whole = True
        self.appliers = {event: m.function.__get__(self.state) for event, m in view.__appliers__.items()}
        self.types = frozenset(self.appliers)
        self._app = app
        self._poison = poison_of(view)
        self._code_version = code_version_of(view)
        self._parked_max = parked_max
        self._quiet = quiet
        #: The positions of the events of the commit with that number.
        self._placed: tuple[int, Sequence[int]] = (0, ())
        if notes:
            self._take_up(msgspec.json.decode(notes, type=_Notes))

    @property
    def is_incomplete(self) -> bool:
        """Whether something is missing from the state."""
        return bool(self.parked or self.skipped)

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
            raise RuntimeError(f"view {self.name} is at commit {self.head.number:,} and was given {number:,}")
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
        """Try again what is parked, key by key, in order; returns how many events were applied.

        An event that fails again stays, with what was raised this time, and so does what waits behind it.
        """
        before = self.parked_count
        self.is_whole = False
        for key, waiting in list(self.parked.items()):
            left = self._tried_again(waiting, in_order=key is not None)
            self.parked_count -= len(waiting) - len(left)
            if left:
                self.parked[key] = left
            else:
                del self.parked[key]
        self.is_whole = True
        return before - self.parked_count

    def part(self) -> Part:
        """What is to be snapshotted."""
        return Part(view_part(self.name), fingerprint_of(type(self.state)), self.state, self.head, self._notes())

    def _apply(self, decoded: DecodedCommit, start: int) -> bool:
        """Apply a stride of a commit's events, from the one with that index on; whether the view is well."""
        appliers, parked = self.appliers, self.parked
        events = decoded.events[start : start + _STRIDE]
        left = iter(events)
        while True:
            try:
                for event in left:
                    apply = appliers.get(type(event))
                    if apply is None:
                        continue
                    if parked and (key := self._key_of(event)) is not None and key in parked:
                        self._keep(decoded, start + len(events) - length_hint(left) - 1, "")
                        if self.fault is not None:
                            return False
                    else:
                        apply(event)
                return True
            except Exception as error:  # noqa: BLE001 - kept, logged, and told to everyone who asks
                self._poisoned(decoded, start + len(events) - length_hint(left) - 1, error)
                if self.fault is not None:
                    return False

    def _poisoned(self, decoded: DecodedCommit, index: int, error: Exception) -> None:
        event, position = decoded.events[index], self._position(decoded, index)
        if self._poison == "stop":
            self.fault = (position, error)
            return
        cause, parks = _text_of(error), self._poison == "park"
        if not self._quiet:
            facts = {"view": self.name, "position": position, "event_type": type(event).__name__, "error": cause}
            if parks:
                _log.error("event_parked", key=self._key_of(event), **facts)
            else:
                _log.error("event_skipped", key=self._key_of(event), **facts)
        if parks:
            self._keep(decoded, index, cause)
        else:
            self.skipped += 1

    def _keep(self, decoded: DecodedCommit, index: int, cause: str) -> None:
        event = decoded.events[index]
        key, position = self._key_of(event), self._position(decoded, index)
        self._park(Parked(self.name, position, key, event, cause, self._code_version))

    def _park(self, parked: Parked) -> None:
        self.parked.setdefault(parked.key, []).append(parked)
        self.parked_count += 1
        if self.parked_count > self._parked_max:
            problem = f"more than view_parked_max={self._parked_max:,} events are parked: raise it, or mend the view"
            self.fault = (parked.position, OverflowError(problem))

    def _tried_again(self, waiting: Sequence[Parked], *, in_order: bool) -> list[Parked]:
        left: list[Parked] = []
        for parked in waiting:
            if left and in_order:
                left.append(parked)
                continue
            try:
                self.appliers[type(parked.event)](parked.event)
            except Exception as error:  # noqa: BLE001 - it stays parked, with what it raised this time
                again = msgspec.structs.replace(parked, cause=_text_of(error), code_version=self._code_version)
                left.append(again)
        return left

    def _key_of(self, event: Event) -> str | None:
        return self._app.events[type(event)].key_of(event)

    def _position(self, decoded: DecodedCommit, index: int) -> int:
        number = decoded.head.number
        if self._placed[0] != number:
            self._placed = (number, _positions(self._app, decoded))
        return self._placed[1][index]

    def _notes(self) -> bytes:
        if not self.is_incomplete:
            return b""
        parked = sorted(chain.from_iterable(self.parked.values()), key=lambda each: each.position)
        notes = [_Note(p.position, msgspec.Raw(encode(p.event)), p.cause, p.code_version) for p in parked]
        return encode(_Notes(self.skipped, notes))

    def _take_up(self, notes: _Notes) -> None:
        self.skipped = notes.skipped
        for note in notes.parked:
            event = self._app.read_event(bytes(note.event))
            self._park(Parked(self.name, note.position, self._key_of(event), event, note.cause, note.code_version))


def _positions(app: App, decoded: DecodedCommit) -> Sequence[int]:
    """The position of each of a commit's events: of the stored one that it is, or that it came from."""
    first = decoded.start + 1
    stored = [event for record in decoded.records for event in record.events]
    if app.retired.isdisjoint(map(type, stored)):
        return range(first, first + len(decoded.events))
    return [position for position, event in enumerate(stored, first) for _ in app.upcast([event])]


def _text_of(error: Exception) -> str:
    """What an error says of itself, as text that can be written down."""
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - its own fault: then its name has to do
        text = type(error).__name__
    return text[:_CAUSE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
