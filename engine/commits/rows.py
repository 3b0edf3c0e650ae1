"""A commit's body as it was written until 0.1: format 1, an array with one object per command. Read for ever.

    [{"type": "Deposit", "key": "ann", "events": [{"type": "Deposited", "account": "ann", "amount": 10}]}]

Today's form is in `columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from millstream.engine.application.validation import encode, union_of
from millstream.engine.commits.record import Failed, Origin, Owed, Record, Settled, Tenure, Timed

__all__ = ["RowBody", "row_reader", "rows_of"]

E = TypeVar("E")


class RowBody(Generic[E]):
    """The `Body` of such a commit."""

    __slots__ = ("_records", "events", "has_ids")

    tenure: Tenure | None = None
    failed: Sequence[Failed] = ()
    owed: Sequence[Owed] = ()
    settled: Sequence[Settled] = ()
    timers: Sequence[Timed] = ()
    fired: Sequence[Origin] = ()
    needs: Sequence[str] = ()
    owes: Mapping[str, Sequence[str]] = {}

    def __init__(self, records: list[Record[E]]) -> None:
        self._records = records
        self.events = [event for record in records for event in record.events]
        self.has_ids = any(record.id is not None for record in records)

    def event_keys(self) -> Sequence[str | None]:
        """The key of each event, as the record says it."""
        keys: list[str | None] = []
        for record in self._records:
            keys += [record.key] * len(record.events) if record.keys is None else record.keys
        return keys

    def event_text(self, index: int) -> str:
        """The JSON of an event. No commit of this format has anything to do with one alone."""
        return encode(self.events[index]).decode()

    def event_texts(self) -> Sequence[str]:
        """The same of all events."""
        return [encode(event).decode() for event in self.events]

    def records(self) -> Iterator[Record[E]]:
        """As they are stored."""
        return iter(self._records)


def row_reader(events: Sequence[type[Any]]) -> Callable[[bytes], RowBody[Any]]:
    """The function that reads such a body, its events checked against ``events``; raises msgspec.DecodeError."""
    read = msgspec.json.Decoder(list[Record[union_of(events)]]).decode  # type: ignore[misc]

    def checked(body: bytes) -> RowBody[Any]:
        records = read(body)
        for record in records:
            if record.keys is not None and len(record.keys) != len(record.events):
                raise msgspec.ValidationError(f"{len(record.keys):,} `keys` for {len(record.events):,} events")
        return RowBody(records)

    return checked


class _Row(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """A command as it was written, its members in their order."""

    type: str
    key: str | None = None
    id: str | None = None
    payload: str | None = None
    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    offset: int = 0
    keys: list[str | None] | None = None
    events: list[Any]


def rows_of(records: Iterable[Record[Any]]) -> bytes:
    """A body of format 1 that holds these commands, without what that format has no place for."""
    members = _Row.__struct_fields__
    return encode([_Row(**{name: getattr(record, name) for name in members}) for record in records])
