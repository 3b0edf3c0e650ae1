"""What commands came to: the next commit in the making, and an outcome for each command.

Here: the rows, and entering a command in them and in the index, timers in them and on the agenda, and what is owed to
the outside world. Not here: deciding it (`kernel`, `cascade`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import UNSET, Raw

from millstream.engine.application.about import About
from millstream.engine.application.app import App, tag_in
from millstream.engine.application.messages import Event, Metadata, Receipt
from millstream.engine.application.schedules import Schedule
from millstream.engine.application.validation import encode
from millstream.engine.commits.columns import Sheet
from millstream.engine.commits.commit import Head
from millstream.engine.commits.record import Origin, Tenure, Timed
from millstream.engine.errors import ApplyFailed, HandlerFailed, ImpureHandler, LimitReached, MillstreamError, Rejected
from millstream.engine.limits import Limits
from millstream.engine.observers import Fault
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Effect, Name, Timer
from millstream.engine.write.room import PLACE_BYTES_MAX
from millstream.engine.write.state import WriteState
from millstream.engine.write.timing import Checked

__all__ = ["Outcome", "Rows", "enter", "enter_timers", "owe", "require_owable", "tell"]

_NOTHING = Metadata()

Outcome: TypeAlias = Receipt | MillstreamError


class Rows:
    """What commands came to: the next commit in the making, and an outcome for each command.

    Args:
        head: the commit that it follows.
        now: when its commands are decided, for the record.
        clock: the time of day then, which may be before ``now``: timers count from it.
    """

    __slots__ = (
        "_chunks",
        "_encoded",
        "clock",
        "events",
        "faults",
        "is_closed",
        "is_damaged",
        "not_timed",
        "now",
        "number",
        "outcomes",
        "owes",
        "owing",
        "refused",
        "sheet",
        "size_bytes",
        "start",
        "timed",
        "titled",
        "unheard",
    )

    def __init__(self, head: Head, now: datetime, clock: datetime | None = None) -> None:
        self.number = head.number + 1
        self.start = head.position
        self.now = now
        self.clock = now if clock is None else clock
        #: Of the events that are encoded, and of the answers.
        self.size_bytes = 0
        #: Something did not fit beside what stands here, and opens the next commit.
        self.is_closed = False
        #: What the commit says of each command that was accepted and had something to write.
        self.sheet = Sheet()
        self.events: list[Event] = []
        #: One for each command, in order: a receipt of this commit; one that is ``repeated``, or of a command that had
        #: nothing to write; or a refusal. The latter three stand or fall with what was decided before.
        self.outcomes: list[Outcome] = []
        #: How many are refusals.
        self.refused = 0
        #: The last command has damaged the state: what was decided before stands, and the state must be made anew.
        self.is_damaged = False
        #: Something is owed that is to be decided before anything else, by the next commit.
        self.owes = False
        #: What user code has raised.
        self.faults: list[Fault] = []
        #: Timers that are set, and whether each counts from now.
        self.timed: list[tuple[Timer, bool]] = []
        #: How many have been set in this commit: one without a name is named by that.
        self.titled = 0
        #: Effects that are owed for its events.
        self.owing: list[Effect] = []
        #: Those that were to be called off, and are not there.
        self.not_timed: list[Name] = []
        #: Refusals that only the log tells of: of a timer's command, or of one that came of an effect. By whose.
        self.unheard: list[tuple[str, Rejected]] = []
        self._chunks: list[bytes] = []
        self._encoded = 0

    @property
    def position(self) -> int:
        """The position of the last event so far."""
        return self.start + len(self.events)

    @property
    def accepted(self) -> int:
        """How many commands stand in it, those of reactions among them."""
        return len(self.sheet.types)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.sheet.is_empty

    def is_full_of(self, limits: Limits) -> bool:
        """Whether they are as many commands, or bytes, as one commit takes. The outcomes are not counted."""
        return (
            self.is_closed
            or len(self.sheet.types) >= limits.batch_commands_max
            or self.size_bytes + self.sheet.entries_bytes >= limits.batch_bytes_max
        )

    def room(self, state: WriteState, limits: Limits) -> int:
        """So many more bytes fit into the body, at least.

        Args:
            state: knows how large its events are at most.
            limits: ``commit_bytes_max`` bounds the body.
        """
        sheet, sizes, count = self.sheet, state.sizes, len(self.events)
        events = self.size_bytes + (count - self._encoded) * state.exact_bytes_max + count * PLACE_BYTES_MAX
        beside = sizes.once + len(sheet.types) * sizes.command + sheet.entries_bytes + sheet.given_bytes
        return limits.commit_bytes_max - events - beside

    def closes_for(self, needed: int, state: WriteState, limits: Limits) -> bool:
        """Whether what needs so many bytes is to open the next commit: it does not fit beside what stands here."""
        if not self.is_empty and self.room(state, limits) < needed:
            self.is_closed = True
        return self.is_closed

    def nothing(self, version: int | None) -> Receipt:
        """The receipt of a command that writes nothing: it names the commit on whose state it was decided.

        Args:
            version: that of its key.
        """
        return Receipt(self.number - 1 if self.is_empty else self.number, self.position, 0, None, version)

    def add(self, events: Sequence[Event], chunk: bytes | None = None) -> None:
        """The events of one command.

        Args:
            events: in order.
            chunk: the same, if they were encoded. Those of a command that has but one wait for others'.
        """
        if chunk is not None:
            self.pack()
        self.events += events
        if chunk is not None or len(events) > 1:
            self.pack(chunk)

    def refuse(self, refusal: MillstreamError, metadata: Metadata | None) -> None:
        """The outcome of a command that does not stand; where its own code has failed, that is a fault, too.

        Args:
            refusal: what its caller gets.
            metadata: the caller's.
        """
        self.outcomes.append(refusal)
        self.refused += 1
        correlation = None if metadata is None else metadata.correlation
        error = refusal.__cause__ or refusal
        if isinstance(refusal, HandlerFailed):
            self.faults.append(Fault(refusal.handler, refusal.command, error, correlation))
        elif isinstance(refusal, ApplyFailed):
            self.faults.append(Fault(refusal.model, refusal.event, error, correlation))
        elif isinstance(refusal, ImpureHandler):
            self.faults.append(Fault(refusal.function, refusal.message_type, refusal, correlation))

    def note_answer(self, answer: bytes) -> None:
        """What the last command, which has an id, answered, as JSON: it is kept in the commit."""
        self.sheet.note("answers", Raw(answer))
        self.size_bytes += len(answer)

    def pack(self, chunk: bytes | None = None) -> None:
        """Encode the events that are not encoded yet.

        Args:
            chunk: these events, if they were encoded.
        """
        if chunk is None:
            if self._encoded == len(self.events):
                return
            chunk = encode(self.events[self._encoded :] if self._encoded else self.events)
        self._encoded = len(self.events)
        self._chunks.append(chunk)
        self.size_bytes += len(chunk)

    def body(self, app: App, tenure: Tenure | None = None) -> bytes:
        """What the commit is to hold.

        Args:
            app: whose events they are.
            tenure: said in it, if given.
        """
        self.pack()
        entries = map(app.events.__getitem__, set(map(type, self.events)))
        key = {entry.tag: entry.key_name for entry in entries if entry.key_name is not None}
        owes: dict[str, list[str]] = {}
        if self.owing:
            performed = {entry.tag: app.effects[event] for event, entry in app.events.items() if event in app.effects}
            there = {app.events[each].tag for each in set(map(type, self.events))}
            owes = {tag: [each.name for each in performed[tag]] for tag in sorted(there & performed.keys())}
        return self.sheet.body(self._chunks, dict(sorted(key.items())), tenure, owes or None)

    def sealed(self, digest: bytes) -> None:
        """Its commit has this digest: what the outside world knows its effects by."""
        if self.owing:
            Agenda.seal(self.owing, digest)


def enter(
    tag: str, key: str | None, events: Sequence[Event], chunk: bytes | None, state: WriteState, rows: Rows
) -> int | None:
    """A command stands: its events, which were applied, are counted and written. Returns the version of its key.

    Args:
        tag: the command's type.
        key: the command's.
        events: in order.
        chunk: the same as JSON, if they were encoded.
        state: whose index counts.
        rows: what is written.
    """
    rows.add(events, chunk)
    index, sheet, size = state.index, rows.sheet, len(events)
    keys = [state.effects[type(event)][1](event) for event in events]
    version = index.count(key, None if keys.count(key) == size else keys, size)
    sheet.types.append(tag)
    if size != 1:
        sheet.note("counts", size, 1)
    if key != (keys[0] if keys else None):
        sheet.note_key(key)
    return version


def tell(
    event: Event,
    place: int,
    state: WriteState,
    rows: Rows,
    command: str,
    metadata: Metadata | None = None,
    *,
    command_id: str | None = None,
    origin: Origin | None = None,
) -> None:
    """Let a model that asks know about the event that is applied next what the commit will say of it.

    Args:
        event: it.
        place: how many of its command's events come before.
        state: whose models ask.
        rows: of the commit in the making, without the events of this command.
        command: the command's type.
        metadata: what its caller gave with it.
        command_id: the command's id.
        origin: what it follows from, if no caller sent it.
    """
    told = metadata or _NOTHING
    state.told = About(
        position=rows.position + 1 + place,
        recorded_at=rows.now,
        command=command,
        key=state.effects[type(event)][1](event),
        command_id=command_id,
        actor=told.actor,
        correlation=told.correlation,
        causation=told.causation if origin is None else origin.causation(rows.start),
        trace=told.trace,
        extra=told.extra,
    )


def require_owable(events: Iterable[Event], state: WriteState, limits: Limits) -> None:
    """See that what these events are to do outside can be owed.

    Raises:
        LimitReached: so much is owed already.
    """
    more = sum(len(state.performed.get(type(event), ())) for event in events)
    if more and len(state.agenda.effects) + more > limits.effects_owed_max:
        raise LimitReached("effects_owed_max", limits.effects_owed_max)


def owe(events: Sequence[Event], rows: Rows, state: WriteState, metadata: Metadata | None) -> None:
    """Enter what is owed to the outside world for the last events of the rows.

    Args:
        events: of the command that was entered last.
        rows: of the commit in the making.
        state: whose agenda it is.
        metadata: the metadata of the command that led to the events.
    """
    told = metadata or Metadata()
    told = Metadata(told.actor, told.correlation, None, told.trace, told.extra)
    first, agenda = len(rows.events) - len(events), state.agenda
    for index, event in enumerate(events, first):
        for by in state.performed.get(type(event), ()):
            key, text = state.effects[type(event)][1](event), encode(event).decode()
            effect = Effect(rows.start + 1 + index, by, text, key, rows.number, index, metadata=told)
            agenda.owe(effect)
            rows.owing.append(effect)


def enter_timers(
    found: Iterable[Checked], rows: Rows, state: WriteState, metadata: Metadata, key: str | None, **place: Any
) -> None:
    """Enter timers: in what is written, in the agenda, and for the timetable.

    Args:
        found: what to enter.
        rows: of the commit in the making.
        state: whose agenda it is.
        metadata: the metadata of the command that set them.
        key: what their names belong to by default.
        **place: of who yielded them, as in `Timed`.
    """
    is_own = "command" in place
    metadata = Metadata(metadata.actor, metadata.correlation, None, metadata.trace, metadata.extra)
    for timing, due, command in found:
        scope = key if timing.key is UNSET else timing.key
        told = {**place, "scope": UNSET if is_own and scope == key else scope}
        if due is None or command is None:
            _call_off((scope, str(timing.name)), rows, state, told)
            continue
        rows.titled += 1
        title = timing.name or f"{tag_in(command)}/{rows.number}.{rows.titled}"
        rows.sheet.add(Timed(set=title, due=due, what=Raw(command), **told))
        timer = Timer(title, scope, due, command.decode(), rows.number, metadata)
        state.agenda.enter(timer)
        rows.timed.append((timer, isinstance(timing, Schedule) and timing.after is not None))


def _call_off(name: Name, rows: Rows, state: WriteState, told: dict[str, Any]) -> None:
    if state.agenda.strike(name) is None:
        rows.not_timed.append(name)
        return
    rows.sheet.add(Timed(cancelled=name[1], **told))
