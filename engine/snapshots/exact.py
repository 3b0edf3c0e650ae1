"""Whether a state is what its annotations say, so that it comes back from a snapshot as what it was.

MessagePack and msgspec keep values, not classes: a ``defaultdict`` in a field that says ``dict`` would come back as a
plain one, a tuple in an ``Any`` as a list, one object in two places as two. A state that goes on from there would not
be the one that a replay gives. So it is looked at before it is stored, and refused.

Here: the look, column by column: all values of one place at once, at 0.1 µs a value. It sees what reading back can't
show: classes, objects in two places, what stands beside the fields. Not here: reading back (`pieces`).

An object that is held in two places has more references than one that is held in one. So only those with more are
remembered, which in a state of one holder are none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import chain
from operator import attrgetter, itemgetter
from sys import getrefcount
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import inspect

from millstream.engine.application.kinds import can_change, reached
from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError

__all__ = ["Exact", "require_storable", "with_ints"]

_PLAIN: dict[type[inspect.Type], type] = {
    inspect.NoneType: type(None),
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.StrType: str,
    inspect.BytesType: bytes,
    inspect.ByteArrayType: bytearray,
    inspect.DateTimeType: datetime,
    inspect.DateType: date,
    inspect.TimeType: time,
    inspect.TimeDeltaType: timedelta,
    inspect.UUIDType: UUID,
    inspect.DecimalType: Decimal,
    inspect.ListType: list,
    inspect.SetType: set,
    inspect.FrozenSetType: frozenset,
    inspect.TupleType: tuple,
    inspect.VarTupleType: tuple,
    inspect.DictType: dict,
    inspect.TypedDictType: dict,
}
_Class: TypeAlias = inspect.StructType | inspect.DataclassType | inspect.NamedTupleType
_SAME_AS_JSON = {type(None), bool, int, float, str, bytes}

#: Types that are looked at by what they are made of.
_WRAPPERS = (inspect.Metadata, inspect.UnionType)
#: What may stand in many places, whatever type is declared there.
_ATOMS = (type(None), bool, int, float, str, bytes, date, time, timedelta, UUID, Decimal, Enum)
#: Those whose parts are looked into for floats.
_GENERIC = (dict, list, set, frozenset, tuple)
_COLLECTIONS = (dict, list, set, frozenset, tuple, deque)

_fold = attrgetter("fold")

_Values: TypeAlias = Sequence[Any]


class Exact:
    """A look at one state.

    Args:
        state: its type, as msgspec describes it.
    """

    def __init__(self, state: inspect.StructType) -> None:
        self._place = state.cls.__name__
        #: By type: whether a value that stands in two places is one that may change, or holds one.
        self._changing: dict[int, tuple[inspect.Type, bool]] = {}
        self._seen: set[int] = set()
        #: Whether the field that is looked at holds a time with another offset than 0.
        self._has_offsets = False
        #: How many classes are around what is looked at.
        self._inside = 0

    def begin(self, field: inspect.Field, value: Any) -> None:
        """See that what a field holds is held nowhere else. Before `look`, which may see copies of it.

        Raises:
            TypeError: it is, and can change.
        """
        self._field = field.name
        self._has_offsets = False
        if self._can_change(field.type):
            self._note([value])

    def look(self, field: inspect.Field, values: _Values, held: int = 0) -> bool:
        """See that what a field holds, or pieces of what it holds, is what the field's annotation says.

        Args:
            field: the field.
            values: what it holds, or copies of parts of it.
            held: how many references ``values`` have for what they hold, beside the state's: 1 if they are copies.

        Returns:
            Whether the field, as far as it was looked at, holds a time that is neither naive nor in UTC.

        Raises:
            TypeError: it is something else, and would come back as another thing.
        """
        self._field = field.name
        self._look(field.type, values, held, False)
        return self._has_offsets

    def _look(self, kind: inspect.Type, values: _Values, held: int = 0, alone: bool = True) -> None:
        """Look at all values of one place.

        Args:
            kind: the type that is declared there.
            values: what is there.
            held: how many references to each value, or to what it holds if it is itself a copy, are the look's own.
            alone: whether to see that each is held there only.
        """
        if not values:
            return
        found = set(map(type, values))
        if alone and not isinstance(kind, _WRAPPERS) and self._can_change(kind):
            self._require_alone(values, held)
            held = 0
        if isinstance(kind, inspect.Metadata):
            self._look(kind.type, values, held, alone)
        elif isinstance(kind, inspect.UnionType):
            self._look_at_union(kind, values, found, held, alone)
        elif isinstance(kind, inspect.AnyType):
            self._look_at_any(values, found)
        elif isinstance(kind, inspect.LiteralType):
            self._require(found, set(map(type, kind.values)))
        elif isinstance(kind, inspect.EnumType):
            self._require(found, {kind.cls})
        elif isinstance(kind, _Class):
            self._look_at_class(kind, values, found)
        elif type(kind) in _PLAIN:
            if isinstance(kind, inspect.FloatType) and int in found:
                self._refuse_nested_int()
                found.discard(int)
            self._require(found, {_PLAIN[type(kind)]})
            self._look_inside(kind, values, 0 if alone else held)
        else:
            raise self._wrong(f"what a snapshot can't hold ({type(kind).__name__.removesuffix('Type')})")

    def _look_inside(self, kind: inspect.Type, values: _Values, held: int) -> None:
        match kind:
            case inspect.DictType():
                self._look(kind.key_type, list(chain.from_iterable(values)), held)
                self._look(kind.value_type, list(chain.from_iterable(map(dict.values, values))), held)
            case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
                self._look(kind.item_type, list(chain.from_iterable(values)), held)
            case inspect.TupleType():
                if set(map(len, values)) != {len(kind.item_types)}:
                    raise self._wrong(f"a tuple of another length than {len(kind.item_types)}")
                for index, each in enumerate(kind.item_types):
                    self._look(each, list(map(itemgetter(index), values)))
            case inspect.TypedDictType():
                if not {key for value in values for key in value} <= {field.name for field in kind.fields}:
                    raise self._wrong(f"keys that {kind.cls.__name__} does not declare")
                self._inside += 1
                for field in kind.fields:
                    self._look(field.type, [value[field.name] for value in values if field.name in value])
                self._inside -= 1
            case inspect.DateTimeType() | inspect.TimeType():
                for zone in {value.tzinfo for value in values}:
                    self._look_at_zone(zone)
                if any(map(_fold, values)):
                    raise self._wrong("a time with fold=1, of which the fold is not kept: convert it to UTC")

    def _look_at_class(self, kind: _Class, values: _Values, found: set[type]) -> None:
        cls = _bare(kind.cls)
        self._require(found, {cls})
        if not isinstance(kind, inspect.NamedTupleType) and cls.__dictoffset__:
            self._look_beside_fields(kind, values)
        self._inside += 1
        for index, field in enumerate(kind.fields):
            get = itemgetter(index) if isinstance(kind, inspect.NamedTupleType) else attrgetter(field.name)
            self._look(field.type, [value for value in map(get, values) if value is not msgspec.UNSET])
        self._inside -= 1

    def _look_beside_fields(self, kind: _Class, values: _Values) -> None:
        names = {field.name for field in fields(_bare(kind.cls))} if isinstance(kind, inspect.DataclassType) else set()
        beside = {name for value in values for name in vars(value) if name not in names}
        if beside:
            raise self._wrong(
                f"a {_bare(kind.cls).__name__} with {', '.join(sorted(beside))}, which it does not declare"
            )

    def _can_change(self, kind: inspect.Type) -> bool:
        """Whether a value of a type may change, or hold what may: it is then to stand in one place only."""
        known = self._changing.get(id(kind))
        if known is None:
            known = self._changing[id(kind)] = kind, can_change(kind)
        return known[1]

    def _require_alone(self, values: _Values, held: int) -> None:
        usual = _REFERENCES + held
        more = [value for value, count in zip(values, list(map(getrefcount, values)), strict=True) if count > usual]
        if more:
            self._note(more)

    def _note(self, values: _Values) -> None:
        """Remember which objects were seen: each may be seen once."""
        objects = [value for value in values if not isinstance(value, _ATOMS) and not _is_empty(value)]
        ids = set(map(id, objects))
        if len(ids) < len(objects) or not self._seen.isdisjoint(ids):
            twice = next((value for value in objects if id(value) in self._seen), objects[0])
            raise self._wrong(
                f"one {type(twice).__name__} that is held in another place, too, and may change: hold its key or a "
                "copy there, or, if it never changes, make it immutable: frozen=True, a tuple, a frozenset"
            )
        self._seen |= ids

    def _look_at_union(
        self, kind: inspect.UnionType, values: _Values, found: set[type], held: int, alone: bool
    ) -> None:
        members = {cls: each for each in kind.types for cls in _classes(each)}
        if int not in members and float in members:
            members[int] = members[float]
        self._require(found, set(members))
        for cls in found:
            self._look(members[cls], [value for value in values if type(value) is cls], held + alone, alone)

    def _look_at_any(self, values: _Values, found: set[type]) -> None:
        self._require(found - {list, dict}, _SAME_AS_JSON)
        lists = [value for value in values if type(value) is list]
        dicts = [value for value in values if type(value) is dict]
        self._require(set(map(type, chain.from_iterable(dicts))), _SAME_AS_JSON)
        inside = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
        if inside:
            self._require_alone([value for value in inside if type(value) in {list, dict}], 1)
            self._look_at_any(inside, set(map(type, inside)))

    def _refuse_nested_int(self) -> None:
        """In a field of the state itself an int comes back where float is declared; a class's own field says float."""
        if self._inside:
            raise self._wrong("an int where float is declared, in a class: begin with 0.0, or convert with float()")

    def _look_at_zone(self, zone: Any) -> None:
        if zone is None:
            return
        if type(zone) is timezone and not zone.utcoffset(None) % timedelta(minutes=1):
            self._has_offsets |= bool(zone.utcoffset(None))
        else:
            raise self._wrong(f"a time in the zone {zone}, of which only the offset is kept: convert it to UTC")

    def _require(self, found: set[type], expected: set[type]) -> None:
        if not found <= expected:
            declared = "Any (what JSON has, and bytes)" if expected is _SAME_AS_JSON else _names(expected)
            raise self._wrong(f"a value of type {_names(found - expected)}, where {declared} is declared")

    def _wrong(self, what: str) -> TypeError:
        return TypeError(f"{self._place}.{self._field} holds {what}; it would not come back as it is")


def _names(classes: set[type]) -> str:
    return " or ".join(sorted("None" if cls is type(None) else cls.__name__ for cls in classes))


def _bare(cls: Any) -> type:
    bare: type = get_origin(cls) or cls
    return bare


def _classes(kind: inspect.Type) -> Iterable[type]:
    """The classes of the values that a member of a union has."""
    if isinstance(kind, inspect.Metadata):
        return _classes(kind.type)
    if isinstance(kind, inspect.LiteralType):
        return set(map(type, kind.values))
    cls = _PLAIN.get(type(kind)) or getattr(kind, "cls", None)
    return () if cls is None else (_bare(cls),)


def _is_empty(value: Any) -> bool:
    """Whether it is one of those of which Python has one."""
    return isinstance(value, tuple | frozenset) and not value


def _references() -> int:
    """How many references are counted for an object that is held in one place, and in the list that is looked at."""
    holder = [[object()]]
    values = list(holder[0])
    counts = list(map(getrefcount, values))
    return counts[0]


_REFERENCES = _references()


def with_ints(annotation: Any) -> Any:
    """A type as a snapshot reads it: where it says float, an int is read as the int that it was.

    What is inside a class stays as the class says.
    """
    if annotation is float:
        return float | int
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return Union[tuple(map(with_ints, parts))]  # noqa: UP007 - a union of types known only at run time
    if origin in _GENERIC:
        return origin[tuple(map(with_ints, parts))]
    return annotation


#: What a state can do that keeps what no snapshot can give back.
_NO_SNAPSHOTS = "return None from snapshot(), to make the state from the log at each opening"


def require_storable(cls: type[msgspec.Struct], otherwise: str = _NO_SNAPSHOTS) -> None:
    """See that no field is declared as a collection that would come back from a snapshot as another one.

    Args:
        cls: the state's class.
        otherwise: what else its author can do.

    Raises:
        DefinitionError: one is; names it, and what to write.
    """
    try:
        kind = inspect.type_info(cls)
    except Exception:  # noqa: BLE001 - what msgspec can't describe is refused when it is to be stored, with a line
        return
    for field in kind.fields if isinstance(kind, inspect.StructType) else ():
        for each in reached(field.type):
            if isinstance(each, inspect.CustomType) and issubclass(_bare(each.cls), _COLLECTIONS):
                name = _bare(each.cls).__name__
                raise DefinitionError(
                    f"field {field.name!r} is a {name}, which a snapshot can't give back: use "
                    f"{'a list' if issubclass(_bare(each.cls), (deque, list)) else 'a dict'}, or {otherwise}",
                    place_of(cls),
                )
