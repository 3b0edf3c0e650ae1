"""Columns for the fields of a row: what a value is in a database, and back again.

Here: types. Not here: any row (`shape`), and any table's name.

    a field                        SQLite                              PostgreSQL
    -------                        ------                              ----------
    bool, int, str, bytes          BOOLEAN, BIGINT, TEXT, BLOB         boolean, bigint, text in C's order, bytea
    float                          DOUBLE                              double precision
    datetime                       a text in UTC, all of one length    timestamp with time zone
    date, time, UUID               as SQLAlchemy has them              date, time, uuid
    timedelta                      microseconds                        the same
    Decimal                        a text                              the same
    an enum, a Literal             its value                           the same
    tuples, other Structs, unions  JSON, as a text                     json

What is in one of the last rows but enums has no order there, and equal values may differ in writing: nothing is found
by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import inspect
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    LargeBinary,
    Text,
    Time,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.types import TypeEngine

from millstream.views.table.rows import may_be_nan

__all__ = ["ColumnKind", "column_kind"]

_MICROSECOND = timedelta(microseconds=1)


class _Moment(TypeDecorator[datetime]):
    """A moment: in SQLite a text in UTC, whose order is that of the moments."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(UTC)


class _Duration(TypeDecorator[timedelta]):
    """A duration, in microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else value // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else timedelta(microseconds=value)


class _Exact(TypeDecorator[Decimal]):
    """A decimal number as a text, so that no digit is lost."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else Decimal(value)


class _Member(TypeDecorator[Any]):
    """A member of an enum, by its value."""

    impl = Text
    cache_ok = True

    def __init__(self, members: Any, are_numbers: bool) -> None:
        super().__init__()
        self.members = members
        self.are_numbers = are_numbers

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if self.are_numbers:
            return dialect.type_descriptor(BigInteger())
        return dialect.type_descriptor(Text(collation="C") if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value.value if isinstance(value, self.members) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self.members(value)


class _Hint:
    """An annotation, which may be nothing that can be hashed."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation


class _Json(TypeDecorator[Any]):
    """A value of any type, as JSON."""

    impl = Text
    cache_ok = True

    def __init__(self, hint: _Hint) -> None:
        super().__init__()
        self.hint = hint  # SQLAlchemy tells types apart by it

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(JSON(none_as_null=True) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        plain = msgspec.to_builtins(value, order="deterministic", str_keys=True)
        written = json.dumps(plain, allow_nan=False, ensure_ascii=False)  # a NaN would come back as something else
        return plain if dialect.name == "postgresql" else written

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        return msgspec.convert(
            json.loads(value) if dialect.name == "sqlite" else value, self.hint.annotation, str_keys=True
        )


def _text() -> TypeEngine[str]:
    return Text().with_variant(Text(collation="C"), "postgresql")


_PLAIN: dict[type[inspect.Type], Callable[[], TypeEngine[Any]]] = {
    inspect.BoolType: Boolean,
    inspect.IntType: BigInteger,
    inspect.FloatType: Double,
    inspect.StrType: _text,
    inspect.BytesType: LargeBinary,
    inspect.DateType: Date,
    inspect.TimeType: Time,
    inspect.TimeDeltaType: _Duration,
    inspect.UUIDType: Uuid,
}


class ColumnKind(msgspec.Struct, frozen=True):
    """What a field's column is."""

    type: Any
    is_nullable: bool
    #: Whether the database finds and orders its values as Python does.
    is_found: bool
    #: What raises where a value could be stored, and would come back as another one; None where there is no such value.
    check: Callable[[Any], None] | None = None

    def column(self, name: str, *, is_key: bool) -> Column[Any]:
        """A new column."""
        return Column(name, self.type, primary_key=is_key, nullable=self.is_nullable, autoincrement=False)


def column_kind(kind: inspect.Type, hint: Any) -> ColumnKind:
    """The column of a field.

    Args:
        kind: its type as msgspec describes it.
        hint: its annotation.
    """
    is_nullable = False
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        others = tuple(each for each in kind.types if not isinstance(each, inspect.NoneType))
        is_nullable = len(others) < len(kind.types)
        if len(others) == 1:
            found = column_kind(others[0], hint)
            return ColumnKind(found.type, is_nullable, found.is_found, found.check)
        return ColumnKind(_Json(_Hint(hint)), is_nullable, False)
    if isinstance(kind, inspect.DateTimeType):
        is_naive = kind.tz is False
        return ColumnKind(DateTime() if is_naive else _Moment(), False, True, _naive if is_naive else _aware)
    if isinstance(kind, inspect.TimeType):
        return ColumnKind(Time(), False, True, _naive)
    if isinstance(kind, inspect.DecimalType):
        return ColumnKind(_Exact(), False, False, _number)
    if isinstance(kind, inspect.EnumType):
        of = _of_values([member.value for member in kind.cls])
        if of is None:
            return ColumnKind(_Json(_Hint(hint)), any(member.value is None for member in kind.cls), False)
        return ColumnKind(_Member(kind.cls, isinstance(of, BigInteger)), False, True)
    if isinstance(kind, inspect.LiteralType):
        some = [each for each in kind.values if each is not None]
        of, is_nullable = _of_values(some), len(some) < len(kind.values)
        return ColumnKind(_Json(_Hint(hint)) if of is None else of, is_nullable, of is not None)
    plain = _PLAIN.get(type(kind))
    if plain is None:
        return ColumnKind(_Json(_Hint(hint)), False, False)
    if isinstance(kind, inspect.IntType):
        return ColumnKind(plain(), False, True, _whole)
    return ColumnKind(plain(), False, True, _number if may_be_nan(kind) else None)


def _of_values(values: list[Any]) -> TypeEngine[Any] | None:
    if all(isinstance(each, str) for each in values):
        return _text()
    return BigInteger() if all(type(each) is int for each in values) else None


def _number(value: Any) -> None:
    if value is not None and value != value:
        raise ValueError("is NaN, which SQLite takes for nothing: write None, or a number that says so")


def _whole(value: Any) -> None:
    if value is True or value is False:
        raise TypeError("is a bool, which PostgreSQL takes for no number: write 0 or 1")


def _aware(value: Any) -> None:
    if value is not None and value.tzinfo is None:
        raise TypeError("has no time zone: give it one, or annotate the field with Meta(tz=False)")


def _naive(value: datetime | time | None) -> None:
    if value is not None and value.tzinfo is not None:
        raise TypeError("has a time zone, and the field is one of times without")
