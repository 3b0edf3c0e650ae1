"""Whatever passes an exact check is what writing and reading it back would give, and has no more bytes than it says."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta

from millstream.engine import Command, Event, Key
from millstream.engine.application.exact import CHARS_MAX, ITEMS_MAX, Exact, exact_check, exact_or_reason


class Color(enum.Enum):
    RED = "red"
    GREEN = 'gr"een\x01'


class Rank(enum.IntEnum):
    ONE = 1
    TWO = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Seat(msgspec.Struct, frozen=True):
    row: int
    number: Annotated[int, Meta(ge=1, lt=100)]


class Tagged(msgspec.Struct, frozen=True, tag=True):
    name: str
    seat: Seat | None = None


class Everything(Event):
    """A field of each kind that has a check."""

    key: Key
    text: str = ""
    short: Annotated[str, Meta(min_length=1, max_length=3)] = "x"
    whole: int = 0
    bounded: Annotated[int, Meta(gt=0, le=10)] = 1
    real: float = 0.0
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    truth: bool = False
    nothing: None = None
    color: Color = Color.RED
    rank: Rank = Rank.ONE
    one_of: Literal["a", 1, None] = "a"
    moment: datetime = datetime(2026, 1, 1)  # noqa: DTZ001 - naive ones are allowed, too
    aware: Annotated[datetime, Meta(tz=True)] = datetime(2026, 1, 1, tzinfo=UTC)
    day: date = date(2026, 1, 1)
    seat: Seat = Seat(1, 1)
    tagged: Tagged | None = None
    seats: tuple[Seat, ...] = ()
    pair: tuple[int, str] = (1, "")
    maybe: int | None = None
    renamed: str = msgspec.field(name="na-mé", default="")


class Bool(int):
    """An int that is none."""


class Text(str):
    """A str that is none."""

    __slots__ = ()


MADRID = timezone(timedelta(hours=1))
AWKWARD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Ll"])),
    st.text(min_size=CHARS_MAX - 1, max_size=CHARS_MAX + 1),
    st.datetimes(timezones=st.sampled_from([None, UTC, MADRID])),
    st.dates(),
    st.sampled_from([Color.GREEN, Rank.TWO, Rights.READ | Rights.WRITE, Decimal(1), Bool(1), Text("a"), b"a", "\0"]),
    st.sampled_from(
        [Seat(1, 1), Seat(True, 1), Seat(1, 100), Seat(2**63, 1), Tagged("a", Seat(1, 2)), Tagged("\ud800")]
    ),
    st.lists(st.integers(0, 3), max_size=3),
    st.builds(lambda each: tuple([Seat(1, 1)] * each), st.integers(0, ITEMS_MAX + 1)),
    st.sampled_from(
        [(1, "a"), (1, 2), (True, "a"), (1,), [1, "a"], {}, datetime(2026, 1, 1, fold=1, tzinfo=UTC), 2**63, -(2**63)]
    ),
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "key": st.text(min_size=1, max_size=9),
    "text": st.text(),
    "whole": st.integers(),
    "real": st.floats(),
    "moment": st.datetimes(timezones=st.sampled_from([None, UTC])),
    "seats": st.builds(lambda rows: tuple(Seat(row, 1) for row in rows), st.lists(st.integers(), max_size=3)),
}
FIELDS = Everything.__struct_fields__


def found(message: type[Any], key: str | None = None) -> Exact:
    exact = exact_check(message, key)
    assert exact is not None, exact_or_reason(message, key)
    return exact


EXACT = found(Everything, "key")


def same(one: Any, other: Any) -> bool:
    """The same value of the same classes, all the way down; -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, msgspec.Struct):
        return all(same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, datetime):
        return (one, one.tzinfo, one.fold) == (other, other.tzinfo, other.fold)
    return repr(one) == repr(other)


def require_same(message: Any, exact: Exact) -> None:
    data = msgspec.json.encode(message)
    assert len(data) <= exact.bytes_max
    assert same(msgspec.json.decode(data, type=type(message)), message)


@given(st.dictionaries(st.sampled_from(FIELDS), AWKWARD, max_size=2), st.fixed_dictionaries({}, optional=LIKELY))
@example({}, {})
@example({"key": "a\0b"}, {})
@example({"real": float("nan")}, {})
@example({"real": -0.0}, {})
@example({"rank": 1}, {})
@example({"one_of": True}, {})
@example({"pair": (1, "é")}, {})
@example({"text": "\ud800"}, {})
@example({"text": "\x7f" * CHARS_MAX}, {})
def test_what_passes_is_its_own_copy(awkward: dict[str, Any], likely: dict[str, Any]) -> None:
    message = Everything(**{"key": "a", **likely, **awkward})
    passed = EXACT.check(message)
    if passed is not False:
        assert passed == message.key
        require_same(message, EXACT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "ann"),
        ("key", "Zoë"),
        ("text", "a" * CHARS_MAX),
        ("text", 'quotes " and \\ and \n'),
        ("whole", -(2**63) + 1),
        ("real", -0.0),
        ("real", 1e308),
        ("color", Color.GREEN),
        ("rank", Rank.TWO),
        ("one_of", 1),
        ("one_of", None),
        ("moment", datetime(2026, 1, 1, tzinfo=UTC)),
        ("tagged", Tagged("x", Seat(3, 4))),
        ("seats", (Seat(1, 1),) * ITEMS_MAX),
        ("pair", (7, "y")),
        ("maybe", 5),
    ],
)
def test_what_is_usual_passes(field: str, value: Any) -> None:
    message = Everything(**{"key": "a", field: value})
    assert EXACT.check(message) == message.key
    require_same(message, EXACT)


@pytest.mark.parametrize("value", [[], {}, set(), bytearray(), float("nan"), True])
def test_what_no_literal_is_does_not_pass_whatever_it_is(value: Any) -> None:
    assert EXACT.check(Everything("a", one_of=value)) is False


class Open(msgspec.Struct):
    a: int = 0


class Lists(msgspec.Struct, frozen=True):
    a: list[int] = []


class Changing(msgspec.Struct, frozen=True):
    a: int = 0

    def __post_init__(self) -> None:
        """It might change something."""


class Omitting(msgspec.Struct, frozen=True, omit_defaults=True):
    a: int = 0


class Array(msgspec.Struct, frozen=True, array_like=True):
    a: int = 0


class Tree(msgspec.Struct, frozen=True):
    left: Tree | None = None


class Patterned(msgspec.Struct, frozen=True):
    a: Annotated[str, Meta(pattern="^a")] = "a"


class Stepped(msgspec.Struct, frozen=True):
    a: Annotated[int, Meta(multiple_of=5)] = 5


class Either(msgspec.Struct, frozen=True):
    a: int | str = 1


class Allowed(msgspec.Struct, frozen=True):
    a: Rights = Rights.READ


class Odd(enum.Enum):
    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Odd:
        made = object.__new__(cls)
        made._value_ = value  # type: ignore[assignment]
        return made


class Oddly(msgspec.Struct, frozen=True):
    a: Odd = Odd.ONE


class Money(msgspec.Struct, frozen=True):
    a: Decimal = Decimal(1)


class Nested(msgspec.Struct, frozen=True):
    a: Open | None = None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Open, "Open is not frozen=True"),
        (Lists, "a: list has no exact check"),
        (Changing, "Changing has a __post_init__, which reading runs again"),
        (Omitting, "Omitting is written without its defaults"),
        (Array, "Array is written as an array"),
        (Tree, "left: Tree holds itself"),
        (Patterned, "a: a pattern has no exact check"),
        (Stepped, "a: multiple_of has no exact check"),
        (Either, "a: of unions, X | None alone has an exact check"),
        (Allowed, "a: a Flag has values that are no members"),
        (Oddly, "a: Odd makes members in _missing_"),
        (Money, "a: decimal has no exact check"),
        (Nested, "a: Open is not frozen=True"),
        (int, "int is no Struct"),
    ],
)
def test_a_class_without_a_check_says_why(message: type[Any], reason: str) -> None:
    assert exact_or_reason(message, None) == reason


class NoKey(Command):
    a: int


def test_a_message_without_a_key_passes_with_none() -> None:
    check: Callable[[Any], Any] = found(NoKey).check
    assert (check(NoKey(1)), check(NoKey("1"))) == (None, False)  # type: ignore[arg-type]
