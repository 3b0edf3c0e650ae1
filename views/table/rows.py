"""What may be a row, and what a field's values can be used for: known by types, once, when a class is made.

Here: questions about types. Not here: any row, and any index.

    values of a field are         because
    ---------------------         -------
    immutable, all of them        a row is given out as it is, and an index would not see a change inside it
    hashable, all of them         what is immutable is
    orderable, of some types      numbers, texts, bytes, moments, ids, tuples of those; never what may be None
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from millstream.engine.application.kinds import can_change, reached
from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError

__all__ = ["RowType", "is_text", "may_be_nan", "order_of", "row_type"]

_NUMBERS = (inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.DecimalType)
_ALONE = (
    inspect.StrType,
    inspect.BytesType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
)
_NUMBER = "number"
_TEXT = "StrType"


class RowType(msgspec.Struct, frozen=True):
    """A class of rows: its fields as msgspec describes them, and as they are written."""

    cls: type[msgspec.Struct]
    fields: Mapping[str, inspect.Type]
    hints: Mapping[str, Any]


def row_type(cls: Any, place: str, kind: str = "TableView") -> RowType:
    """Read a class of rows.

    Args:
        cls: what stands in the brackets of ``TableView[…]``.
        place: the view's class, for errors.
        kind: what such a class is called.

    Raises:
        DefinitionError: it is no msgspec.Struct, is not frozen, compares by identity, or has a field that can change.
    """
    if not (isinstance(cls, type) and issubclass(cls, msgspec.Struct)):
        raise DefinitionError(f"the rows of a {kind} are of one class, a msgspec.Struct, not of {cls!r}", place)
    places = (place_of(cls), place)
    config = cls.__struct_config__
    if not config.frozen:
        raise DefinitionError(
            f"{cls.__name__} is a row, and is given out as it is: write class {cls.__name__}(msgspec.Struct, "
            "frozen=True)",
            *places,
        )
    if not config.eq:
        raise DefinitionError(
            f"rows are compared by what they hold: {cls.__name__} has eq=False, leave it out", *places
        )
    try:
        read, hints = inspect.type_info(cls), get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise DefinitionError(f"the fields of {cls.__name__} can't be read: {error}", *places) from error
    assert isinstance(read, inspect.StructType)
    fields = {field.name: field.type for field in read.fields}
    for name, each in fields.items():
        if can_change(each):
            raise DefinitionError(
                f"field {name!r} of {cls.__name__} is {hints[name]!r}, which can change, so no index would see it: "
                "write tuple[…, ...] for a list, frozenset for a set, a frozen class for a dict or another class",
                *places,
            )
    return RowType(cls, fields, hints)


def order_of(kind: inspect.Type) -> Hashable | None:
    """What a type's values are ordered among, equal for two types whose values can be compared. None: among nothing."""
    match kind:
        case inspect.Metadata():
            return order_of(kind.type)
        case inspect.EnumType():
            return _NUMBER if issubclass(kind.cls, int) else _TEXT if issubclass(kind.cls, str) else None
        case inspect.LiteralType():
            return _one_of([_NUMBER if isinstance(each, int) else _TEXT for each in kind.values])
        case inspect.UnionType():
            return _one_of([order_of(each) for each in kind.types])
        case inspect.VarTupleType():
            item = order_of(kind.item_type)
            return None if item is None else (item,)
        case inspect.TupleType():
            items = tuple(map(order_of, kind.item_types))
            return None if None in items else ("tuple", *items)
    if isinstance(kind, _NUMBERS):
        return _NUMBER
    return type(kind).__name__ if isinstance(kind, _ALONE) else None


def _one_of(orders: list[Hashable | None]) -> Hashable | None:
    return orders[0] if len(set(orders)) == 1 else None


def may_be_nan(kind: inspect.Type) -> bool:
    """Whether a value may be, or hold, a NaN: it is not equal to itself, and would never be found again."""
    return any(isinstance(each, inspect.FloatType | inspect.DecimalType) for each in reached(kind))


def is_text(kind: inspect.Type) -> bool:
    """Whether the values are texts, or None."""
    match kind:
        case inspect.Metadata():
            return is_text(kind.type)
        case inspect.UnionType():
            return all(isinstance(each, inspect.NoneType) or is_text(each) for each in kind.types)
    return isinstance(kind, inspect.StrType)
