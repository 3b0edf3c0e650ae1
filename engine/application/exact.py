"""Checks that a message is already what writing and reading it back would give: a function made for each class.

Here: which classes have such a check, why others have none, and its text. Not here: the full check (`validation`),
which everything else takes.

A message passes only if what it holds can't be changed, each value is of exactly the class that reading gives, and
JSON gives it back as it is. Then it is as good as its own copy. What does not pass is not wrong: it goes the long way,
and so does every message of a class without a check.

    field                 passes if it is
    -----                 ---------------
    str                   exactly a str, ASCII or printable, so that UTF-8 has it; at most `CHARS_MAX` characters
    int, bool, None       exactly that; an int within 64 bits
    float                 exactly a float, finite; -0.0 stays what it is
    Enum, Literal         a member, one of the values
    datetime, date        exactly one; naive or with `timezone.utc` itself, and not folded
    tuple                 exactly a tuple, of at most `ITEMS_MAX`, each of which passes
    Struct                exactly that class, and all its fields pass
    X | None              None, or what X is

There is no check for a class that is not frozen, that changes itself in ``__post_init__``, that is written without its
defaults or as an array, or that holds itself; for a pattern or ``multiple_of``; for any other type. A `Key` that holds
what can't be printed, a NUL say, does not pass. `msgspec.structs.force_setattr` on a message that was given away is the
one way around all this.

It costs 0.1 to 0.2 µs for two fields, where writing and reading back costs 0.4 (CPython 3.11).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum, Flag
from typing import Any, NamedTuple, TypeAlias, get_origin

import msgspec
from msgspec import inspect

from millstream.engine.application.messages import Command

__all__ = ["CHARS_MAX", "ITEMS_MAX", "Exact", "MessageCheck", "exact_check", "exact_or_reason"]

#: Longer texts and tuples take the long way, so that the size of what passes is bounded beforehand.
CHARS_MAX = 256
ITEMS_MAX = 16
_INT_MAX = 2**63 - 1
#: A character as JSON: an escape of a control character at most.
_CHAR_BYTES_MAX = 6

_Check: TypeAlias = Callable[[Any], Any]


class Exact(NamedTuple):
    """A class's check, and how many bytes of JSON a message that passes has at most."""

    #: The message's key if it passes, None if its class has no key; False if it does not pass.
    check: _Check
    bytes_max: int


class MessageCheck(msgspec.Struct, frozen=True):
    """How messages of a class are checked when they are taken in.

    ``exact`` says that there is an exact check, which most messages pass. Else each one is written as JSON and read
    back, and ``reason`` says why.
    """

    message: str
    exact: bool
    reason: str | None = None


class _HasNone(Exception):
    """There is no check for a class; says why."""


def exact_check(message: type[Any], key: str | None) -> Exact | None:
    """The check for one class of message, or None if it has none.

    Args:
        message: the class.
        key: the name of the field that is its key.
    """
    found = exact_or_reason(message, key)
    return None if isinstance(found, str) else found


def exact_or_reason(message: type[Any], key: str | None) -> Exact | str:
    """The check for one class of message, or why it has none."""
    try:
        return _made(message, key, ())
    except _HasNone as reason:
        return str(reason)


def _made(cls: type[Any], key: str | None, inside: tuple[type[Any], ...]) -> Exact:
    try:
        kind = inspect.type_info(cls)
    except Exception as error:
        raise _HasNone(f"msgspec can't say what {cls.__name__} holds: {error}") from error
    if not isinstance(kind, inspect.StructType):
        raise _HasNone(f"{cls.__name__} is no Struct")
    _require_plain(cls)
    text = _Text((*inside, cls))
    conditions = [text.field(index, field, is_key=field.name == key) for index, field in enumerate(kind.fields)]
    names = [field.name for field in kind.fields]
    result = "None" if key is None else f"v{names.index(key)}"
    config = cls.__struct_config__
    text.bytes_max += 8 + len(msgspec.json.encode([config.tag_field, config.tag]))
    loads = "".join(f"v{index} = m.{name}; " for index, name in enumerate(names))
    source = (
        f"def check(m):\n try:\n  {loads or 'pass'}\n except AttributeError:\n  return False\n"
        f" return {result} if {' and '.join(conditions) or 'True'} else False\n"
    )
    space = dict(text.space)
    exec(source, space)  # its text is made of names of fields, which are identifiers, and of numbers
    return Exact(space["check"], text.bytes_max)


def _has_parameters(cls: type[Any]) -> bool:
    """Whether a class is generic, or derives from one that is; but for `Command`, whose fields do not depend on it."""
    return any(getattr(base, "__parameters__", ()) for base in cls.__mro__ if base is not Command)


def _require_plain(cls: type[Any]) -> None:
    config = cls.__struct_config__
    name = cls.__name__
    if not config.frozen:
        raise _HasNone(f"{name} is not frozen=True")
    if config.omit_defaults or config.array_like:
        raise _HasNone(f"{name} is written {'as an array' if config.array_like else 'without its defaults'}")
    if hasattr(cls, "__post_init__"):
        raise _HasNone(f"{name} has a __post_init__, which reading runs again")
    if get_origin(cls) is not None or _has_parameters(cls) or config.dict:
        raise _HasNone(f"{name} is generic, or has attributes that are no fields")


class _Text:
    """The conditions of one class's check, and the names that they use."""

    def __init__(self, inside: tuple[type[Any], ...]) -> None:
        self.space: dict[str, Any] = {"datetime": datetime, "date": date, "utc": UTC}
        self.bytes_max = 0
        self._inside = inside
        self._is_key = False

    def field(self, index: int, field: inspect.Field, *, is_key: bool = False) -> str:
        """What holds for the value of one field, which is in the variable of that index."""
        self._is_key = is_key
        self.bytes_max += 2 + len(msgspec.json.encode(field.encode_name))
        try:
            return self._value(f"v{index}", field.type)
        except _HasNone as reason:
            raise _HasNone(f"{field.name}: {reason}") from None

    def _value(self, v: str, kind: inspect.Type) -> str:
        if isinstance(kind, inspect.Metadata):
            return self._value(v, kind.type)
        make = _BY_KIND.get(type(kind))
        if make is None:
            raise _HasNone(f"{type(kind).__name__.removesuffix('Type').lower()} has no exact check")
        condition, bytes_max = make(self, v, kind)
        self.bytes_max += bytes_max
        return condition

    def named(self, value: Any) -> str:
        """A name in the check's text for a value."""
        name = f"n{len(self.space)}"
        self.space[name] = value
        return name

    def text(self, v: str, kind: inspect.StrType) -> tuple[str, int]:
        """A str."""
        if kind.pattern is not None:
            raise _HasNone("a pattern has no exact check")
        least, most = kind.min_length or 0, min(CHARS_MAX, CHARS_MAX if kind.max_length is None else kind.max_length)
        length = f"{least} <= len({v}) <= {most}" if least else f"len({v}) <= {most}"
        # What can't be printed has no place in a key: a NUL, say.
        characters = f"{v}.isprintable()" if self._is_key else f"({v}.isascii() or {v}.isprintable())"
        return f"type({v}) is str and {length} and {characters}", 2 + _CHAR_BYTES_MAX * most

    def whole(self, v: str, kind: inspect.IntType) -> tuple[str, int]:
        """An int."""
        low = max(-_INT_MAX, -_INT_MAX if kind.ge is None else kind.ge)
        high = min(_INT_MAX, _INT_MAX if kind.le is None else kind.le)
        return f"type({v}) is int and {low} <= {v} <= {high}{_open_bounds(v, kind)}", 20

    def real(self, v: str, kind: inspect.FloatType) -> tuple[str, int]:
        """A float. A NaN is in no order, so it fails the first comparison."""
        closed = [f"{v} >= {kind.ge!r}"] if kind.ge is not None else []
        closed += [f"{v} <= {kind.le!r}"] if kind.le is not None else []
        bounds = "".join(f" and {each}" for each in closed)
        return f"type({v}) is float and -1e999 < {v} < 1e999{bounds}{_open_bounds(v, kind)}", 26

    def truth(self, v: str, _: inspect.Type) -> tuple[str, int]:
        """A bool."""
        return f"({v} is True or {v} is False)", 5

    def none(self, v: str, _: inspect.Type) -> tuple[str, int]:
        """None."""
        return f"{v} is None", 4

    def member(self, v: str, kind: inspect.EnumType) -> tuple[str, int]:
        """A member of an enum."""
        if issubclass(kind.cls, Flag):
            raise _HasNone("a Flag has values that are no members")
        if getattr(kind.cls._missing_, "__func__", None) is not getattr(Enum._missing_, "__func__", None):
            raise _HasNone(f"{kind.cls.__name__} makes members in _missing_")
        longest = max(len(msgspec.json.encode(each.value)) for each in kind.cls)
        return f"type({v}) is {self.named(kind.cls)}", longest

    def literal(self, v: str, kind: inspect.LiteralType) -> tuple[str, int]:
        """One of some values: 1 and True are not the same one."""
        types = self.named({type(each) for each in kind.values})  # looked at first: another value may have no hash
        values = self.named({(type(each), each) for each in kind.values})
        return f"type({v}) in {types} and (type({v}), {v}) in {values}", max(
            len(msgspec.json.encode(each)) for each in kind.values
        )

    def moment(self, v: str, kind: inspect.DateTimeType) -> tuple[str, int]:
        """A datetime."""
        zones = {None: f"({v}.tzinfo is None or {v}.tzinfo is utc)", True: f"{v}.tzinfo is utc"}
        zone = zones.get(kind.tz, f"{v}.tzinfo is None")
        return f"type({v}) is datetime and {zone} and not {v}.fold", 40

    def day(self, v: str, _: inspect.Type) -> tuple[str, int]:
        """A date."""
        return f"type({v}) is date", 12

    def optional(self, v: str, kind: inspect.UnionType) -> tuple[str, int]:
        """Something, or None."""
        others = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
        if len(others) != 1 or len(kind.types) != 2:
            raise _HasNone("of unions, X | None alone has an exact check")
        return f"({v} is None or {self._value(v, others[0])})", 4

    def items(self, v: str, kind: inspect.VarTupleType) -> tuple[str, int]:
        """A tuple of whatever length, up to the bound."""
        inner = _Text(self._inside)
        condition = inner._value("v", kind.item_type)
        space = dict(inner.space)
        exec(f"def each(t):\n for v in t:\n  if not ({condition}): return False\n return True\n", space)
        least, most = kind.min_length or 0, min(ITEMS_MAX, ITEMS_MAX if kind.max_length is None else kind.max_length)
        check = self.named(space["each"])
        return f"type({v}) is tuple and {least} <= len({v}) <= {most} and {check}({v})", 2 + most * (
            1 + inner.bytes_max
        )

    def places(self, v: str, kind: inspect.TupleType) -> tuple[str, int]:
        """A tuple with a type for each place."""
        each = [f"({self._value(f'{v}[{index}]', item)})" for index, item in enumerate(kind.item_types)]
        return " and ".join([f"type({v}) is tuple and len({v}) == {len(each)}", *each]), 2 + len(each)

    def struct(self, v: str, kind: inspect.StructType) -> tuple[str, int]:
        """An object of another class."""
        if kind.cls in self._inside:
            raise _HasNone(f"{kind.cls.__name__} holds itself")
        inner = _made(kind.cls, None, self._inside)
        return f"type({v}) is {self.named(kind.cls)} and {self.named(inner.check)}({v}) is None", inner.bytes_max


def _open_bounds(v: str, kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.multiple_of is not None:
        raise _HasNone("multiple_of has no exact check")
    above = "" if kind.gt is None else f" and {v} > {kind.gt!r}"
    return above + ("" if kind.lt is None else f" and {v} < {kind.lt!r}")


_BY_KIND: dict[type[inspect.Type], Callable[[_Text, str, Any], tuple[str, int]]] = {
    inspect.StrType: _Text.text,
    inspect.IntType: _Text.whole,
    inspect.FloatType: _Text.real,
    inspect.BoolType: _Text.truth,
    inspect.NoneType: _Text.none,
    inspect.EnumType: _Text.member,
    inspect.LiteralType: _Text.literal,
    inspect.DateTimeType: _Text.moment,
    inspect.DateType: _Text.day,
    inspect.UnionType: _Text.optional,
    inspect.VarTupleType: _Text.items,
    inspect.TupleType: _Text.places,
    inspect.StructType: _Text.struct,
}
