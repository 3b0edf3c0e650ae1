"""Questions to a table of rows: which rows, in which order, from where on.

Here: from the arguments of a question to a statement. Not here: executing it (`table`), and which index serves it
(`views.table.plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Select, and_, false, func, literal, select, tuple_

from millstream.engine.errors import InvalidMessage
from millstream.views.sql.row_steps import WORD_CHARS
from millstream.views.sql.shape import Shape
from millstream.views.table.text import words_of

__all__ = ["Stretch", "counted", "equal_to", "found", "searched", "stretch_of"]

#: Above every letter, and none itself.
_BEYOND = "\U0010ffff"
_WORDS_MAX = 1_000
_INT_BOUND = 2**63


class Stretch(NamedTuple):
    """Rows that are equal in some fields, and between bounds in others."""

    #: Which ordered index gives them.
    number: int
    #: By what they are ordered, up to the key.
    order: tuple[str, ...]
    #: What is true of each.
    conditions: tuple[ColumnElement[bool], ...]
    #: All that says which these are, for cursors.
    query: tuple[Any, ...]


def equal_to(shape: Shape, equal: Mapping[str, object]) -> tuple[ColumnElement[bool], ...]:
    """That rows have these values.

    Raises:
        DefinitionError: the rows have no such field, or no index is over these; names what there is.
    """
    if equal.keys() != {shape.plan.key}:
        shape.plan.finder(equal)
    return tuple(_is(shape, name, value) for name, value in equal.items())


def stretch_of(
    shape: Shape,
    by: str | tuple[str, ...],
    where: Mapping[str, object] | None,
    bounds: Mapping[str, object],
) -> Stretch:
    """Rows in the order of some fields.

    Args:
        shape: the table's.
        by: the fields that they are in the order of.
        where: what is equal in all of them.
        bounds: ``low``, ``above``, ``high`` and ``below``, as `TableView.between` has them.

    Raises:
        DefinitionError: no ordered index gives that.
        TypeError: bounds contradict each other.
    """
    low, above, high, below = (bounds[name] for name in ("low", "above", "high", "below"))
    if (low is not None and above is not None) or (high is not None and below is not None):
        raise TypeError("of low and above one is given, and of high and below")
    names, where = (by,) if isinstance(by, str) else by, where or {}
    number, equal = shape.plan.order(names, where)
    conditions = [_is(shape, name, where[name]) for name in equal]
    given = [_bound(by, each) for each in (low, above, high, below)]
    for sign, values in zip((">=", ">", "<=", "<"), given, strict=True):
        if values:
            conditions.append(_beside(shape, sign, names[: len(values)], values))
    prefix = tuple(where[name] for name in equal)
    order = shape.plan.ordered[number].entry[len(equal) :]
    return Stretch(number, order, tuple(conditions), (names, equal, prefix, *given))


def found(
    shape: Shape,
    conditions: Sequence[ColumnElement[bool]],
    order: Sequence[str],
    *,
    descending: bool = False,
    limit: int | None = None,
    after: Sequence[Any] | None = None,
) -> Select[Any]:
    """The rows of which all conditions are true, in an order.

    Args:
        shape: the table's.
        conditions: what is true of them.
        order: by which fields; the last one is the key.
        descending: from the greatest to the least.
        limit: how many at most.
        after: the values of those fields in the row after which they begin.
    """
    columns = [shape.table.c[name] for name in order]
    wanted = list(conditions)
    if after is not None:
        wanted.append(_beside(shape, "<" if descending else ">", order, after))
    return (
        select(shape.table)
        .where(and_(True, *wanted))
        .order_by(*(each.desc() if descending else each.asc() for each in columns))
        .limit(limit)
    )


def counted(shape: Shape, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """How many there are."""
    return select(func.count()).select_from(shape.table).where(and_(True, *conditions))


def searched(shape: Shape, text: str, limit: int) -> Select[Any] | None:
    """Rows that have all words of a text, of which the last may be the beginning of one; None where it has no word.

    Raises:
        InvalidMessage: it has too many.
    """
    *whole, beginning = [each[:WORD_CHARS] for each in words_of(text)] or [""]
    words, different = shape.words, set(whole)
    if not beginning or words is None:
        return None
    if len(different) > _WORDS_MAX:
        raise InvalidMessage("text", f"it has more than {_WORDS_MAX:,} words to search for")
    key, of = words.c.key, words.c.word
    having = [shape.key.in_(select(key).where(and_(of >= beginning, of < beginning + _BEYOND)))]
    if different:  # each word of a row is there once
        all_of_them = select(key).where(of.in_(sorted(different))).group_by(key)
        having.append(shape.key.in_(all_of_them.having(func.count() == len(different))))
    return found(shape, having, (shape.plan.key,), limit=limit)


def _is(shape: Shape, name: str, value: object) -> ColumnElement[bool]:
    column = shape.table.c[name]
    if isinstance(value, int) and not -_INT_BOUND <= value < _INT_BOUND:
        return false()  # which no column holds
    return column.is_(None) if value is None else column == value


def _beside(shape: Shape, sign: str, names: Sequence[str], values: Sequence[Any]) -> ColumnElement[bool]:
    columns = [shape.table.c[name] for name in names]
    if len(columns) == 1:
        return cast(ColumnElement[bool], columns[0].op(sign, is_comparison=True)(literal(values[0], columns[0].type)))
    those = tuple_(*(literal(value, column.type) for column, value in zip(columns, values, strict=True)))
    return cast(ColumnElement[bool], tuple_(*columns).op(sign, is_comparison=True)(those))


def _bound(by: str | tuple[str, ...], given: object) -> tuple[Any, ...] | None:
    """The first values after those that are equal, from what bounds them."""
    if given is None:
        return None
    if isinstance(by, str):
        return (given,)
    if not isinstance(given, tuple) or len(given) > len(by):
        raise TypeError(f"where by is {by!r}, a bound is a tuple of the first values of these, and not {given!r}")
    return given
