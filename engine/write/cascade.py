"""What follows from a command: the reactions to its events, and to the events of what those send. And what is due.

Here: the order in which reactions run, what each is given, and what becomes of one that fails. It sees no promise, no
queue, no clock and no loop. Not here: deciding a command that a caller has sent (`kernel`), the agenda (`agenda`).

Invariants: what was decided stands, whatever a reaction does afterwards; each reaction to an event runs, or is owed, or
is parked; and the commit says which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from millstream.engine.application.app import tag_in
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Context, Event, Metadata
from millstream.engine.application.reactions import Asking, ReactionEntry
from millstream.engine.application.schedules import Schedule, Timing, Unschedule
from millstream.engine.application.validation import encode
from millstream.engine.commits.columns import text_bytes
from millstream.engine.commits.record import Failed, Origin, Owed, Refused
from millstream.engine.errors import (
    ApplyFailed,
    CommitTooLarge,
    ImpureHandler,
    LimitReached,
    MillstreamError,
    Rejected,
)
from millstream.engine.errors.said import cut, told_of
from millstream.engine.limits import Limits
from millstream.engine.observers import Fault
from millstream.engine.write.entries import Effect, Entry, Outcome, Timer, settled_of
from millstream.engine.write.room import PLACE_BYTES_MAX, following, timers_bytes
from millstream.engine.write.rows import Rows, enter, enter_timers, owe, require_owable, tell
from millstream.engine.write.state import WriteState
from millstream.engine.write.timing import Checked, apart, checked

__all__ = ["Cascade", "conclude", "decide_owed", "fire"]

#: Of an origin, without the names in it.
_ORIGIN_BYTES = 120


class _Place(NamedTuple):
    """Where the event is that a reaction follows, in this commit, or at a position of an earlier one; and what the log
    calls the reaction. Or a timer, and the key that its name belongs to. Or the position of the event of an effect, and
    what the log calls that.
    """

    by: str = ""
    event: int | None = None
    at: int | None = None
    timer: str | None = None
    scope: str | None = None
    effect: int | None = None


class _Waiting(NamedTuple):
    event: Event
    place: _Place
    reaction: ReactionEntry


class _Stop(Exception):
    """The reaction can't go on: its cause is why."""


class Cascade:
    """What follows from one command, from one reaction that was owed, from a timer that is due, or from an effect.

    Args:
        state: what is decided on; is changed by the events.
        rows: gets what is to be written.
        limits: ``cascade_commands_max``, ``cascade_bytes_max`` and ``commit_bytes_max`` are honoured.
        metadata: what the command's caller gave with it.
        may_owe: reactions that can't run now are owed. Else they are parked: they were owed before.
    """

    def __init__(
        self, state: WriteState, rows: Rows, limits: Limits, metadata: Metadata | None, *, may_owe: bool = True
    ) -> None:
        self._state = state
        self._rows = rows
        self._limits = limits
        told = metadata or Metadata()
        self._metadata = Metadata(told.actor, told.correlation, None, told.trace, told.extra)
        self._metadata_bytes = len(encode(self._metadata))
        self._may_owe = may_owe
        self._waiting: deque[_Waiting] = deque()
        self._commands = 0
        self._size_bytes = 0
        #: How many reactions were parked.
        self.parked = 0

    def take(self, events: Sequence[Event]) -> None:
        """The last events of the rows: their reactions wait."""
        first = len(self._rows.events) - len(events)
        for index, event in enumerate(events, first):
            for reaction in self._state.effects[type(event)][3]:
                self._waiting.append(_Waiting(event, _Place(reaction.name, index), reaction))

    def run(self) -> None:
        """Let all that wait run, one after another.

        Raises:
            KeyboardInterrupt, SystemExit: user code raised it. The rows and the state must not be used any more.
        """
        while self._waiting:
            each = self._waiting.popleft()
            if not self._follow(*each) and (self._rows.is_damaged or self._is_spent):
                for left in self._waiting:
                    self._leave(left)
                self._waiting.clear()

    def fire(self, timer: Timer) -> None:
        """Decide the command of a timer that is due, and what follows from it. The timer is struck, or parked.

        Raises:
            KeyboardInterrupt, SystemExit: as `run`.
        """
        state, rows = self._state, self._rows
        state.agenda.strike(timer.name)
        told = len(rows.faults)
        try:
            command = state.app.command_today(timer.command.encode())
            if command is None:
                rows.sheet.add(settled_of(timer.name, "void"))
                return
            refused, _ = self._decide(command, _Place(timer=timer.title, scope=timer.scope))
        except INTERRUPTS:
            raise
        except BaseException as raised:  # noqa: BLE001 - it is parked with what it raised
            error = raised.__cause__ or raised if isinstance(raised, _Stop) else raised
            if len(rows.faults) == told:  # else its handler's failure was reported
                rows.faults.append(self._fault(f"timer {timer.id}", tag_in(timer.command.encode()), error))
            kind, text = told_of(error)
            rows.sheet.add(timer.failed(kind, text))
            state.agenda.enter(replace(timer, error=kind, text=text))
            return
        if refused is not None:
            rows.unheard.append((timer.id, refused))
        self.run()

    def send(self, command: Command, effect: Effect | Outcome) -> Rejected | None:
        """Decide a command that came of an effect, and what follows from it. Returns its handler's refusal, if any.

        Raises:
            KeyboardInterrupt, SystemExit: as `run`.
            BaseException: it can't be decided; nothing of it is written.
        """
        try:
            told, _ = self._decide(command, _Place(effect.by, effect=effect.position))
        except _Stop as stopped:
            error = stopped.__cause__ or stopped
            self._rows.faults.append(self._fault(f"effect {effect.id}", type(command).__name__, error))
            raise error from error.__cause__
        if told is not None:
            self._rows.unheard.append((effect.id, told))
        self.run()
        return told

    def give_up(self, event: Event, entry: Entry) -> None:
        """A reaction that was owed can't go on with the next event that its own means today."""
        error = MillstreamError(f"the state was damaged before its turn came for {type(event).__name__}")
        self._park(event, _Place(entry.by, at=entry.position), error, self._commands)

    def take_owed(self, event: Event, entry: Entry, reaction: ReactionEntry) -> None:
        """A reaction that was owed waits."""
        self._waiting.append(_Waiting(event, _Place(entry.by, at=entry.position), reaction))

    @property
    def is_over(self) -> bool:
        """Whether the state is damaged, so that nothing more may be decided."""
        return self._rows.is_damaged

    @property
    def _is_spent(self) -> bool:
        return self._commands >= self._limits.cascade_commands_max or self._size_bytes >= self._limits.cascade_bytes_max

    def _require_unspent(self, more: int = 0) -> None:
        """See that what follows may grow by so many bytes, and by a command.

        Raises:
            _Stop: it may not.
        """
        if self._commands >= self._limits.cascade_commands_max:
            raise _Stop from LimitReached("cascade_commands_max", self._limits.cascade_commands_max)
        if self._size_bytes + more > self._limits.cascade_bytes_max:
            raise _Stop from LimitReached("cascade_bytes_max", self._limits.cascade_bytes_max)

    def _follow(self, event: Event, place: _Place, reaction: ReactionEntry) -> bool:
        """Let one reaction run to its end. Returns False if it failed, and is parked."""
        before = self._commands
        try:
            self._steps(event, place, reaction)
        except INTERRUPTS:
            raise
        except BaseException as raised:  # noqa: BLE001 - it is parked with what it raised
            error = raised.__cause__ or raised if isinstance(raised, _Stop) else raised
            if isinstance(error, ImpureHandler | ApplyFailed):
                self._rows.is_damaged = True
            self._rows.faults.append(self._fault(reaction.method.place, type(event).__name__, error))
            self._park(event, place, error, self._commands - before)
            return False
        return True

    def _steps(self, event: Event, place: _Place, reaction: ReactionEntry) -> None:
        """Run a reaction, and decide each command when it is yielded.

        Raises:
            _Stop: it can't go on.
            BaseException: whatever it raised.
        """
        state, look = self._state, self._state.look
        key = state.effects[type(event)][1](event)
        failures, before = 0, look()
        made: Any = iter(reaction.method.function(state.reacting(reaction.model, key), event))
        go_on: Callable[[], Any] = lambda: next(made)  # noqa: E731
        while True:
            try:
                command = go_on()
            except StopIteration:
                _require_same(before, look(), reaction, event)
                return
            except INTERRUPTS:
                raise
            except BaseException:
                _require_same(before, look(), reaction, event)
                raise
            _require_same(before, look(), reaction, event)
            if failures >= self._limits.cascade_commands_max:
                raise LimitReached("cascade_commands_max", self._limits.cascade_commands_max)
            try:
                is_asking = type(command) is Asking
                told, answer = None, None
                if isinstance(command, Schedule | Unschedule):
                    self._time(command, place, key)
                else:
                    told, answer = self._decide(command.command if is_asking else command, place)
            except MillstreamError as error:
                failures += 1
                if not hasattr(made, "throw"):
                    raise
                go_on = _throwing(made, error)
            else:
                if is_asking and told is not None:
                    go_on = _throwing(made, told)
                else:
                    go_on = _sending(made, answer if is_asking else told)
            before = look()

    def _time(self, timing: Timing, place: _Place, key: str | None) -> None:
        """A timer that a reaction sets or calls off.

        Raises:
            _Stop: it is none, or more than may follow from one command.
        """
        self._require_unspent()
        state, rows = self._state, self._rows
        try:
            found = checked([timing], state.app, state.agenda, rows.clock, self._limits, place.by)
        except MillstreamError as error:
            raise _Stop from error
        self._require_unspent(size := timers_bytes(found, key, place.by))
        self._size_bytes += size
        self._commands += 1
        self._enter_timers(found, key, by=place.by, event=place.event, at=place.at)

    def _enter_timers(self, found: Sequence[Checked], key: str | None, **place: Any) -> None:
        enter_timers(found, self._rows, self._state, self._metadata, key, **place)

    def _decide(self, command: Command, place: _Place) -> tuple[Rejected | None, Any]:
        """Decide one command. Returns its handler's refusal, if it refused; else its answer.

        Raises:
            _Stop: it is none, or more than may follow from one command; or the state is damaged.
            HandlerFailed, CommitTooLarge, AnswerTooLarge: as for a caller's. The state stays as it was.
        """
        state, rows = self._state, self._rows
        try:
            command = state.app.own_command(command)
            handler, wants_context, tag, key_of, is_keyed, promise = state.handlers[type(command)]
            key = key_of(command)
        except MillstreamError as error:
            raise _Stop from error
        self._require_unspent(self._bytes_of(place, key, ()))  # so much of it is said where it is refused, too
        yielded: list[Event] = []
        scope = UNSET if place.timer is None or place.scope == key else place.scope
        origin = Origin(len(rows.sheet.types), *place[:4], scope, place.effect)
        applied: Sequence[Event] = ()
        try:
            yielded += handler(command, self._context(origin, key)) if wants_context else handler(command)
            answer = state.answered.own if promise else None
            own, timings = apart(yielded)
            found = checked(timings, state.app, state.agenda, rows.clock, self._limits, tag) if timings else ()
            data = state.app.encode_events(list(own))
            events = state.app.read_events(data)
            if is_keyed:
                state.require_key(events, key)
            size = self._bytes_of(place, key, events) + len(data) + (timers_bytes(found, key) if found else 0)
            if size > self._limits.commit_bytes_max:
                raise CommitTooLarge(tag, size, self._limits.commit_bytes_max)
            self._require_unspent(size)
            if state.performed:
                require_owable(events, state, self._limits)
            applied = events
            for index, event in enumerate(applied):
                if type(event) in state.asked:
                    tell(event, index, state, rows, tag, self._metadata, origin=origin)
                state.effects[type(event)][0](event)
        except (_Stop, *INTERRUPTS):
            raise
        except BaseException as error:  # noqa: BLE001 - sorted into typed refusals; none is lost
            failed = state.apply_failed(applied, event, rows.position, error) if applied else error
            refusal = state.refusal(command, yielded, failed)
            if not isinstance(refusal, Rejected):
                if isinstance(refusal, ApplyFailed | ImpureHandler):
                    rows.is_damaged = True
                    raise _Stop from refusal
                place_of = state.app.commands[type(command)].method.place
                rows.faults.append(self._fault(place_of, tag, refusal.__cause__ or refusal))
                raise refusal from refusal.__cause__
            self._enter(tag, key, (), None, origin)
            refused = Refused(origin.command, cut(refusal.code), cut(refusal.message))
            rows.sheet.add(refused)
            self._size_bytes += self._bytes_of(place, key, ()) + len(encode(refused))
            return refusal, None
        self._enter(tag, key, events, data, origin)
        self._size_bytes += size
        if found:
            self._enter_timers(found, key, command=origin.command)
        self.take(events)
        return None, answer

    def _bytes_of(self, place: _Place, key: str | None, events: Sequence[Event]) -> int:
        """What the commit says of a command beside its events, and where reactions to these are owed."""
        sizes = self._state.sizes
        named = text_bytes(place.by) + text_bytes(place.timer) + text_bytes(place.scope) + text_bytes(key)
        size = sizes.command + _ORIGIN_BYTES + named + self._metadata_bytes + len(events) * PLACE_BYTES_MAX
        return size + sizes.owed_by(events, may_owe=self._may_owe)

    def _fault(self, place: str, message: str, error: BaseException) -> Fault:
        return Fault(place, message, error, self._metadata.correlation)

    def _enter(self, tag: str, key: str | None, events: Sequence[Event], data: bytes | None, origin: Origin) -> None:
        self._commands += 1
        rows = self._rows
        enter(tag, key, events, data, self._state, rows)
        rows.sheet.note_metadata(self._metadata)
        rows.sheet.add(origin)
        if self._state.performed:
            owe(events, rows, self._state, self._metadata)

    def _context(self, origin: Origin, key: str | None) -> Context:
        told, caused = self._metadata, origin.causation(self._rows.start)
        extra = None if told.extra is None else dict(told.extra)
        metadata = Metadata(told.actor, told.correlation, caused, told.trace, extra)
        return Context(self._rows.now, None, metadata, self._state.version_of(key))

    def _park(self, event: Event, place: _Place, error: BaseException, decided: int) -> None:
        self.parked += 1
        kind, text = told_of(error)
        failed = Failed(kind, text, place.by, place.event, place.at, decided)
        self._rows.sheet.add(failed)
        self._size_bytes += len(encode(failed))
        self._state.agenda.enter(self._entry(event, place, kind, text, decided))

    def _leave(self, left: _Waiting) -> None:
        """One that had not begun."""
        if not self._may_owe and not self._rows.is_damaged:
            spent = LimitReached("cascade_commands_max", self._limits.cascade_commands_max)
            self._park(left.event, left.place, spent, 0)
            return
        assert left.place.event is not None
        self._rows.sheet.add(Owed(left.place.event, left.place.by))
        self._rows.owes = True
        self._state.agenda.enter(self._entry(left.event, left.place))

    def _entry(self, event: Event, place: _Place, error: str = "", text: str = "", decided: int = 0) -> Entry:
        if place.event is None:
            known = self._state.agenda.owed[place.at or 0, place.by]
            return replace(known, error=error, text=text, decided=decided)
        position = self._rows.start + 1 + place.event
        return Entry(position, place.by, encode(event).decode(), self._metadata, error, text, decided)


def decide_owed(state: WriteState, rows: Rows, limits: Limits) -> None:
    """Decide what is owed, in order, until nothing is, the rows are full, or the state is damaged.

    Args:
        state: is changed by the events.
        rows: gets what is to be written.
        limits: as for a `Cascade`; and ``batch_commands_max`` and ``batch_bytes_max``.
    """
    for entry, reaction in state.due():
        if rows.is_damaged or rows.owes or rows.is_full_of(limits):
            return
        if rows.closes_for(following(limits), state, limits):
            return
        cascade = Cascade(state, rows, limits, entry.metadata, may_owe=False)
        how = "void"
        for event in _events_of(entry, reaction, state):
            if cascade.is_over:
                cascade.give_up(event, entry)
                break
            how = "done"
            cascade.take_owed(event, entry, reaction)
            cascade.run()
            if entry.name not in state.agenda.owed:
                break  # it failed, and is parked: a retry begins with the first event again
        if entry.name in state.agenda.owed:
            settled = settled_of(entry.name, how)
            rows.sheet.add(settled)
            state.agenda.settle(settled, rows.number)


def fire(timer: Timer, state: WriteState, rows: Rows, limits: Limits) -> None:
    """Decide the command of a timer that is due, and what follows from it.

    Args:
        timer: it is on the agenda, and no longer afterwards; or it is parked there.
        state: is changed by the events.
        rows: gets what is to be written.
        limits: as for a `Cascade`.
    """
    Cascade(state, rows, limits, timer.metadata).fire(timer)


def conclude(
    commands: Sequence[Command], effect: Effect | Outcome, state: WriteState, rows: Rows, limits: Limits
) -> tuple[bool, int]:
    """Decide the commands that came of an effect, one after another, each with what follows from it.

    One that can't be decided is parked, with those after it: our fault is no reason to do anything outside again.

    Args:
        commands: checked copies.
        effect: it is not on the agenda any more.
        state: is changed by the events.
        rows: gets what is to be written.
        limits: as for a `Cascade`.

    Returns:
        Whether one was refused; and how many things were parked.

    Raises:
        KeyboardInterrupt, SystemExit: user code raised it. The rows and the state must not be used any more.
    """
    is_refused, cascade = False, Cascade(state, rows, limits, effect.metadata)
    for index, command in enumerate(commands):
        try:
            if rows.is_damaged:
                raise MillstreamError("the state was damaged before its turn came")
            is_refused |= cascade.send(command, effect) is not None
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - it is parked with what it raised
            kind, text = told_of(error)
            what = [state.app.encode_command(each).decode() for each in commands[index:]]
            left = Outcome(effect.position, effect.by, tuple(what), effect.key, effect.metadata, kind, text)
            rows.sheet.add(left.failed())
            state.agenda.enter(left)
            return is_refused, cascade.parked + 1
    return is_refused, cascade.parked


def _events_of(entry: Entry, reaction: ReactionEntry, state: WriteState) -> Iterator[Event]:
    """What an entry's event means today, as far as its reaction takes it."""
    for event in state.app.today(entry.event.encode()):
        if reaction in state.effects[type(event)][3]:
            yield event


def _require_same(before: bytes, after: bytes, reaction: ReactionEntry, event: Event) -> None:
    """See that a reaction has changed nothing between two of its steps.

    Raises:
        ImpureHandler: it has.
    """
    if before != after:
        raise ImpureHandler(reaction.method.place, type(event).__name__)


def _sending(made: Any, told: Any) -> Callable[[], Any]:
    if told is None or not hasattr(made, "send"):
        return lambda: next(made)
    return lambda: made.send(told)


def _throwing(made: Any, error: MillstreamError) -> Callable[[], Any]:
    return lambda: made.throw(error)
