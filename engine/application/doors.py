"""What may not pass the door, because it would come back as something else, or not at all.

Here: the looks at values for what a type can hide, and which of them a type needs. Not here: what a type itself
refuses, which reading finds.

    what                      why                                                  looked at where a type can hide it
    ----                      ---                                                  ----------------------------------
    nested too deeply         a log that holds it could not be read any more       `Any`, or a class that holds itself
    NaN and infinities        JSON writes null, which is read back as None         `Any`, or ``float | None``
    NUL in a key              SQLite's text ends there: two keys look like one     every `Key`, and metadata
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, TypeVar

import msgspec

__all__ = [
    "BACKSLASH",
    "NESTING_MAX",
    "NUL",
    "NUL_PROBLEM",
    "TOO_DEEP",
    "is_deeper",
    "is_finite",
    "non_finite_in",
    "require_finite",
    "shallow",
    "without_nul",
]

M = TypeVar("M")

#: Arrays and objects inside each other that a message, an answer or a state may have. CPython 3.11 reads about 1,000,
#: less what the stack holds at that moment, and those who read a log need two more than the message has.
NESTING_MAX = 200

#: What is said of that.
TOO_DEEP = (
    f"arrays and objects are nested more than {NESTING_MAX} deep in it, and could not be read back for certain: "
    "hold them flat, or as text"
)
#: Why none is taken.
NUL_PROBLEM = "SQLite's text ends there, so that two of them would look like one"
#: How JSON writes it.
NUL = b"\\u0000"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
#: How JSON begins a NUL, and little else.
BACKSLASH = ord("\\")
_NO_FLOATS = {type(None), bool, int, str, bytes}
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")


def is_deeper(data: bytes, limit: int) -> bool:
    """Whether more arrays and objects than that stand in each other in a JSON text, which is one.

    What is no bracket is taken away, and then the innermost pairs, again and again: each pass is one call.
    """
    if len(data) <= 2 * limit or data.count(b"[") + data.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", data).translate(_ALL_SQUARE, _OTHERS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def shallow(read: Callable[[bytes], M], around: int = 0) -> Callable[[bytes], M]:
    """A reader that refuses with msgspec.ValidationError what is nested too deeply to be read back for certain.

    Args:
        read: reads and checks.
        around: how many arrays and objects are around the value that is meant.
    """

    def checked(data: bytes) -> M:
        try:
            found = read(data)
        except RecursionError as error:
            raise msgspec.ValidationError(TOO_DEEP) from error
        if is_deeper(data, NESTING_MAX + around):  # after it was read: what is no JSON could take long here
            raise msgspec.ValidationError(TOO_DEEP)
        return found

    return checked


def require_finite(value: Any) -> None:
    """See that no float in a value is a NaN or an infinity.

    Raises:
        msgspec.ValidationError: one is; says which, and where.
    """
    found = non_finite_in(value, "$")
    if found is not None:
        raise msgspec.ValidationError(
            f"it holds the float {found[1]}, which JSON does not have, and which would be read back as None: say None, "
            f"or a text - at `{found[0]}`"
        )


def is_finite(value: Any) -> bool:
    """Whether no float in a value is a NaN or an infinity: the quick look, where something is None."""
    kind = type(value)
    if kind is float:
        return isfinite(value)
    if kind in _NO_FLOATS:
        return True
    if kind is list or kind is tuple:
        return all(map(is_finite, value))
    if kind is dict:
        return all(map(is_finite, value.values()))
    return non_finite_in(value, "$") is None


def non_finite_in(value: Any, path: str) -> tuple[str, float] | None:
    """The first NaN or infinity in a value, and the path to it."""
    if isinstance(value, float):
        return None if isfinite(value) else (path, value)
    if isinstance(value, str | bytes | int | None):
        return None
    for step, each in _inside(value):
        found = non_finite_in(each, path + step)
        if found is not None:
            return found
    return None


def _inside(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return ((f"[{key!r}]", each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return ((f"[{index}]", each) for index, each in enumerate(value))
    if isinstance(value, set | frozenset):
        return (("[...]", each) for each in value)
    if isinstance(value, msgspec.Struct):
        return ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    if is_dataclass(value) and not isinstance(value, type):
        return ((f".{field.name}", getattr(value, field.name)) for field in fields(value))
    return ()


def without_nul(read: Callable[[bytes], M], keys_of: Callable[[M], Iterable[str | None]]) -> Callable[[bytes], M]:
    """A reader that refuses with msgspec.ValidationError a NUL in a key.

    Args:
        read: reads and checks what has the keys.
        keys_of: the keys of what was read.
    """

    def checked(data: bytes) -> M:
        found = read(data)
        if BACKSLASH in data and data.find(NUL) >= 0:  # 25 ns, and `NUL in data` 250: it tries to be a number first
            for key in keys_of(found):
                if key is not None and "\0" in key:
                    raise msgspec.ValidationError(f"its key {key!r:.80} holds a NUL; {NUL_PROBLEM}")
        return found

    return checked
