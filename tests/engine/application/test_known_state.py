"""A model or view has no state but its fields."""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import pytest

from millstream.engine import DefinitionError
from millstream.handlers import WriteModel
from millstream.views import View


class Counted:
    count: int = 0


class Bare:
    count: int


class Holding:
    accounts = {}  # type: ignore[var-annotated]


class Point(msgspec.Struct):
    x: int = 0


@dataclasses.dataclass
class Plain:
    x: int = 0


class Solid(msgspec.Struct, frozen=True):
    x: int = 0


class CountedStruct(msgspec.Struct):
    count: int = 0


class Helpers:
    limit = 3
    LIMITS: ClassVar[dict[str, int]] = {"a": 1}

    def doubled(self) -> int:
        return self.limit * 2


def make(base: type, *mixins: type, **attributes: Any) -> Any:
    body = {"__module__": __name__, "__qualname__": "Made", **attributes}
    return types.new_class("Made", (*mixins, base), {}, lambda namespace: namespace.update(body))


BASES = pytest.mark.parametrize("base", [WriteModel, View])


@BASES
@pytest.mark.parametrize("mixin", [Counted, Bare])
def test_an_annotated_attribute_of_a_mixin_that_is_no_struct_is_refused_by_its_name(base: type, mixin: type) -> None:
    with pytest.raises(DefinitionError, match=r"'count' looks like a field .*\(msgspec.Struct\)") as raised:
        make(base, mixin)
    assert f"test_known_state.{mixin.__name__} and tests.engine.application.test_known_state.Made" in str(raised.value)


@BASES
@pytest.mark.parametrize(
    "value",
    [{}, [], set(), bytearray(), deque(), Counter(), itertools.count(), iter([1]), Point(), Plain()],
    ids=lambda value: type(value).__name__,
)
def test_what_changes_and_has_no_annotation_is_refused_by_its_name(base: type, value: Any) -> None:
    with pytest.raises(DefinitionError, match=rf"'accounts' changes, .* write accounts: {type(value).__name__}\["):
        make(base, accounts=value)


@BASES
def test_the_same_in_a_mixin_is_refused_with_both_places(base: type) -> None:
    with pytest.raises(DefinitionError, match=r"'accounts' changes, .*test_known_state.Holding and .*Made"):
        make(base, Holding)


@BASES
def test_a_state_that_may_hold_any_attribute_is_refused(base: type) -> None:
    with pytest.raises(DefinitionError, match=r"dict=True lets a state hold attributes that no snapshot has.*Made"):
        types.new_class("Made", (base,), {"dict": True}, lambda body: body.update(__qualname__="Made"))


@BASES
def test_constants_methods_and_mixins_of_methods_are_what_they_were(base: type) -> None:
    made = make(
        base,
        Helpers,
        LIMIT=3,
        NAMES=("a", "b"),
        SOLID=Solid(),
        kinds=frozenset("ab"),
        code_version=2,
        table={"a": 1},
        __annotations__={"table": ClassVar[dict[str, int]]},
        other=property(lambda self: 3),
    )
    assert (made().doubled(), made.LIMIT, made().other) == (6, 3, 3)


@BASES
def test_fields_of_a_mixin_that_is_a_struct_are_fields(base: type) -> None:
    made = make(base, CountedStruct, __annotations__={"sizes": dict[str, int]}, sizes={})
    assert made.__struct_fields__ == ("count", "sizes") or made.__struct_fields__ == ("sizes", "count")
    assert made().sizes is not made().sizes


def test_a_class_below_a_model_is_looked_at_too() -> None:
    class Parent(WriteModel):
        sizes: dict[str, int] = {}

        def each(self) -> Iterator[int]:
            yield from self.sizes.values()

    with pytest.raises(DefinitionError, match="'more' changes"):
        make(Parent, more=[])
