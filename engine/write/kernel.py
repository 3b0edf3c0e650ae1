"""The write side's kernel: commands in, rows out.

Here: how commands are decided one after another on the write state. It sees no promise, no queue, no clock and no loop:
the same commands on the same state give the same rows. Not here: the state itself (`state`); whose turn it is, and when
a batch ends (`batch`).

Invariants: each command is decided on the state that the one before it left; a command that is refused leaves no trace;
an event is checked before it is applied, and that it fits in the commit, with what may follow from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec.structs import replace

from millstream.engine.application.doors import BACKSLASH
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Context, Event, Metadata, Receipt
from millstream.engine.application.options import Terms
from millstream.engine.application.promises import Given
from millstream.engine.errors import ApplyFailed, CommitTooLarge, ImpureHandler, LimitReached
from millstream.engine.limits import Limits
from millstream.engine.write.cascade import Cascade
from millstream.engine.write.index import WriteIndex
from millstream.engine.write.refusals import decided_at
from millstream.engine.write.room import GIVEN_BYTES_MAX, PLACE_BYTES_MAX, SHORT_KEY_CHARS
from millstream.engine.write.rows import Rows, enter, enter_timers, owe, require_owable, tell
from millstream.engine.write.state import WriteState
from millstream.engine.write.timing import Checked, apart, checked

__all__ = ["decide"]

_NOTHING = Metadata()

#: Whose it is, a command, and what its caller has said beside it.
_Asked: TypeAlias = tuple[object, Command, Terms | None]
#: A command's events as a replay will see them; as JSON, if they had to be written for that; and its timers.
_Read: TypeAlias = tuple[Sequence[Event], bytes | None, Sequence[Checked]]


def decide(commands: Iterable[_Asked], state: WriteState, rows: Rows, limits: Limits, kept: int = 0) -> None:
    """Decide commands in order, until there are no more, the rows are full, or the state is damaged.

    A command that does not fit beside what stands in the rows closes them, and has no outcome.

    Args:
        commands: checked copies. What stands before each is the caller's own, and not looked at.
        state: is changed by the events, as a replay of them would change it.
        rows: gets an outcome for each command that was decided, and what is to be written of those that were accepted.
        limits: ``commit_bytes_max`` bounds the rows, and at ``batch_bytes_max`` they are full.
        kept: so many bytes are to be left of the former for those that come after one that needs many.

    Raises:
        KeyboardInterrupt, SystemExit: user code raised it. The command has no row; the state must not be used any more.
    """
    handlers, effects, yields, index, now = state.handlers, state.effects, state.yields, state.index, rows.now
    versions, version_of, known = index.versions, index.versions.get, index.kept
    types, happened, outcomes, number = rows.sheet.types, rows.events, rows.outcomes, rows.number
    few, position, asked = _few_of(state, limits), rows.position, state.asked
    for _, command, terms in commands:
        handler, wants_context, tag, key_of, is_keyed, promise = handlers[type(command)]
        yielded: list[Event] = []
        events: Sequence[Event] = ()
        try:
            if (
                terms is not None
                and (terms.command_id in known or terms.expected_version is not None)
                and (before := index.look_back(terms, tag, key_of(command), promise))
            ):
                outcomes.append(before)
                continue
            key = key_of(command)
            yielded += handler(command, _context(now, terms, state, key)) if wants_context else handler(command)
            if len(yielded) == 1 and few and key is not None and promise is None:
                event = yielded[0]
                apply, _, check, reactions = yields[type(event)]
                if check(event) == key and not reactions:  # most are like this
                    events = yielded
                    apply(event)
                    position += 1
                    versions[key] = version = version_of(key, 0) + 1
                    happened.append(event)
                    types.append(tag)
                    if terms is None:
                        outcomes.append(Receipt(number, position, 1, None, version))
                    else:
                        _note(terms, rows)
                        _finish(terms, Receipt(number, position, 1, terms.command_id, version), index, rows)
                    continue
            found = _as_read(yielded, state, few, rows, limits, tag, key if is_keyed else False)
            if not _fits(found, tag, key, state, rows, limits, state.answered.data if promise else None):
                return
            events = found[0]
            for place, event in enumerate(events):
                if type(event) in asked:
                    _tell(event, place, tag, terms, state, rows)
                effects[type(event)][0](event)
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - sorted into typed refusals; none is lost
            failed = state.apply_failed(events, event, rows.position, error) if events else error
            _refuse(command, yielded, failed, terms, state, rows)
            if rows.is_damaged:
                return
            continue
        _enter(tag, key, terms, found, state, rows, limits, state.answered if promise else None)
        position = rows.position
        if _is_over(state, rows, limits, kept):
            return
    rows.pack()


def _is_over(state: WriteState, rows: Rows, limits: Limits, kept: int) -> bool:
    """Whether nothing more is to be decided, or another look at the room is due."""
    if rows.is_damaged or rows.owes or rows.is_full_of(limits):
        return True
    return kept > 0 and rows.sheet.entries_bytes > 0 and rows.room(state, limits) < kept


def _few_of(state: WriteState, limits: Limits) -> int:
    """So many events that pass their check are few enough bytes, without a look at what they have."""
    room = limits.commit_bytes_max - state.sizes.once - state.sizes.command - GIVEN_BYTES_MAX
    return max(0, room // (state.exact_bytes_max + PLACE_BYTES_MAX))


def _fits(
    read: _Read, tag: str, key: str | None, state: WriteState, rows: Rows, limits: Limits, answer: bytes | None
) -> bool:
    """See that a command, with what may follow from it, fits beside what stands in the rows; else these are closed.

    Raises:
        CommitTooLarge: it does not fit in a commit by itself.
        LimitReached: it does not fit on the agenda.
    """
    events, chunk, timings = read
    if state.performed or state.agenda.unsettled >= limits.agenda_entries_max:
        _require_agenda_room(events, state, limits)
    size = len(events) * state.exact_bytes_max if chunk is None else len(chunk)
    if not timings and answer is None and (key is None or len(key) <= SHORT_KEY_CHARS):
        # Most are like this: `fill` has seen to it that there is room for a whole batch of them.
        may_follow = state.sizes.owed and any(type(event) in state.sizes.owed for event in events)
        if not may_follow and rows.size_bytes + size <= limits.batch_bytes_max:
            return True
    room = rows.room(state, limits)
    needed = state.bytes_needed(events, size, timings, key, limits, answer)
    if needed > room and chunk is None:
        size = len(state.app.encode_events(list(events)))
        needed = state.bytes_needed(events, size, timings, key, limits, answer)
    if needed <= room:
        return True
    if (alone := needed + state.sizes.once) > limits.commit_bytes_max:
        raise CommitTooLarge(tag, alone, limits.commit_bytes_max)
    rows.is_closed = True
    return False


def _as_read(
    yielded: list[Any],
    state: WriteState,
    few: int,
    rows: Rows,
    limits: Limits,
    tag: str,
    own: str | Literal[False] | None,
) -> _Read:
    """What a command came to.

    Args:
        yielded: by its handler.
        state: knows their types.
        few: so many of those that pass their check are few enough bytes.
        rows: what timers count from.
        limits: ``timers_max`` is honoured.
        tag: the command's.
        own: the key that all of them must have; False if they may have any.

    Raises:
        CommitTooLarge: its timers' commands are too many bytes.
        Exception: one is no event of this application, not what its class declares, or not of that key.
    """
    yields, data = state.yields, None
    events: Sequence[Event] = yielded
    timings: Sequence[Checked] = ()
    if len(yielded) > few or False in [yields[type(event)][2](event) for event in yielded]:
        events, found = apart(yielded)
        if found:
            timings = checked(found, state.app, state.agenda, rows.clock, limits, tag)
        data = state.app.encode_events(list(events))
        events = (state.app.read_events if BACKSLASH in data else state.app.read_plain_events)(data)
    if own is not False:
        state.require_key(events, own)
    return events, data, timings


def _refuse(
    command: Command,
    yielded: Sequence[Any],
    failed: BaseException,
    terms: Terms | None,
    state: WriteState,
    rows: Rows,
) -> None:
    """A command does not stand: its caller gets why. Where it has changed the state, nothing more may be decided."""
    refusal = decided_at(state.refusal(command, yielded, failed), rows.position)
    rows.refuse(refusal, None if terms is None else terms.metadata)
    rows.is_damaged = isinstance(failed, ApplyFailed | ImpureHandler)


def _require_agenda_room(events: Sequence[Event], state: WriteState, limits: Limits) -> None:
    """See that the agenda has room for what these events may lead to.

    Raises:
        LimitReached: it has not, and they have reactions or effects.
    """
    if state.performed:
        require_owable(events, state, limits)
    if state.agenda.unsettled < limits.agenda_entries_max:
        return
    if any(state.yields[type(event)][3] for event in events):
        raise LimitReached("agenda_entries_max", limits.agenda_entries_max)


def _enter(
    tag: str,
    key: str | None,
    terms: Terms | None,
    read: _Read,
    state: WriteState,
    rows: Rows,
    limits: Limits,
    given: Given | None,
) -> None:
    """A command stands: what follows from it is decided, and it gets its receipt."""
    events, chunk, timings = read
    if not events and not timings and (terms is None or terms.command_id is None):
        rows.outcomes.append(_with(rows.nothing(state.version_of(key)), given))
        return
    version, parked = enter(tag, key, events, chunk, state, rows), 0
    position, command_id = rows.position, None if terms is None else terms.command_id
    if terms is not None:
        _note(terms, rows)
        if command_id is not None and given is not None and given.data is not None:
            rows.note_answer(given.data)
    if state.performed:
        owe(events, rows, state, None if terms is None else terms.metadata)
    if timings:
        told = _NOTHING if terms is None or terms.metadata is None else terms.metadata
        enter_timers(timings, rows, state, told, key, command=len(rows.sheet.types) - 1)
    if any(state.effects[type(event)][3] for event in events):
        cascade = Cascade(state, rows, limits, None if terms is None else terms.metadata)
        cascade.take(events)
        cascade.run()
        version, parked = state.version_of(key), cascade.parked
    receipt: Receipt = Receipt(rows.number, position, len(events), command_id, version, False, parked)
    _finish(terms, receipt, state.index, rows, given)


def _tell(event: Event, place: int, tag: str, terms: Terms | None, state: WriteState, rows: Rows) -> None:
    if terms is None:
        tell(event, place, state, rows, tag)
    else:
        tell(event, place, state, rows, tag, terms.metadata, command_id=terms.command_id)


def _with(receipt: Receipt, given: Given | None) -> Receipt:
    return receipt if given is None or given.own is None else replace(receipt, answer=given.own)


def _finish(terms: Terms | None, receipt: Receipt, index: WriteIndex, rows: Rows, given: Given | None = None) -> None:
    """A command is done, and what followed from it: its receipt, also for when it comes again."""
    rows.outcomes.append(_with(receipt, given))
    if terms is not None and terms.command_id is not None:
        metadata = terms.metadata
        actor = None if metadata is None else metadata.actor
        index.remember(terms.command_id, terms.payload, receipt, actor, None if given is None else given.data)


def _note(terms: Terms, rows: Rows) -> None:
    """What a command's caller gave with it, for the commit."""
    if terms.metadata is not None:
        rows.sheet.note_metadata(terms.metadata)
    if terms.command_id is not None:
        rows.sheet.note_id(terms.command_id, terms.payload)


def _context(now: datetime, terms: Terms | None, state: WriteState, key: str | None) -> Context:
    version = state.version_of(key)
    if terms is None:
        return Context(now, None, _NOTHING, version)
    metadata = terms.metadata or _NOTHING
    if metadata.extra is not None:  # the handler's own, as a dict can be changed
        metadata = replace(metadata, extra=dict(metadata.extra))
    return Context(now, terms.command_id, metadata, version)
