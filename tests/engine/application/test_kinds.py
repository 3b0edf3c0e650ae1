"""What the values of a type can be like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest

from millstream.engine.application.kinds import hides_nan, kind_of, nests


class Flat(msgspec.Struct):
    name: str
    size: float


class Node(msgspec.Struct):
    children: list[Node] = []


class Far(msgspec.Struct):
    near: Near | None = None


class Near(msgspec.Struct):
    far: tuple[Far, ...] = ()


@dataclass
class Maybe:
    size: float | None = None


class Pair(NamedTuple):
    left: Flat
    right: Maybe


class Free(TypedDict):
    what: Any


@pytest.mark.parametrize(
    "annotation", [Any, dict, list, dict[str, Any], object, Node, Far, Near, Free, msgspec.Raw, list[Node] | None]
)
def test_what_holds_anything_or_itself_can_nest_without_end(annotation: Any) -> None:
    assert nests(kind_of(annotation))


@pytest.mark.parametrize("annotation", [int, str, Flat, Maybe, Pair, dict[str, list[Flat]], tuple[Flat, Flat]])
def test_other_types_are_as_deep_as_they_are_written(annotation: Any) -> None:
    assert not nests(kind_of(annotation))


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        Maybe,
        Pair,
        Free,
        float | None,
        Annotated[float, msgspec.Meta(ge=0)] | None,
        Annotated[float | None, msgspec.Meta(description="perhaps")],
        list[dict[str, float | int | None]],
    ],
)
def test_a_float_beside_none_or_in_any_hides_a_nan(annotation: Any) -> None:
    assert hides_nan(kind_of(annotation))


@pytest.mark.parametrize(
    "annotation", [float, Flat, Node, int | None, list[float], dict[str, float | str], Flat | None]
)
def test_a_float_that_is_always_there_hides_none_because_reading_refuses_null(annotation: Any) -> None:
    assert not hides_nan(kind_of(annotation))


def test_of_a_type_that_can_not_be_described_anything_is_expected() -> None:
    assert nests(kind_of("NotThere"))
