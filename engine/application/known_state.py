"""That a state is all in its fields: what stands beside them is in no snapshot, and may be everybody's.

Here: the look at a class when it is made. Not here: what fields hold (`millstream.engine.snapshots.exact`).

    beside the fields                              what becomes of it
    -----------------                              ------------------
    an attribute with an annotation, in a mixin    refused: a mixin that is no msgspec.Struct declares no field
    something that changes, without annotation     refused: all states of the program would share it
    the option ``dict=True``                       refused: an instance would hold what no field declares
    constants, methods, ``ClassVar``               what they are everywhere
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from dataclasses import is_dataclass
from typing import Any, Generic, Protocol

import msgspec

from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError

__all__ = ["require_known_state"]

_StructMeta = type(msgspec.Struct)
_CHANGING = (MutableMapping, MutableSequence, MutableSet, bytearray, Iterator)


def require_known_state(cls: type) -> None:
    """See that a model or a view has no state but its fields.

    Args:
        cls: a subclass of msgspec.Struct, as its ``__init_subclass__`` gets it.

    Raises:
        DefinitionError: it has; names the attribute, and what to write.
    """
    bases = [each for each in cls.__mro__ if each not in (object, Generic, Protocol, msgspec.Struct)]
    for each in bases:
        annotations = vars(each).get("__annotations__", {})
        if not isinstance(each, _StructMeta):
            _require_no_field(each, annotations, cls)
        for name, value in vars(each).items():
            if not name.startswith("__") and name not in annotations and _changes(value):
                raise DefinitionError(
                    f"{name!r} changes, and without an annotation it is no field: all states would share it, and no "
                    f"snapshot have it; write {name}: {type(value).__name__}[…] = …, or ClassVar if it never changes",
                    *dict.fromkeys((place_of(each), place_of(cls))),
                )
    if cls.__dictoffset__ and not any(each.__dictoffset__ for each in bases if not isinstance(each, _StructMeta)):
        raise DefinitionError(
            "dict=True lets a state hold attributes that no snapshot has: leave it out, and declare them as fields",
            place_of(cls),
        )


def _require_no_field(mixin: type, annotations: dict[str, Any], cls: type) -> None:
    for name, annotation in annotations.items():
        if "ClassVar" not in str(annotation) and not name.startswith("__"):
            raise DefinitionError(
                f"{name!r} looks like a field of the state, and is none, because {mixin.__name__} is no "
                f"msgspec.Struct: write class {mixin.__name__}(msgspec.Struct), or ClassVar if it never changes",
                place_of(mixin),
                place_of(cls),
            )


def _changes(value: Any) -> bool:
    """Whether a value is one that is made to be changed. What can't be known is taken for a constant."""
    if isinstance(value, type):
        return False
    if isinstance(value, msgspec.Struct):
        return not value.__struct_config__.frozen
    if is_dataclass(value):
        return not value.__dataclass_params__.frozen  # type: ignore[union-attr]
    return isinstance(value, _CHANGING)
