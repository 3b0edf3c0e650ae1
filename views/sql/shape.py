"""The shape of a table whose rows are Structs: its columns, and the few statements that change it.

Here: what follows from a class of rows, its key and its indexes. Not here: questions (`selecting`), and what an event
does (`row_steps`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import Column, Delete, Executable, Index, Insert, MetaData, Select, Table, Text, bindparam
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import select as select_from
from sqlalchemy.dialects import postgresql, sqlite

from millstream.engine.errors import DefinitionError
from millstream.views.sql.columns import ColumnKind, column_kind
from millstream.views.table.plan import Plan

__all__ = ["Shape", "shape_of", "table_name"]


class Shape:
    """One table: how rows become values, and values rows.

    Args:
        plan: what its class says.
        kinds: of the columns, by field.
        metadata: where the table belongs.
    """

    def __init__(self, plan: Plan, kinds: Mapping[str, ColumnKind], metadata: MetaData) -> None:
        name = table_name(plan.view)
        self.plan = plan
        columns = [kind.column(field, is_key=field == plan.key) for field, kind in kinds.items()]
        self.table = Table(name, metadata, *columns)
        self.key: Column[Any] = self.table.c[plan.key]
        indexes = [*plan.hashed, *(each.entry for each in plan.ordered if each.entry != (plan.key,))]
        for number, fields in enumerate(indexes):
            Index(f"{name}_{number}", *(self.table.c[field] for field in fields))
        self.words = _words(name, metadata, self.key) if plan.text else None
        self.key_of: Callable[[Any], Any] = attrgetter(plan.key)
        self._checks = [(field, kind.check) for field, kind in kinds.items() if kind.check is not None]
        self._upserts: dict[str, Executable] = {}
        self.gone: Delete = delete_from(self.table).where(self.key == bindparam("of", type_=self.key.type))
        self.some: Select[Any] = select_from(self.table).where(self.key.in_(bindparam("keys", expanding=True)))
        if self.words is not None:
            of_key = self.words.c.key == bindparam("of", type_=self.key.type)
            self.words_gone: Delete = delete_from(self.words).where(of_key)
            self.words_come: Insert = insert_into(self.words)

    def require_row(self, row: Any) -> Any:
        """A row's key, if it is a row that can be stored.

        Raises:
            TypeError: it is of another class, or a time has no zone where it should, or one where it should not.
            ValueError: a number is NaN.
        """
        cls = self.plan.row.cls
        if type(row) is not cls:
            raise TypeError(f"the rows of {self.plan.view} are {cls.__name__}, and this is a {type(row).__name__}")
        for field, check in self._checks:
            try:
                check(getattr(row, field))
            except (TypeError, ValueError) as error:
                raise type(error)(f"{field} of row {self.key_of(row)!r} {error}") from None
        return self.key_of(row)

    def upsert(self, dialect: str) -> Executable:
        """What keeps a row, in place of the one with its key."""
        found = self._upserts.get(dialect)
        if found is None:
            found = self._upserts[dialect] = self._made(dialect)
        return found

    def rows(self, found: Iterable[Any]) -> tuple[Any, ...]:
        """Rows of the database as rows of the class."""
        cls, fields = self.plan.row.cls, tuple(self.plan.row.fields)
        return tuple(cls(**dict(zip(fields, each, strict=True))) for each in found)

    def values(self, row: Any) -> dict[str, Any]:
        """What a row's columns hold."""
        return msgspec.structs.asdict(row)

    def _made(self, dialect: str) -> Executable:
        insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect](self.table)
        others = {name: insert.excluded[name] for name in self.plan.row.fields if name != self.plan.key}
        made: Executable = (
            insert.on_conflict_do_update(index_elements=[self.key], set_=others)
            if others
            else insert.on_conflict_do_nothing(index_elements=[self.key])
        )
        return made


def shape_of(plan: Plan, metadata: MetaData) -> Shape:
    """Make a table.

    Raises:
        DefinitionError: a key, or a field of an index, has values that a database finds otherwise than Python does.
    """
    kinds = {name: column_kind(kind, plan.row.hints[name]) for name, kind in plan.row.fields.items()}
    used = {plan.key: "key"} | {name: "indexes" for names in plan.hashed for name in names}
    used |= {name: "ordered" for each in plan.ordered for name in each.fields}
    for name, what in used.items():
        if not kinds[name].is_found:
            raise DefinitionError(
                f"{what} needs values that a database finds and orders as Python does, and {name!r} of "
                f"{plan.row.cls.__name__} is {plan.row.hints[name]!r}: use numbers but Decimal, texts, bytes, "
                "times, or enums of these",
                plan.place,
            )
    return Shape(plan, kinds, metadata)


def table_name(view: str) -> str:
    """What a view's table is called: ``free_seats`` for ``FreeSeats``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", view).lower().strip("_")


def _words(name: str, metadata: MetaData, key: Column[Any]) -> Table:
    word = Text().with_variant(Text(collation="C"), "postgresql")
    return Table(
        f"{name}_words",
        metadata,
        Column("word", word, primary_key=True),
        Column("key", key.type, primary_key=True, index=True),
    )
