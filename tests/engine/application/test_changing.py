"""An author hears once of an event that can change, and how to spell it so that it can't."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from millstream.engine import App, ChangingEventWarning, Command, Event, Key
from millstream.engine.application.changing import immutable_spellings
from millstream.handlers import WriteModel, applies, handles


class Seat(msgspec.Struct):
    number: int


class Row(msgspec.Struct, frozen=True):
    seats: list[Seat]


@dataclass
class Box:
    what: str


class Pair(NamedTuple):
    left: list[int]
    right: int


class Free(TypedDict):
    what: str


class Spelled(Event):
    key: Key
    many: list[str | None]
    several: set[Decimal] | None
    by_name: dict[str, list[float]]
    bytes_of: bytearray
    pairs: list[tuple[int, Literal["a", "b"]]]
    row: Row | None
    box: Box
    pair: Pair
    free: tuple[Free, ...]
    anything: Any


class Still(Event):
    key: Key
    names: tuple[str, ...]
    sizes: frozenset[int]
    anything: Any


def test_each_place_that_can_change_is_spelled_as_it_could_not() -> None:
    assert immutable_spellings(Spelled) == [
        "Spelled.many: tuple[str | None, ...]",
        "Spelled.several: frozenset[Decimal] | None",
        "Spelled.by_name: tuple[tuple[str, tuple[float, ...]], ...]",
        "Spelled.bytes_of: bytes",
        "Spelled.pairs: tuple[tuple[int, Literal['a', 'b']], ...]",
        "Row.seats: tuple[Seat, ...]",
        "Seat: with frozen=True",
        "Box: with frozen=True",
        "Pair.left: tuple[int, ...]",
        "Free: a class with frozen=True",
    ]
    assert immutable_spellings(Still) == []


class Do(Command):
    key: Key


def application(event: type[Event]) -> App:
    class Model(WriteModel):
        @handles
        def do(self, command: Do) -> Iterator[Event]:
            yield from ()

        @applies
        def done(self, event: event) -> None: ...  # type: ignore[valid-type]

    return App(models=[Model])


def test_it_is_told_where_the_app_is_made_once_for_each_class() -> None:
    class Listed(Event):
        key: Key
        names: list[str]

    globals().update(event=Listed)
    with pytest.warns(ChangingEventWarning) as told:
        application(Listed)
    assert [str(each.message) for each in told] == [
        "Listed holds what can change, so each model and view that applies it gets a copy; what can't change is shared: "
        "Listed.names: tuple[str, ...]"
    ]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        application(Listed)
        globals().update(event=Still)
        application(Still)
