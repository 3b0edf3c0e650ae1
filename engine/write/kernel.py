"""The write side's kernel: commands in, rows out.

Here: how commands are decided one after another on the write state. It sees no promise, no queue, no clock and no loop:
the same commands on the same state give the same rows. Not here: the state itself (`state`); whose turn it is, and when
a batch ends (`batch`).

Invariants: each command is decided on the state that the one before it left; a command that is refused leaves no trace;
an event is checked before it is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias

from msgspec import Raw

from millstream.engine.application.doors import BACKSLASH
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Context, Event, Metadata, Receipt
from millstream.engine.application.options import Terms
from millstream.engine.commits.commit import Head, Record
from millstream.engine.errors import ApplyFailed, CommitTooLarge, ImpureHandler, MillstreamError
from millstream.engine.limits import Limits
from millstream.engine.write.refusals import decided_at
from millstream.engine.write.state import WriteState

__all__ = ["Outcome", "Rows", "decide"]

Outcome: TypeAlias = Receipt | MillstreamError

_NOTHING = Metadata()


class Rows:
    """What commands came to: the next commit in the making, and an outcome for each command.

    Args:
        head: the commit that it follows.
        now: when its commands are decided, for the record.
    """

    __slots__ = (
        "events",
        "is_damaged",
        "now",
        "number",
        "outcomes",
        "position",
        "records",
        "refused",
        "size_bytes",
        "start",
    )

    def __init__(self, head: Head, now: datetime) -> None:
        self.number = head.number + 1
        self.start = head.position
        #: That of the last event so far.
        self.position = head.position
        self.now = now
        self.size_bytes = 0
        #: One for each command that was accepted.
        self.records: list[Record] = []
        self.events: list[Event] = []
        #: One for each command, in order: a receipt of this commit; one that is ``repeated``; or a refusal. The latter
        #: two write nothing, and stand or fall with what was decided before.
        self.outcomes: list[Outcome] = []
        #: How many are refusals.
        self.refused = 0
        #: The last command has damaged the state: what was decided before stands, and the state must be made anew.
        self.is_damaged = False


def decide(
    commands: Iterable[tuple[object, Command, Terms | None]], state: WriteState, rows: Rows, limits: Limits
) -> None:
    """Decide commands in order, until there are no more, the rows are full, or the state is damaged.

    Args:
        commands: checked copies. What stands before each is the caller's own, and not looked at.
        state: is changed by the events, as a replay of them would change it.
        rows: gets an outcome for each command that was decided, and the records and events of those that were accepted.
        limits: ``commit_bytes_max`` bounds the events of one command; at ``batch_bytes_max`` the rows are full.

    Raises:
        KeyboardInterrupt, SystemExit: a handler or an applier raised it. The command has no row, and the state must not
            be used any more.
    """
    app, index, now = state.app, state.index, rows.now
    handlers, effects, versions = state.handlers, state.effects, index.versions
    encode_events, read, read_with_care = app.encode_events, app.read_plain_events, app.read_events
    outcomes, number, start = rows.outcomes, rows.number, rows.start
    commit_bytes_max, bytes_max = limits.commit_bytes_max, limits.batch_bytes_max
    for _, command, terms in commands:
        handler, wants_context, tag, key_of = handlers[type(command)]
        yielded: list[Event] = []
        events: Sequence[Event] = ()
        try:
            if terms is not None and (before := index.look_back(terms, tag, key_of(command))) is not None:
                outcomes.append(before)
                continue
            yielded += handler(command, _context(now, terms)) if wants_context else handler(command)
            data = encode_events(yielded)
            if len(data) > commit_bytes_max:
                raise CommitTooLarge(tag, len(data), commit_bytes_max)
            events = read_with_care(data) if BACKSLASH in data else read(data)
            key, alike, keys = key_of(command), True, None
            for event in events:
                apply, event_key_of = effects[type(event)]
                apply(event)
                if event_key_of(event) != key:
                    alike = False
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - sorted into typed refusals; none is lost
            failed = state.apply_failed(events, event, rows.position, error) if events else error
            outcomes.append(decided_at(state.refusal(command, yielded, failed), rows.position))
            rows.refused += 1
            if isinstance(failed, ApplyFailed | ImpureHandler):
                rows.is_damaged = True
                return
            continue
        offset, size = rows.position - start, len(events)
        if not alike or key is None or not size:
            keys = None if alike else [effects[type(event)][1](event) for event in events]
            version = index.count(key, keys, size)
        else:  # as `count` does, at half the time: most are like this
            versions[key] = version = versions.get(key, 0) + size
        rows.position = position = rows.position + size
        rows.size_bytes += len(data)
        rows.events += events
        if terms is None:
            rows.records.append(Record(tag, key, None, None, None, None, None, offset, keys, Raw(data)))
            outcomes.append(Receipt(number, position, size, None, version))
        else:
            rows.records.append(_record(tag, key, terms, offset, keys, data))
            receipt = Receipt(number, position, size, terms.command_id, version)
            outcomes.append(receipt)
            if terms.command_id is not None:
                index.remember(terms.command_id, terms.payload, receipt)
        if rows.size_bytes >= bytes_max:
            return


def _context(now: datetime, terms: Terms | None) -> Context:
    return Context(now) if terms is None else Context(now, terms.command_id, terms.metadata or _NOTHING)


def _record(tag: str, key: str | None, terms: Terms, offset: int, keys: list[str | None] | None, data: bytes) -> Record:
    given, payload = terms.metadata or _NOTHING, terms.payload or None
    return Record(
        tag, key, terms.command_id, payload, given.actor, given.correlation, given.causation, offset, keys, Raw(data)
    )
