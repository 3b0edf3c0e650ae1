"""States that would come back from a snapshot as something else are refused, and the error says what is wrong."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pytest

from millstream.engine.snapshots.pieces import add_piece, pieces_of
from tests.engine.snapshots.states import form


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Name(StrEnum):
    ANN = "ann"


class Frozen(msgspec.Struct, frozen=True):
    size: int
    tags: list[str] = []


class Special(Frozen, frozen=True):
    more: int = 0


class Mutable(msgspec.Struct):
    size: int = 0


class Node(msgspec.Struct):
    children: list[Node] = []


class Unset(msgspec.Struct):
    size: int | msgspec.UnsetType = msgspec.UNSET


@dataclass
class Plain:
    size: int


@dataclass(frozen=True)
class FrozenPlain:
    size: int


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    level: int


def state_of(annotation: Any, value: Any) -> msgspec.Struct:
    cls = msgspec.defstruct("State", [("field", annotation, msgspec.field(default=None))])
    state: msgspec.Struct = cls(value)
    return state


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (dict[str, int], defaultdict(int, a=1), "a value of type defaultdict, where dict is declared"),
        (dict[str, int], OrderedDict(a=1), "a value of type OrderedDict, where dict is declared"),
        (dict[str, int], Counter("a"), "a value of type Counter, where dict is declared"),
        (
            dict[str, dict[str, int]],
            {"a": defaultdict(int, b=1)},
            "a value of type defaultdict, where dict is declared",
        ),
        (dict[str, list[int]], {"a": (1, 2)}, "a value of type tuple, where list is declared"),
        (dict[str, int], {"a": True}, "a value of type bool, where int is declared"),
        (dict[str, int], {1: 1}, "a value of type int, where str is declared"),
        (dict[str, int], {Name.ANN: 1}, "a value of type Name, where str is declared"),
        (list[int], [1, Level.LOW], "a value of type Level, where int is declared"),
        (list[int], [1, 2.5], "a value of type float, where int is declared"),
        (list[float], [2**53 + 1], "an int too large for a float, where float is declared"),
        (list[float], [-(2**53) - 1], "an int too large for a float, where float is declared"),
        (int | None, "a", "a value of type str, where None or int is declared"),
        (float | None, 2**60, "an int too large for a float, where float is declared"),
        (Sequence[int], (1, 2), "a value of type tuple, where list is declared"),
        (Mapping[str, int], OrderedDict(a=1), "a value of type OrderedDict, where dict is declared"),
        (set[int], frozenset([1]), "a value of type frozenset, where set is declared"),
        (tuple[int, str], (1, 2), "a value of type int, where str is declared"),
        (tuple[int, str], (1, "a", 2), "a tuple of another length than 2"),
        (tuple[int, ...], (1, "a"), "a value of type str, where int is declared"),
        (list[Frozen], [Special(1)], "a value of type Special, where Frozen is declared"),
        (list[Frozen], [Frozen(1, ("a",))], "a value of type tuple, where list is declared"),  # type: ignore[arg-type]
        (Frozen | None, Special(1), "a value of type Special, where Frozen or None is declared"),
        (list[Plain], [Plain("a")], "a value of type str, where int is declared"),  # type: ignore[arg-type]
        (list[Pair], [(1, "a")], "a value of type tuple, where Pair is declared"),
        (list[Pair], [Pair("a", "a")], "a value of type str, where int is declared"),  # type: ignore[arg-type]
        (Options, {"level": "a"}, "a value of type str, where int is declared"),
        (Options, {"levels": 1}, "keys that Options does not declare"),
        (Literal["a", "b"], 3, "a value of type int, where str is declared"),
        (Colour, "red", "a value of type str, where Colour is declared"),
        (Any, (1, 2), "a value of type tuple, where Any (what JSON has, and bytes) is declared"),
        (Any, {"a": {1, 2}}, "a value of type set, where Any (what JSON has, and bytes) is declared"),
        (Any, {"a": [{"b": [Frozen(1)]}]}, "a value of type Frozen, where Any (what JSON has, and bytes) is declared"),
        (Any, {(1, 2): 3}, "a value of type tuple, where Any (what JSON has, and bytes) is declared"),
        (
            Any,
            datetime(2026, 1, 1, tzinfo=UTC),
            "a value of type datetime, where Any (what JSON has, and bytes) is declared",
        ),
        (dict, {"a": Decimal(1)}, "a value of type Decimal, where Any (what JSON has, and bytes) is declared"),
        (
            list[datetime],
            [datetime(2026, 7, 1, tzinfo=BERLIN)],
            "a time in the zone Europe/Berlin, of which only the offset",
        ),
        (datetime | None, datetime(2026, 7, 1, tzinfo=BERLIN), "a time in the zone Europe/Berlin"),
        (datetime, datetime(2026, 7, 1, tzinfo=timezone(timedelta(seconds=30))), "a time in the zone UTC+00:00:30"),
        (time, time(1, tzinfo=BERLIN), "a time in the zone Europe/Berlin"),
        (msgspec.Raw, msgspec.Raw(b"1"), "what a snapshot can't hold (Raw)"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(annotation: Any, value: Any, problem: str) -> None:
    with pytest.raises(TypeError) as raised:
        list(pieces_of(state_of(annotation, value)))
    assert str(raised.value).startswith(f"State.field holds {problem}")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (dict[str, float], {"a": 1.5, "b": float("nan")}),
        (list[Unset], [Unset(), Unset(3)]),
        (int | str | None, None),
        (float | str, 2.5),
        (Literal["a", 1] | None, 1),
        (list[datetime | None], [None, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3)))]),
        (list[Mutable], [Mutable(1), Mutable(1)]),
        (tuple[int, str] | None, (1, "a")),
        (bytearray, bytearray(b"a")),
        (dict[str, dict[str, list[Frozen]]], {"a": {"b": [Frozen(1, ["c"])]}}),
        (Any, {"a": [1, 2.5, None, True, "b", b"c", {"d": []}]}),
    ],
)
def test_what_comes_back_as_it_is_is_taken(annotation: Any, value: Any) -> None:
    state = state_of(annotation, value)
    fresh = type(state)()
    for piece in pieces_of(state):
        add_piece(fresh, piece)
    assert form(fresh) == form(state)


def test_a_whole_number_where_a_float_is_declared_comes_back_as_the_float_of_that_value() -> None:
    state = state_of(dict[str, float], {"a": 1, "b": 2**53})
    fresh: Any = type(state)()
    for piece in pieces_of(state):
        add_piece(fresh, piece)
    assert [(type(value), value) for value in fresh.field.values()] == [(float, 1.0), (float, 2.0**53)]


class TwoIndexes(msgspec.Struct):
    by_id: dict[int, Mutable] = {}
    open: list[Mutable] = []


class TwoPlainIndexes(msgspec.Struct):
    by_id: dict[int, Plain] = {}
    last: Plain | None = None


class TwoFrozenIndexes(msgspec.Struct):
    by_id: dict[int, Frozen] = {}
    last: Frozen | None = None
    plain: list[FrozenPlain] = []
    again: list[FrozenPlain] = []


class Trees(msgspec.Struct):
    roots: list[Node] = []


def test_one_object_that_may_change_and_is_held_twice_is_refused_because_it_would_come_back_as_two() -> None:
    shared = Mutable(1)
    with pytest.raises(TypeError, match=r"TwoIndexes.open holds one Mutable that is held in another place, too"):
        list(pieces_of(TwoIndexes({1: shared, 2: Mutable(2)}, [Mutable(3), shared])))
    with pytest.raises(TypeError, match=r"TwoIndexes.open holds one Mutable that is held in another place, too"):
        list(pieces_of(TwoIndexes({}, [shared, shared])))
    with pytest.raises(TypeError, match=r"TwoPlainIndexes.last holds one Plain that is held in another place, too"):
        list(pieces_of(TwoPlainIndexes({1: (plain := Plain(1))}, plain)))
    leaf = Node()
    with pytest.raises(TypeError, match=r"Trees.roots holds one Node that is held in another place, too"):
        list(pieces_of(Trees([Node([leaf]), leaf])))


def test_equal_objects_and_objects_that_never_change_may_be_held_twice() -> None:
    assert len(list(pieces_of(TwoIndexes({1: Mutable(1)}, [Mutable(1)])))) == 2
    frozen, plain = Frozen(1, ["a"]), FrozenPlain(1)
    assert len(list(pieces_of(TwoFrozenIndexes({1: frozen, 2: frozen}, frozen, [plain], [plain])))) == 4
    assert len(list(pieces_of(Trees([Node([Node()]), Node([Node()])])))) == 1


def test_what_is_refused_is_found_in_later_pieces_too() -> None:
    state = state_of(dict[str, int], {f"account-{number}": number for number in range(100_000)})
    state.field["account-99999"] = False  # type: ignore[attr-defined]
    made = pieces_of(state)
    next(made)
    with pytest.raises(TypeError, match=r"State.field holds a value of type bool"):
        list(made)


def test_a_state_that_holds_itself_is_refused() -> None:
    node = Node()
    node.children.append(node)
    with pytest.raises(RecursionError):
        list(pieces_of(Trees([node])))
