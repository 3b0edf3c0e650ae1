"""Copies of what can change, and none of what can't."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given

from millstream.engine import Event, Key
from millstream.engine.application.copies import copier, own, with_own_answer, with_own_event
from tests.engine.snapshots.states import FREE, form


class Color(Enum):
    RED = "red"


class Point(msgspec.Struct, frozen=True):
    x: int = 0


class Line(msgspec.Struct, frozen=True):
    points: list[Point] = []


class Pen(msgspec.Struct):
    colour: str = "red"


class Node(msgspec.Struct):
    children: list[Node] = []


@dataclass(frozen=True)
class Box:
    names: list[str]


class Pair(NamedTuple):
    left: list[int]
    right: int


class Free(TypedDict, total=False):
    what: list[int]


class Still(Event):
    key: Key
    at: datetime
    points: tuple[Point, ...]
    names: frozenset[str]
    size: float | None


class Moving(Event):
    key: Key
    names: list[str] = []
    sizes: dict[str, list[int]] = {}
    groups: set[int] = set()
    raw: bytearray = msgspec.field(default_factory=bytearray)
    line: Line = Line()
    pens: tuple[Pen, ...] = ()
    tree: Node = msgspec.field(default_factory=Node)
    box: Box | None = None
    pair: Pair = Pair([], 0)
    typed: Free = {}
    free: Any = None


class Loose(Event, frozen=False):  # type: ignore[misc]
    key: Key


def full() -> Moving:
    return Moving(
        "k",
        ["a"],
        {"a": [1]},
        {1},
        bytearray(b"a"),
        Line([Point(1)]),
        (Pen(), Pen("blue")),
        Node([Node(), Node([Node()])]),
        Box(["a"]),
        Pair([1], 2),
        {"what": [1]},
        {"a": [1, {"b": None}], "c": (1, [2]), "d": Decimal(1), "e": datetime(2026, 1, 1, tzinfo=UTC)},
    )


def changing_in(value: Any) -> dict[int, Any]:
    """Everything in a value that can change, by its identity."""
    if isinstance(value, msgspec.Struct):
        inside = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, Box):
        inside = [value.names]
    elif isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        inside = list(value)
    else:
        inside = []
    found = {key: each for one in inside for key, each in changing_in(one).items()}
    if isinstance(value, list | dict | set | bytearray | Pen | Node):
        found[id(value)] = value
    return found


@pytest.mark.parametrize("copied", [copier(Moving), own])
def test_a_copy_is_equal_and_shares_nothing_that_can_change(copied: Any) -> None:
    first = full()
    second = copied(first)
    assert form(second) == form(first)
    assert len(changing_in(first)) == 24
    assert changing_in(first).keys().isdisjoint(changing_in(second))


@given(FREE)
def test_a_copy_of_whatever_an_any_holds_is_equal_and_shares_nothing_that_can_change(value: Any) -> None:
    copied = own(value)
    assert form(copied) == form(value)
    assert changing_in(value).keys().isdisjoint(changing_in(copied))


def test_what_can_not_change_by_its_type_is_not_copied_and_not_even_looked_at() -> None:
    def apply(state: Any, event: Any) -> None: ...

    assert copier(Still) is None
    assert with_own_event(apply, Still) is apply
    assert with_own_answer(apply, tuple[Point, ...] | None) is apply
    assert with_own_event(apply, Moving) is not apply
    assert with_own_event(apply, Loose) is not apply
    assert with_own_answer(apply, list[int]) is not apply


class Cart:
    """msgspec does not know it."""

    def __init__(self, *items: str) -> None:
        self.items = list(items)


class Carts(list[Cart]):
    pass


class Couple(tuple[Any, Any]):
    pass


def test_what_is_of_a_class_that_nobody_knows_is_copied_as_deep_as_it_goes() -> None:
    cart, inside = Cart("a"), defaultdict(list, {"b": ["c"]})
    one, (two,), three, four, kept = own([cart, Carts([cart]), Couple((cart, 1)), inside, Color.RED])
    for copied in (one, two, three[0]):
        assert (type(copied), copied.items) == (Cart, ["a"])
        assert copied.items is not cart.items
    assert (four, four["b"] is inside["b"], kept) == (inside, False, Color.RED)


def test_what_nobody_can_have_a_copy_of_is_refused() -> None:
    with pytest.raises(TypeError, match="it holds a generator, which can't be copied"):
        own({"a": [1], "b": (each for each in range(3))})


class Deep(Event):
    what: Any


def test_what_is_nested_more_deeply_than_calls_may_be_is_copied_all_the_same() -> None:
    value: Any = []
    for _ in range(900):
        value = [value]
    seen: list[Any] = []

    def apply(state: Any, event: Deep) -> None:
        seen.append(event.what)

    with_own_event(apply, Deep)(None, Deep(value))
    assert msgspec.json.encode(seen[0]) == msgspec.json.encode(value)
    assert seen[0] is not value
