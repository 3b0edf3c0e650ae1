"""What a state looks like: whether a snapshot that was taken once can still be taken up.

Here: fingerprints of classes. Not here: any state.

Two classes whose fingerprints begin the same hold the same fields of the same types, all the way down, have the same
``code_version``, and apply the same types of events; either or neither has an instance for each key.
Names of modules, order of fields, docstrings and methods are not
in it, and neither is anything that differs from run to run.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, get_origin
from weakref import WeakKeyDictionary

import msgspec
from msgspec import inspect

from millstream.engine.application.kinds import ClassKind, kind_of, parts_of
from millstream.engine.application.methods import place_of
from millstream.engine.application.sides import Side, code_version_of, ends_of, is_keyed
from millstream.engine.snapshots.stored_events import EventField, go_together, told

__all__ = ["fingerprint_of", "fits", "type_shape"]

#: The version of how states become pieces: another one makes all snapshots useless.
_FORMAT = 2
#: By class, as no class changes: to walk over one took 2 ms, at each opening, and at each snapshot of each part.
_known: WeakKeyDictionary[type[Side], str] = WeakKeyDictionary()


def fingerprint_of(side: type[Side]) -> str:
    """What must be the same for a snapshot to fit: the state's shape, its code version, and the events it applies; and
    ``__bounds__``, where a class says by which numbers its state is bounded.

    A class that msgspec does not understand makes its pieces itself; its annotations are taken as they are written.
    After a space it says what the events could say, which need not be the same: `fits` compares two.
    """
    found = _known.get(side)
    if found is None:
        found = _known[side] = _made(side)
    return found


def _made(side: type[Side]) -> str:
    try:
        kind = inspect.type_info(side)
        shape: Any = _shape(kind, ())
        written = _annotations(side) if _has_custom(kind, ()) else []
    except Exception:  # noqa: BLE001 - a name that can't be resolved, a type that msgspec refuses: all the same here
        shape, written = "its own", _annotations(side)
    applied = sorted(str(event.__struct_config__.tag) for event in side.__appliers__)
    parts: tuple[Any, ...] = (_FORMAT, shape, written, code_version_of(side), applied)
    if (bounds := getattr(side, "__bounds__", None)) is not None:
        parts += ("within", bounds)
    if is_keyed(side):
        parts += ("by key", sorted(str(event.__struct_config__.tag) for event in ends_of(side)))
    digest = blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
    return f"{digest} {told(map(_event, side.__appliers__))}".rstrip()


def type_shape(annotation: Any) -> Any:
    """A type as nested tuples of plain values, without what may differ from run to run."""
    return _shape(kind_of(annotation), ())


def fits(then: str, now: str) -> bool:
    """Whether a snapshot that was taken with one fingerprint can be taken up with another."""
    shape, _, events = then.partition(" ")
    shape_now, _, events_now = now.partition(" ")
    return shape == shape_now and go_together(events, events_now)


def _event(event: type[Any]) -> tuple[str, bool, list[EventField]]:
    kind, config = kind_of(event), event.__struct_config__
    fields = kind.fields if isinstance(kind, inspect.StructType) else ()
    told_of = [EventField(each.encode_name, repr(_shape(each.type, ())), each.required) for each in fields]
    return str(config.tag), not config.forbid_unknown_fields, told_of


def _annotations(side: type[Side]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for cls in reversed(side.__mro__):
        found |= {name: str(annotation) for name, annotation in vars(cls).get("__annotations__", {}).items()}
    return sorted(item for item in found.items() if "ClassVar" not in item[1])


def _has_custom(kind: inspect.Type, inside: tuple[Any, ...]) -> bool:
    """Whether a field holds what msgspec knows by its class only: what it is made of is then in its annotation."""
    if isinstance(kind, inspect.CustomType):
        return True
    if isinstance(kind, ClassKind):
        if kind.cls in inside:
            return False
        inside = (*inside, kind.cls)
    return any(_has_custom(each, inside) for each in parts_of(kind))


def _shape(kind: inspect.Type, inside: tuple[Any, ...]) -> Any:
    """A type as nested tuples of plain values, without what may differ from run to run."""
    name = type(kind).__name__
    if isinstance(kind, inspect.Metadata):
        return _shape(kind.type, inside)
    if isinstance(kind, inspect.CustomType):
        return name, place_of(kind.cls)
    if isinstance(kind, inspect.EnumType):
        return name, sorted(repr(member.value) for member in kind.cls)
    if isinstance(kind, inspect.LiteralType):
        return name, sorted(map(repr, kind.values))
    if isinstance(kind, inspect.UnionType):
        return name, sorted(repr(_shape(each, inside)) for each in kind.types)
    if isinstance(kind, ClassKind):
        return name, *_fields(kind, inside)
    plain = [repr(value) for value in map(kind.__getattribute__, kind.__struct_fields__) if not _is_kind(value)]
    return name, plain, [_shape(each, inside) for each in parts_of(kind)]


def _is_kind(value: Any) -> bool:
    return isinstance(value[0] if isinstance(value, tuple) and value else value, inspect.Type)


def _fields(kind: Any, inside: tuple[Any, ...]) -> tuple[Any, ...]:
    if kind.cls in inside:
        return ("again", inside.index(kind.cls))
    inside = (*inside, kind.cls)
    config = getattr(get_origin(kind.cls) or kind.cls, "__struct_config__", None)
    fields = [(each.name, each.encode_name, _shape(each.type, inside), _default(each, config)) for each in kind.fields]
    if not isinstance(kind, inspect.StructType):
        return (fields if isinstance(kind, inspect.NamedTupleType) else sorted(fields, key=repr),)
    return kind.tag_field, repr(kind.tag), kind.array_like, fields if kind.array_like else sorted(fields, key=repr)


def _default(field: inspect.Field, config: Any) -> str | None:
    """What a field is taken for where a snapshot does not have it."""
    if config is None or not config.omit_defaults:
        return None
    if field.default_factory is not msgspec.NODEFAULT:
        return getattr(field.default_factory, "__qualname__", "")
    return repr(field.default) if isinstance(field.default, int | float | str | bytes | None) else ""
