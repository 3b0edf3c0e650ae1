"""The write side's pure core: a state, and batches of commands decided on it one after another.

Here: plain functions and values, no loop, no I/O. Not here: when a batch is decided and what becomes of it (`writer`).

Invariants: each command is decided on the state that the one before it left; a command that is refused leaves no trace;
an event is checked before it is applied; the state moves only in `WriteState.apply`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from msgspec import Raw

from millstream.engine.app import App, CommandEntry
from millstream.engine.clock import elapsed
from millstream.engine.codec import encode, problem_with
from millstream.engine.commit import Head, Record
from millstream.engine.errors import (
    ApplyFailed,
    CommandIdReused,
    CommitTooLarge,
    DeadlineExceeded,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    MillstreamError,
    Rejected,
    UnknownMessage,
    VersionConflict,
)
from millstream.engine.ledger import LEDGER_FINGERPRINT, Ledger
from millstream.engine.limits import Limits
from millstream.engine.marks import LEDGER, model_part
from millstream.engine.messages import Command, Context, Event, Metadata, Receipt
from millstream.engine.purity import fingerprint
from millstream.engine.sides import WriteSide
from millstream.engine.snapshots import Part, fingerprint_of
from millstream.engine.terms import Deadline, Terms

__all__ = ["Draft", "Envelope", "Promise", "WriteState", "fill"]


class Promise(Protocol):
    """What a command's outcome is given to, once: an asyncio.Future, or a place in an `execute_many`."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


#: A command on its way: who waits for it, the command, and its terms.
#: A plain tuple: a class of our own costs 0.12 µs more per command.
Envelope: TypeAlias = tuple[Promise, Command, Terms | None]

_AS_THEY_ARE = (Rejected, VersionConflict, CommandIdReused, CommitTooLarge, ImpureHandler, ApplyFailed)
_NOTHING = Metadata()


class WriteState:
    """The write side's whole state: the models and the ledger; and how to decide on it and change it.

    Args:
        app: the application.
        models: the models' states, in the application's order.
        ledger: versions and receipts at the same commit.
        check_purity: look at the state before and after each handler.
    """

    __slots__ = ("app", "effects", "handlers", "ledger", "models")

    def __init__(self, app: App, models: Sequence[WriteSide], ledger: Ledger, *, check_purity: bool = False) -> None:
        self.app = app
        self.models = models
        self.ledger = ledger
        bind = _watched if check_purity else _bound
        self.handlers = {
            command: (bind(self, entry), entry.method.wants_context, entry.tag, entry.key_of)
            for command, entry in app.commands.items()
        }
        #: By type of event: what applies it, and what its key is.
        self.effects = {
            event: (_all([method.function.__get__(models[index]) for index, method in entry.appliers]), entry.key_of)
            for event, entry in app.events.items()
        }

    @classmethod
    def new(cls, app: App, receipts_max: int, *, check_purity: bool = False) -> WriteState:
        """The state before the first event."""
        return cls(app, [model() for model in app.models], Ledger(receipts_max), check_purity=check_purity)

    def decide(self, command: Command, context: Context) -> list[Event]:
        """The events that ``command`` would yield on this state; the state stays as it is.

        Raises:
            Rejected: the handler said no.
            HandlerFailed: the handler failed, or yielded something that is not a valid event of this application.
        """
        handler, wants_context, _, _ = self.handlers[type(command)]
        yielded: list[Event] = []
        try:
            yielded += handler(command, context) if wants_context else handler(command)
            return self.app.read_events(encode(yielded))
        except Exception as error:  # noqa: BLE001 - sorted into a typed refusal
            refusal = self.refusal(command, yielded, error)
            raise refusal from refusal.__cause__

    def apply(self, events: Sequence[Event], position: int) -> None:
        """Change the state by events that follow ``position``.

        Raises:
            ApplyFailed: a model raised; the state is now unusable and must be rebuilt.
        """
        effects = self.effects
        try:
            for event in events:
                effects[type(event)][0](event)
        except Exception as error:
            raise self.apply_failed(events, event, position, error) from error

    def apply_to(self, model: int, events: Sequence[Event], position: int) -> None:
        """The same for one of the models only: in a recovery, the others may have these events already."""
        appliers = type(self.models[model]).__appliers__
        for event in events:
            method = appliers.get(type(event))
            if method is not None:
                try:
                    method.function(self.models[model], event)
                except Exception as error:
                    raise self.apply_failed(events, event, position, error) from error

    def apply_failed(self, events: Sequence[Event], event: Event, position: int, error: Exception) -> ApplyFailed:
        """What is raised when one of the events that follow ``position`` could not be applied."""
        places = ", ".join(method.place for _, method in self.app.events[type(event)].appliers)
        index = next(index for index, each in enumerate(events) if each is event)
        failed = ApplyFailed(places, type(event).__name__, position + index + 1, repr(error))
        failed.__cause__ = error
        return failed

    def parts(self, head: Head) -> list[Part]:
        """What there is to be snapshot, as it is at ``head``."""
        parts = [
            Part(model_part(type(model).__name__), fingerprint_of(type(model)), model, head) for model in self.models
        ]
        return [*parts, Part(LEDGER, LEDGER_FINGERPRINT, self.ledger, head)]

    def refusal(self, command: Command, yielded: Iterable[Any], error: Exception) -> MillstreamError:
        """What the caller hears when deciding failed with ``error`` after the handler had yielded so much."""
        if isinstance(error, _AS_THEY_ARE):
            return error
        cause, text = error, repr(error)
        for event in yielded:
            problem = problem_with(event, self.app.read_event)
            if problem is not None:
                cause = InvalidMessage(type(event).__name__, problem)
                if type(event) not in self.effects:
                    known = tuple(entry.tag for entry in self.app.events.values())
                    cause = UnknownMessage("event", type(event).__name__, self.app.name, known)
                text = f"it yielded a wrong event: {cause}"
                break
        failed = HandlerFailed(self.app.commands[type(command)].method.place, type(command).__name__, text)
        failed.__cause__ = cause
        return failed


def _all(appliers: list[Callable[[Any], None]]) -> Callable[[Any], None]:
    """One function that applies an event to every model that wants it."""
    if len(appliers) == 1:
        return appliers[0]

    def apply(event: Any) -> None:
        for each in appliers:
            each(event)

    return apply


def _bound(state: WriteState, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
    bound: Callable[..., Iterable[Event]] = entry.method.function.__get__(state.models[entry.model])
    return bound


def _watched(state: WriteState, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
    """The handler, with a look at the state before and after it."""
    handler = _bound(state, entry)

    def watched(*arguments: Any) -> list[Event]:
        before = fingerprint(state.models)
        try:
            return list(handler(*arguments))
        finally:
            if fingerprint(state.models) != before:
                raise ImpureHandler(entry.method.place, entry.tag)

    return watched


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
    handlers, effects, read, now, ledger = state.handlers, state.effects, state.app.read_events, draft.now, state.ledger
    versions = ledger.versions
    until = elapsed() + limits.slice_ms_max / 1e3
    while queue and draft.commands < limits.batch_commands_max and draft.size_bytes < limits.batch_bytes_max:
        envelope = queue.popleft()
        promise, command, terms = envelope
        if promise.done():  # cancelled or expired while it waited: it never executes
            draft.skipped.append(promise)
            continue
        if terms is not None and terms.deadline is not None and elapsed() > terms.deadline.at:
            promise.set_exception(_expired(command, terms.deadline))  # its timer is late, because the loop was busy
            continue
        draft.commands += 1
        handler, wants_context, tag, key_of = handlers[type(command)]
        yielded: list[Event] = []
        events: Sequence[Event] = ()
        try:
            if terms is not None and (before := ledger.look_back(terms, tag, key_of(command))) is not None:
                draft.unwritten.append((promise, before))
                continue
            yielded += handler(command, _context(now, terms)) if wants_context else handler(command)
            data = encode(yielded)
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
                version = ledger.count(key, keys, size)
            else:  # as `count` does, at half the time: most are like this
                versions[key] = version = versions.get(key, 0) + size
            draft.position = position = draft.position + size
            draft.size_bytes += len(data)
            draft.events += events
            draft.promises.append(promise)
            if terms is None:
                draft.records.append(Record(tag, key, None, None, None, None, None, offset, keys, Raw(data)))
                draft.receipts.append(Receipt(draft.number, position, size, None, version))
            else:
                draft.records.append(_record(tag, key, terms, offset, keys, data))
                receipt = Receipt(draft.number, position, size, terms.command_id, version)
                draft.receipts.append(receipt)
                if terms.command_id is not None:
                    ledger.remember(terms.command_id, terms.payload, receipt)
        if not draft.commands & 15 and elapsed() > until:
            return


def _context(now: datetime, terms: Terms | None) -> Context:
    return Context(now) if terms is None else Context(now, terms.command_id, terms.metadata or _NOTHING)


def _record(tag: str, key: str | None, terms: Terms, offset: int, keys: list[str | None] | None, data: bytes) -> Record:
    told, payload = terms.metadata or _NOTHING, terms.payload or None
    return Record(
        tag, key, terms.command_id, payload, told.actor, told.correlation, told.causation, offset, keys, Raw(data)
    )


def _expired(command: Command, deadline: Deadline) -> DeadlineExceeded:
    return DeadlineExceeded(type(command).__name__, deadline.timeout_seconds, decided=False)
