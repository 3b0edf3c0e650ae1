"""Events that can change are copied for each side that applies them: which ones do, and how to spell them otherwise.

Here: telling the author, once for each class. Not here: the copying (`copies`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, get_origin
from weakref import WeakSet

from msgspec import inspect

from millstream.engine.application.kinds import ClassKind, kind_of, parts_of, reached

__all__ = ["ChangingEventWarning", "immutable_spellings", "warn_of_changing"]


class ChangingEventWarning(UserWarning):
    """An event holds what can change, so each model and view that applies it is given a copy of its own.

    It comes once for each class. The text names the spelling that can't change, which is shared and costs nothing.
    """


_told: WeakSet[type[Any]] = WeakSet()

_CONTAINERS = (inspect.ListType, inspect.SetType, inspect.DictType, inspect.ByteArrayType)
_NAMES = {"decimal": "Decimal", "uuid": "UUID", "any": "Any", "none": "None", "ext": "Ext"}


def warn_of_changing(events: Iterable[type[Any]], level: int) -> None:
    """Warn of each event that can change and was not warned of before, where its author can spell it otherwise.

    Args:
        events: their classes.
        level: how many calls above this one the author's code is.
    """
    for event in events:
        if event in _told:
            continue
        _told.add(event)
        spellings = immutable_spellings(event)
        if spellings:
            text = (
                f"{event.__name__} holds what can change, so each model and view that applies it gets a copy; "
                f"what can't change is shared: {'; '.join(spellings)}"
            )
            warnings.warn(text, ChangingEventWarning, stacklevel=level + 1)


def immutable_spellings(event: type[Any]) -> list[str]:
    """How an event, and what it holds, is spelled so that it can't change; nothing where it can't, or is an `Any`."""
    return [each for kind in reached(kind_of(event)) if isinstance(kind, ClassKind) for each in _of_class(kind)]


def _of_class(kind: ClassKind) -> Iterator[str]:
    cls = get_origin(kind.cls) or kind.cls
    if isinstance(kind, inspect.TypedDictType):
        yield f"{cls.__name__}: a class with frozen=True"
        return
    config = getattr(cls, "__struct_config__", None) or getattr(cls, "__dataclass_params__", None)
    if config is not None and not config.frozen:
        yield f"{cls.__name__}: with frozen=True"
    for field in kind.fields:
        if any(isinstance(each, _CONTAINERS) for each in _outside_classes(field.type)):
            yield f"{cls.__name__}.{field.name}: {_spelled(field.type)}"


def _outside_classes(kind: inspect.Type) -> Iterator[inspect.Type]:
    """A type and what it is made of, but for the fields of classes."""
    yield kind
    if not isinstance(kind, ClassKind):
        for each in parts_of(kind):
            yield from _outside_classes(each)


def _spelled(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _spelled(kind.type)
        case inspect.ListType() | inspect.VarTupleType():
            return f"tuple[{_spelled(kind.item_type)}, ...]"
        case inspect.SetType() | inspect.FrozenSetType():
            return f"frozenset[{_spelled(kind.item_type)}]"
        case inspect.DictType():
            return f"tuple[tuple[{_spelled(kind.key_type)}, {_spelled(kind.value_type)}], ...]"
        case inspect.TupleType():
            return f"tuple[{', '.join(map(_spelled, kind.item_types))}]"
        case inspect.UnionType():
            return " | ".join(map(_spelled, kind.types))
        case inspect.ByteArrayType():
            return "bytes"
        case inspect.LiteralType():
            return f"Literal[{', '.join(map(repr, kind.values))}]"
    cls = getattr(kind, "cls", None)
    if cls is not None:
        return str((get_origin(cls) or cls).__name__)
    name = type(kind).__name__.removesuffix("Type").lower()
    return _NAMES.get(name, name)
