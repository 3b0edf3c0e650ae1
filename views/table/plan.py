"""What a class says of its table, checked: key, indexes, and which of them serves which question.

Here: names of fields, when the class is made. Not here: any row, and any index that holds one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import msgspec

from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError
from millstream.views.table.rows import RowType, is_text, order_of, row_type

__all__ = ["OrderedPlan", "Plan", "plan_of"]

_EXTRA = "pip install 'millstream[tables]'"


class OrderedPlan(msgspec.Struct, frozen=True):
    """One ordered index: its fields, and those of its entries, which end with the key."""

    fields: tuple[str, ...]
    entry: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """A table: its rows and what finds them."""

    #: The class's name, which errors and cursors name.
    view: str
    place: str
    row: RowType
    key: str
    hashed: tuple[tuple[str, ...], ...]
    ordered: tuple[OrderedPlan, ...]
    text: tuple[str, ...]

    def finder(self, names: Iterable[str]) -> tuple[bool, int, tuple[str, ...]]:
        """Which index finds rows that are equal in these fields: whether it is an ordered one, which, and its fields.

        Raises:
            DefinitionError: the rows have no such field, or no index begins with these.
        """
        asked = frozenset(names)
        for number, fields in enumerate(self.hashed):
            if asked == frozenset(fields):
                return False, number, fields
        for number, each in enumerate(self.ordered):
            if asked == frozenset(each.fields[: len(asked)]):
                return True, number, each.fields[: len(asked)]
        self.require_fields(sorted(asked))
        wanted = _shown((tuple(sorted(asked)),))
        raise DefinitionError(
            f"no index finds rows by {' and '.join(sorted(asked)) or 'nothing'}: add {wanted} to indexes; there are "
            f"{_shown(self.hashed)} in indexes, {_shown([each.fields for each in self.ordered])} in ordered",
            self.place,
        )

    def order(self, by: tuple[str, ...], where: Iterable[str]) -> tuple[int, tuple[str, ...]]:
        """Which ordered index gives rows in the order of ``by``, where some fields are equal; and those in its order.

        Raises:
            DefinitionError: the rows have no such field, or no ordered index does.
        """
        asked = frozenset(where)
        size = len(asked)
        for number, each in enumerate(self.ordered):
            if by and asked == frozenset(each.fields[:size]) and each.entry[size : size + len(by)] == by:
                return number, each.entry[:size]
        self.require_fields([*sorted(asked), *by])
        given = f" where {', '.join(sorted(asked))} is given" if asked else ""
        there = _shown([each.fields for each in self.ordered])
        raise DefinitionError(
            f"no ordered index gives rows by {', '.join(by) or 'nothing'}{given}: add "
            f"{_shown(((*sorted(asked), *by),))} to ordered; there are {there}",
            self.place,
        )

    def require_fields(self, names: Iterable[str]) -> None:
        """See that the rows have these fields.

        Raises:
            DefinitionError: one is missing; names those that there are.
        """
        for name in names:
            _require_field(name, self.row, self.place)


def plan_of(view: type, row: Any, says: Mapping[str, Any], *, kind: str = "TableView", in_memory: bool = True) -> Plan:
    """Read what a class says.

    Args:
        view: the class.
        row: the class of its rows.
        says: its class attributes ``key``, ``indexes``, ``ordered`` and ``text``; a key that it does not say is None.
        kind: what such a class is called in errors.
        in_memory: whether its indexes are ours, so that what is ordered needs the extra.

    Raises:
        DefinitionError: a name is none of a field of the rows, is named twice, or its values can't do what is asked; or
            an ordered index or text needs the extra ``tables``. Names the class, the field, and the fields there are.
    """
    place, rows = place_of(view), row_type(row, place_of(view), kind)
    key = says["key"]
    if not isinstance(key, str):
        raise DefinitionError(
            f'a {kind} says which field of its rows is the key: key: ClassVar = "…"; {_fields_of(rows)}', place
        )
    _require_field(key, rows, place)
    _require_order(key, rows, "key", place)
    hashed = _indexes("indexes", says["indexes"], rows, place)
    ordered = _indexes("ordered", says["ordered"], rows, place)
    text = tuple(name for names in _indexes("text", says["text"], rows, place) for name in names)
    _require_different("indexes", map(frozenset, hashed), place)
    _require_different("ordered", ordered, place)
    if (key,) in hashed:
        raise DefinitionError(f"{key!r} is the key, by which rows are found anyway: leave it out of indexes", place)
    for name in (name for names in ordered for name in names):
        _require_order(name, rows, "ordered", place)
    for name in text:
        if not is_text(rows.fields[name]):
            raise DefinitionError(f"text is over fields that are str, and {name!r} is {rows.hints[name]!r}", place)
    if in_memory and (ordered or text) and find_spec("sortedcontainers") is None:
        raise DefinitionError(f"{'ordered' if ordered else 'text'} needs the extra for tables: {_EXTRA}", place)
    plans = tuple(OrderedPlan(names, names if key in names[-1:] else (*names, key)) for names in ordered)
    return Plan(view.__name__, place, rows, key, hashed, plans, text)


def _indexes(what: str, said: Any, rows: RowType, place: str) -> tuple[tuple[str, ...], ...]:
    """What a class attribute names: fields, or, but for ``text``, tuples of fields."""
    if not isinstance(said, tuple | list):
        hint = f'; for one field write ("{said}",)' if isinstance(said, str) else ""
        raise DefinitionError(f"{what} is a tuple of names of fields, not {said!r}{hint}", place)
    found: list[tuple[str, ...]] = []
    for each in said:
        names = (each,) if isinstance(each, str) else each
        if not isinstance(names, tuple) or not names or (what == "text" and not isinstance(each, str)):
            raise DefinitionError(f"{what} names fields of {rows.cls.__name__}, and {each!r} is no name", place)
        for name in names:
            _require_field(name, rows, place)
        if len(set(names)) < len(names):
            raise DefinitionError(f"{what} names a field twice in {names!r}", place)
        found.append(names)
    return tuple(found)


def _require_different(what: str, indexes: Iterable[Iterable[str]], place: str) -> None:
    seen: list[Iterable[str]] = []
    for each in indexes:
        if each in seen:
            raise DefinitionError(f"{what} has the same index twice: over {', '.join(sorted(each))}", place)
        seen.append(each)


def _require_field(name: Any, rows: RowType, place: str) -> None:
    if name not in rows.fields:
        raise DefinitionError(f"{rows.cls.__name__} has no field {name!r}; {_fields_of(rows)}", place)


def _fields_of(rows: RowType) -> str:
    return f"{rows.cls.__name__} has {', '.join(rows.fields)}"


def _require_order(name: str, rows: RowType, what: str, place: str) -> None:
    if order_of(rows.fields[name]) is None:
        raise DefinitionError(
            f"{what} needs values that can be ordered, and {name!r} of {rows.cls.__name__} is {rows.hints[name]!r}: "
            "use numbers, texts, times, or tuples of those, and a value that sorts where None would stand",
            place,
        )


def _shown(indexes: Sequence[Sequence[str]]) -> str:
    return ", ".join(repr(each[0]) if len(each) == 1 else repr(tuple(each)) for each in indexes) or "none"
