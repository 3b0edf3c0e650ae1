"""What the values of a type can be like: whether they nest without end, hide a NaN, or can be changed.

Here: questions about types, asked once, when an `App` or a class is made. Not here: any value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, get_origin

from msgspec import inspect

__all__ = ["ClassKind", "can_change", "hides_nan", "hiding_fields", "kind_of", "nests", "parts_of", "reached"]

#: The types that have fields.
ClassKind: TypeAlias = inspect.StructType | inspect.DataclassType | inspect.NamedTupleType | inspect.TypedDictType

_CHANGING = (
    inspect.AnyType,
    inspect.ByteArrayType,
    inspect.CustomType,
    inspect.DictType,
    inspect.ListType,
    inspect.SetType,
    inspect.TypedDictType,
)
_ANYTHING = (inspect.AnyType, inspect.RawType, inspect.CustomType)


def kind_of(annotation: Any) -> inspect.Type:
    """A type as msgspec describes it. Where it can't describe it, all that is known is that it is a type: `Any`.

    Encoding or decoding such a type raises there.
    """
    try:
        return inspect.type_info(annotation)
    except Exception:  # noqa: BLE001 - a name that can't be resolved, a type that msgspec refuses: all the same here
        return inspect.AnyType()


def parts_of(kind: inspect.Type) -> list[inspect.Type]:
    """The types that a type is made of: of its fields, its items, its members."""
    values = [getattr(kind, name) for name in kind.__struct_fields__]
    flat = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    flat = [each.type if isinstance(each, inspect.Field) else each for each in flat]
    return [each for each in flat if isinstance(each, inspect.Type)]


def reached(kind: inspect.Type, seen: set[Any] | None = None) -> Iterator[inspect.Type]:
    """A type and all that it is made of, all the way down; each class once."""
    seen = set() if seen is None else seen
    if isinstance(kind, ClassKind):
        if kind.cls in seen:
            return
        seen.add(kind.cls)
    yield kind
    for each in parts_of(kind):
        yield from reached(each, seen)


def nests(kind: inspect.Type) -> bool:
    """Whether a value can hold values in values without end: it holds an `Any`, or what holds itself."""
    return any(isinstance(each, _ANYTHING) for each in reached(kind)) or _comes_back(kind, ())


def _comes_back(kind: inspect.Type, inside: tuple[Any, ...]) -> bool:
    if isinstance(kind, ClassKind):
        if kind.cls in inside:
            return True
        inside = (*inside, kind.cls)
    return any(_comes_back(each, inside) for each in parts_of(kind))


def can_change(kind: inspect.Type) -> bool:
    """Whether a value may change, or hold what may: a list, a dict, a set, or of a class without ``frozen=True``."""
    return any(map(_changes, reached(kind)))


def _changes(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.StructType | inspect.DataclassType):
        cls = get_origin(kind.cls) or kind.cls
        config = getattr(cls, "__struct_config__", None) or getattr(cls, "__dataclass_params__", None)
        return not (config is not None and config.frozen)
    return isinstance(kind, _CHANGING)


def hides_nan(kind: inspect.Type) -> bool:
    """Whether a NaN or an infinity, which JSON writes as null, can be read back as None."""
    return any(
        isinstance(each, _ANYTHING) or (isinstance(each, inspect.UnionType) and _is_number_or_none(each))
        for each in reached(kind)
    )


def hiding_fields(kind: inspect.Type) -> tuple[str, ...]:
    """The fields of a Struct in which a NaN could hide."""
    if not isinstance(kind, inspect.StructType):
        return ()
    return tuple(field.name for field in kind.fields if hides_nan(field.type))


def _is_number_or_none(kind: inspect.UnionType) -> bool:
    members = {type(each.type if isinstance(each, inspect.Metadata) else each) for each in kind.types}
    return {inspect.FloatType, inspect.NoneType} <= members
