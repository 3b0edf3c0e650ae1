"""The write side's core: batches of commands, decided one after another on the write state.

Here: no loop, no I/O; but `fill` looks at the clock, and tells those whose time is over. Not here: the state itself
(`state`); when a batch is decided, and what becomes of it (`writer`).

Invariants: each command is decided on the state that the one before it left; a command that is refused leaves no trace;
an event is checked before it is applied. `fill` applies events itself, as `WriteState.apply` does for a replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

from msgspec import Raw

from millstream.engine.application.messages import Command, Context, Event, Metadata, Receipt
from millstream.engine.application.options import Deadline, Options
from millstream.engine.commits.commit import Head, Record
from millstream.engine.errors import (
    ApplyFailed,
    CommitTooLarge,
    DeadlineExceeded,
    ImpureHandler,
    MillstreamError,
)
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.write.envelope import Envelope, Promise
from millstream.engine.write.state import WriteState

__all__ = ["Draft", "fill"]


_NOTHING = Metadata()


class Draft:
    """A commit in the making: what was decided since the last one, and who waits for it."""

    __slots__ = (
        "commands",
        "damaged",
        "events",
        "now",
        "number",
        "position",
        "promises",
        "receipts",
        "records",
        "size_bytes",
        "skipped",
        "start",
        "unwritten",
    )

    def __init__(self, head: Head, now: datetime) -> None:
        self.number = head.number + 1
        self.start = head.position
        #: That of the last event so far.
        self.position = head.position
        self.now = now
        self.commands = 0
        self.size_bytes = 0
        self.records: list[Record] = []
        self.events: list[Event] = []
        self.promises: list[Promise] = []
        self.receipts: list[Receipt] = []
        #: Outcomes that write nothing, and depend on what was decided before: refusals, and receipts given once more.
        self.unwritten: list[tuple[Promise, MillstreamError | Receipt]] = []
        #: Those who had given up when their turn came.
        self.skipped: list[Promise] = []
        #: The state was damaged while deciding: what the draft holds stands, and the state must be rebuilt.
        self.damaged = False

    def is_full(self, limits: Limits) -> bool:
        """Whether the draft has to be written before it takes more."""
        return self.damaged or self.commands >= limits.batch_commands_max or self.size_bytes >= limits.batch_bytes_max


def fill(draft: Draft, queue: deque[Envelope], state: WriteState, limits: Limits) -> None:
    """Decide waiting commands into the draft until it is full, none waits, or ``slice_ms_max`` is over.

    Args:
        draft: gets the records, events, receipts and refusals.
        queue: commands in order; those that were decided, cancelled or expired are taken from it.
        state: is changed by the events.
        limits: ``batch_commands_max``, ``batch_bytes_max``, ``commit_bytes_max`` and ``slice_ms_max`` are honoured.
    """
    handlers, effects, read, now, index = state.handlers, state.effects, state.app.read_events, draft.now, state.index
    versions, encode_events = index.versions, state.app.encode_events
    until = elapsed() + limits.slice_ms_max / 1e3
    while queue and draft.commands < limits.batch_commands_max and draft.size_bytes < limits.batch_bytes_max:
        envelope = queue.popleft()
        promise, command, options = envelope
        if promise.done():  # cancelled or expired while it waited: it never executes
            draft.skipped.append(promise)
            continue
        if options is not None and options.deadline is not None and elapsed() > options.deadline.at:
            promise.set_exception(_expired(command, options.deadline))  # its timer is late, because the loop was busy
            continue
        draft.commands += 1
        handler, wants_context, tag, key_of = handlers[type(command)]
        yielded: list[Event] = []
        events: Sequence[Event] = ()
        try:
            if options is not None and (before := index.look_back(options, tag, key_of(command))) is not None:
                draft.unwritten.append((promise, before))
                continue
            yielded += handler(command, _context(now, options)) if wants_context else handler(command)
            data = encode_events(yielded)
            if len(data) > limits.commit_bytes_max:
                raise CommitTooLarge(tag, len(data), limits.commit_bytes_max)
            events, key, alike, keys = read(data), key_of(command), True, None
            for event in events:  # as `WriteState.apply` does, with a look at the key: a call less per command
                apply, event_key_of = effects[type(event)]
                apply(event)
                if event_key_of(event) != key:
                    alike = False
        except Exception as error:  # noqa: BLE001 - sorted into typed refusals; none is lost
            failed = state.apply_failed(events, event, draft.position, error) if events else error
            draft.unwritten.append((promise, state.refusal(command, yielded, failed)))
            if isinstance(failed, ApplyFailed | ImpureHandler):
                draft.damaged = True
                return
        except BaseException:
            queue.appendleft(envelope)  # the writer is being stopped: whoever stops it answers what is queued
            raise
        else:
            offset, size = draft.position - draft.start, len(events)
            if not alike or key is None or not size:
                keys = None if alike else [effects[type(event)][1](event) for event in events]
                version = index.count(key, keys, size)
            else:  # as `count` does, at half the time: most are like this
                versions[key] = version = versions.get(key, 0) + size
            draft.position = position = draft.position + size
            draft.size_bytes += len(data)
            draft.events += events
            draft.promises.append(promise)
            if options is None:
                draft.records.append(Record(tag, key, None, None, None, None, None, offset, keys, Raw(data)))
                draft.receipts.append(Receipt(draft.number, position, size, None, version))
            else:
                draft.records.append(_record(tag, key, options, offset, keys, data))
                receipt = Receipt(draft.number, position, size, options.command_id, version)
                draft.receipts.append(receipt)
                if options.command_id is not None:
                    index.remember(options.command_id, options.payload, receipt)
        if not draft.commands & 15 and elapsed() > until:
            return


def _context(now: datetime, options: Options | None) -> Context:
    return Context(now) if options is None else Context(now, options.command_id, options.metadata or _NOTHING)


def _record(
    tag: str, key: str | None, options: Options, offset: int, keys: list[str | None] | None, data: bytes
) -> Record:
    given, payload = options.metadata or _NOTHING, options.payload or None
    return Record(
        tag, key, options.command_id, payload, given.actor, given.correlation, given.causation, offset, keys, Raw(data)
    )


def _expired(command: Command, deadline: Deadline) -> DeadlineExceeded:
    return DeadlineExceeded(type(command).__name__, deadline.timeout_seconds, decided=False)
