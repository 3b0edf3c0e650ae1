"""One table twice: in memory and in SQL. They differ in their base class, and in that the one in SQL yields."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from millstream.engine import Event
from millstream.views import TableView, applies
from millstream.views.sql import SqlTable, Statement

__all__ = ["Changes", "Every", "Kind", "Level", "Nested", "Put", "SqlEvery", "SqlThings", "Thing", "Things", "rows_of"]


class Thing(msgspec.Struct, frozen=True):
    key: int
    kind: str = "a"
    size: float = 0.0
    note: str = ""
    owner: str | None = None
    seen: int = 0


class Changes(Event):
    """Things to put, keys whose row is seen once more, keys to remove, and whether the method raises in the end."""

    puts: tuple[Thing, ...]
    sees: tuple[int, ...]
    removes: tuple[int, ...]
    raises: bool


class Things(TableView[Thing]):
    key: ClassVar = "key"
    indexes: ClassVar = ("kind", "owner", ("kind", "size"))
    ordered: ClassVar = ("size", ("kind", "size"), "key", ("note", "size"))
    text: ClassVar = ("note", "kind")

    @applies
    def changed(self, event: Changes) -> None:
        for thing in event.puts:
            self.put(thing)
        for key in event.sees:
            new = Thing(key, note=str(key)) if key % 2 else None  # an even one that is not there raises
            self.change(key, lambda row, key=key: replace(row, seen=row.seen + key + 1), new)  # type: ignore[misc]
        for key in event.removes:
            self.remove(key)
        if event.raises:
            raise ValueError("boom")


class SqlThings(SqlTable[Thing]):
    key: ClassVar = "key"
    indexes: ClassVar = ("kind", "owner", ("kind", "size"))
    ordered: ClassVar = ("size", ("kind", "size"), "key", ("note", "size"))
    text: ClassVar = ("note", "kind")

    @applies
    def changed(self, event: Changes) -> Iterator[Statement]:
        for thing in event.puts:
            yield self.put(thing)
        for key in event.sees:
            new = Thing(key, note=str(key)) if key % 2 else None
            yield self.change(key, lambda row: replace(row, seen=row.seen + key + 1), new)  # noqa: B023 - as it is now
        for key in event.removes:
            yield self.remove(key)
        if event.raises:
            raise ValueError("boom")


class Kind(Enum):
    PLAIN = "plain"
    FANCY = "fancy"


class Level(IntEnum):
    LOW = 1
    HIGH = 10


class Nested(msgspec.Struct, frozen=True):
    name: str
    at: date


class Every(msgspec.Struct, frozen=True, kw_only=True):
    """A field of each type that a row may have."""

    key: UUID
    flag: bool = False
    whole: int = 0
    real: float = 0.0
    text: str = ""
    raw: bytes = b""
    moment: datetime
    local: Annotated[datetime, msgspec.Meta(tz=False)] | None = None
    day: date
    clock: time = time(1, 2, 3, 4)
    duration: timedelta = timedelta(0)
    exact: Decimal = Decimal(0)
    kind: Kind = Kind.PLAIN
    level: Level | None = None
    choice: Literal["x", "y"] = "x"
    parts: tuple[int, ...] = ()
    tags: frozenset[str] = frozenset()
    nested: Nested | None = None
    either: int | str | None = None


class Put(Event):
    row: Every


class SqlEvery(SqlTable[Every]):
    key: ClassVar = "key"
    indexes: ClassVar = ("flag", "kind", "level", "choice", "local")
    ordered: ClassVar = ("moment", "day", "clock", "duration", "raw", "real", ("text", "whole"))

    @applies
    def put_one(self, event: Put) -> Iterator[Statement]:
        yield self.put(event.row)


def rows_of(table: Any) -> list[Any]:
    return sorted(table.rows(), key=lambda row: row.key)
