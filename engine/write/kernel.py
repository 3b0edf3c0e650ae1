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
from typing import Literal, TypeAlias

from msgspec.structs import replace

from millstream.engine.application.app import App
from millstream.engine.application.doors import BACKSLASH
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Context, Event, Metadata, Receipt
from millstream.engine.application.options import Terms
from millstream.engine.application.validation import encode
from millstream.engine.commits.columns import Sheet
from millstream.engine.commits.commit import Head
from millstream.engine.commits.record import Tenure
from millstream.engine.errors import ApplyFailed, CommitTooLarge, ImpureHandler, MillstreamError
from millstream.engine.limits import Limits
from millstream.engine.write.index import WriteIndex
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
        "_chunks",
        "_encoded",
        "events",
        "is_damaged",
        "now",
        "number",
        "outcomes",
        "refused",
        "sheet",
        "size_bytes",
        "start",
    )

    def __init__(self, head: Head, now: datetime) -> None:
        self.number = head.number + 1
        self.start = head.position
        self.now = now
        #: Of the events that are encoded.
        self.size_bytes = 0
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
        self._chunks: list[bytes] = []
        self._encoded = 0

    @property
    def position(self) -> int:
        """That of the last event so far."""
        return self.start + len(self.events)

    @property
    def accepted(self) -> int:
        """How many commands stand in it."""
        return len(self.sheet.types)

    def nothing(self, version: int | None) -> Receipt:
        """The receipt of a command that writes nothing: it names the commit on whose state it was decided.

        Args:
            version: that of its key.
        """
        return Receipt(self.number if self.accepted else self.number - 1, self.position, 0, None, version)

    def add(self, events: Sequence[Event], chunk: bytes | None = None) -> None:
        """The events of one command.

        Args:
            events: in order.
            chunk: the same, if somebody has encoded them. Those of a command that has but one wait for others'.
        """
        if chunk is not None:
            self.pack()
        self.events += events
        if chunk is not None or len(events) > 1:
            self.pack(chunk)

    def pack(self, chunk: bytes | None = None) -> None:
        """Encode the events that are not encoded yet.

        Args:
            chunk: these events, if somebody has encoded them.
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
        return self.sheet.body(self._chunks, dict(sorted(key.items())), tenure)


def decide(
    commands: Iterable[tuple[object, Command, Terms | None]], state: WriteState, rows: Rows, limits: Limits
) -> None:
    """Decide commands in order, until there are no more, the rows are full, or the state is damaged.

    Args:
        commands: checked copies. What stands before each is the caller's own, and not looked at.
        state: is changed by the events, as a replay of them would change it.
        rows: gets an outcome for each command that was decided, and what is to be written of those that were accepted.
        limits: ``commit_bytes_max`` bounds the events of one command; at ``batch_bytes_max`` the rows are full.

    Raises:
        KeyboardInterrupt, SystemExit: user code raised it. The command has no row; the state must not be used any more.
    """
    handlers, effects, index, now = state.handlers, state.effects, state.index, rows.now
    versions, version_of, known = index.versions, index.versions.get, index.kept
    types, happened, outcomes, number = rows.sheet.types, rows.events, rows.outcomes, rows.number
    few, position = limits.commit_bytes_max // state.exact_bytes_max, rows.position
    for _, command, terms in commands:
        handler, wants_context, tag, key_of, is_keyed = handlers[type(command)]
        yielded: list[Event] = []
        events: Sequence[Event] = ()
        try:
            if (
                terms is not None
                and (terms.command_id in known or terms.expected_version is not None)
                and (before := index.look_back(terms, tag, key_of(command)))
            ):
                outcomes.append(before)
                continue
            key = key_of(command)
            yielded += handler(command, _context(now, terms, state, key)) if wants_context else handler(command)
            if len(yielded) == 1 and few and key is not None:
                event = yielded[0]
                apply, _, check = effects[type(event)]
                if check(event) == key:  # most are like this
                    events = yielded
                    apply(event)
                    position += 1
                    versions[key] = version = version_of(key, 0) + 1
                    happened.append(event)
                    types.append(tag)
                    if terms is None:
                        outcomes.append(Receipt(number, position, 1, None, version))
                    else:
                        _note(terms, Receipt(number, position, 1, terms.command_id, version), index, rows)
                    continue
            events, chunk = _as_read(yielded, state, few, limits, tag, key if is_keyed else False)
            for event in events:
                effects[type(event)][0](event)
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
        _enter(tag, key, terms, events, chunk, state, rows)
        position = rows.position
        if rows.size_bytes >= limits.batch_bytes_max:
            return
    rows.pack()


def _as_read(
    yielded: list[Event], state: WriteState, few: int, limits: Limits, tag: str, own: str | Literal[False] | None
) -> tuple[Sequence[Event], bytes | None]:
    """A command's events as a replay will see them; and as JSON, if they had to be written for that.

    Args:
        yielded: by its handler.
        state: knows their types.
        few: so many of those that pass their check are few enough bytes.
        limits: ``commit_bytes_max`` bounds them.
        tag: the command's.
        own: the key that all of them must have; False if they may have any.

    Raises:
        CommitTooLarge: they are too many bytes.
        Exception: one is no event of this application, not what its class declares, or not of that key.
    """
    effects, events, data = state.effects, yielded, None
    if len(yielded) > few or False in [effects[type(event)][2](event) for event in yielded]:
        data = state.app.encode_events(yielded)
        if len(data) > limits.commit_bytes_max:
            raise CommitTooLarge(tag, len(data), limits.commit_bytes_max)
        events = (state.app.read_events if BACKSLASH in data else state.app.read_plain_events)(data)
    if own is not False:
        state.require_key(events, own)
    return events, data


def _enter(
    tag: str,
    key: str | None,
    terms: Terms | None,
    events: Sequence[Event],
    chunk: bytes | None,
    state: WriteState,
    rows: Rows,
) -> None:
    """A command stands: count its events, note what its caller told of it, and give it its receipt."""
    if not events and (terms is None or terms.command_id is None):
        rows.outcomes.append(rows.nothing(state.version_of(key)))
        return
    rows.add(events, chunk)
    index, sheet, size = state.index, rows.sheet, len(events)
    keys = [state.effects[type(event)][1](event) for event in events]
    version = index.count(key, None if keys.count(key) == size else keys, size)
    sheet.types.append(tag)
    if size != 1:
        sheet.note("counts", size, 1)
    if key != (keys[0] if keys else None):
        sheet.note("keys", False if key is None else key)
    if terms is None:
        rows.outcomes.append(Receipt(rows.number, rows.position, size, None, version))
        return
    _note(terms, Receipt(rows.number, rows.position, size, terms.command_id, version), index, rows)


def _note(terms: Terms, receipt: Receipt, index: WriteIndex, rows: Rows) -> None:
    """What a command's caller told of it; and its receipt, for when it comes again."""
    command_id, metadata = terms.command_id, terms.metadata
    rows.outcomes.append(receipt)
    if metadata is not None:
        rows.sheet.note_metadata(metadata)
    if command_id is not None:
        rows.sheet.note_id(command_id, terms.payload)
        index.remember(command_id, terms.payload, receipt, None if metadata is None else metadata.actor)


def _context(now: datetime, terms: Terms | None, state: WriteState, key: str | None) -> Context:
    version = state.version_of(key)
    if terms is None:
        return Context(now, None, _NOTHING, version)
    metadata = terms.metadata or _NOTHING
    if metadata.extra is not None:  # the handler's own, as a dict can be changed
        metadata = replace(metadata, extra=dict(metadata.extra))
    return Context(now, terms.command_id, metadata, version)
