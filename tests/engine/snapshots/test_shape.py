"""Fingerprints: what makes a snapshot fit no more, and what does not."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest

from millstream.engine.snapshots.shape import fingerprint_of
from millstream.views import View, applies
from tests.engine.snapshots.states import Also, Happened

T = TypeVar("T")


def happened(self: Any, event: Happened) -> None: ...


def also(self: Any, event: Also) -> None: ...


def view(fields: dict[str, Any], *, code_version: int = 1, also_applies: bool = False, **more: Any) -> type[View]:
    """A view with these fields, defined anew each time."""
    methods: dict[str, Any] = {"happened": applies(happened)}
    if also_applies:
        methods["also"] = applies(also)
    namespace = {"__module__": __name__, "code_version": code_version, **methods, **more}
    names = [(name, annotation, msgspec.field(default=None)) for name, annotation in fields.items()]
    made: Any = msgspec.defstruct("State", names, bases=(View,), namespace=namespace)
    view: type[View] = made
    return view


def struct(name: str, fields: dict[str, Any], **options: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct(name, list(fields.items()), **options)


def enum(*values: str) -> Any:
    return Enum("Colour", {value.upper(): value for value in values})


def box(inner: Any) -> Any:
    return Box[Box[inner]]


class Box(msgspec.Struct, Generic[T]):
    value: T


def named(**fields: Any) -> Any:
    make: Any = NamedTuple
    return make("Pair", list(fields.items()))


def typed(**fields: Any) -> Any:
    make: Any = TypedDict
    return make("Options", fields)


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "another type": (int, str),
    "optional": (int, int | None),
    "another key": (dict[str, int], dict[int, int]),
    "another item": (list[dict[str, int]], list[dict[str, float]]),
    "a list and a set": (list[int], set[int]),
    "a tuple of another length": (tuple[int, int], tuple[int, int, int]),
    "fixed and any length": (tuple[int], tuple[int, ...]),
    "a union of others": (int | str, int | bytes),
    "a constraint": (Annotated[int, msgspec.Meta(ge=0)], int),
    "a field of an inner struct": (struct("In", {"a": int}), struct("In", {"a": int, "b": int})),
    "the type of an inner field": (list[struct("In", {"a": int})], list[struct("In", {"a": str})]),  # type: ignore[misc]
    "the type of a field deep inside": (
        dict[str, struct("Out", {"in": list[struct("In", {"a": int})]})],  # type: ignore[misc]
        dict[str, struct("Out", {"in": list[struct("In", {"a": int | None})]})],  # type: ignore[misc]
    ),
    "a tag": (struct("In", {"a": int}, tag="one"), struct("In", {"a": int}, tag="two")),
    "how it is written": (struct("In", {"a": int}), struct("In", {"a": int}, array_like=True)),
    "the order of an array": (
        struct("In", {"a": int, "b": int}, array_like=True),
        struct("In", {"b": int, "a": int}, array_like=True),
    ),
    "a name in the snapshot": (struct("In", {"a_b": int}), struct("In", {"a_b": int}, rename="camel")),
    "a default that is left out": (
        msgspec.defstruct("In", [("a", int, 1)], omit_defaults=True),
        msgspec.defstruct("In", [("a", int, 2)], omit_defaults=True),
    ),
    "a value of an enum": (enum("red", "green"), enum("red", "green", "blue")),
    "a value of a literal": (Literal["a", "b"], Literal["a", "c"]),
    "a type parameter deep inside": (box(int), box(str)),
    "a field of a named tuple": (named(left=int), named(left=str)),
    "the order of a named tuple": (named(left=int, right=int), named(right=int, left=int)),
    "a field of a typed dict": (typed(level=int), typed(level=str)),
    "what a class of its own holds": (deque[int], deque[str]),
    "what a class of its own deep inside holds": (dict[str, deque[int]], dict[str, deque[str]]),
    "what a function takes": (Callable[[int], int], Callable[[str], int]),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_states_of_another_shape_have_another_fingerprint(one: Any, other: Any) -> None:
    assert fingerprint_of(view({"field": one})) == fingerprint_of(view({"field": one}))
    assert fingerprint_of(view({"field": one})) != fingerprint_of(view({"field": other}))


def test_a_field_more_or_less_or_by_another_name_is_another_shape() -> None:
    found = {
        fingerprint_of(view(fields))
        for fields in ({}, {"a": int}, {"a": int, "b": int}, {"a": int, "c": int}, {"b": int})
    }
    assert len(found) == 5


def test_a_class_is_looked_at_once_and_not_kept_alive_for_that() -> None:
    cls = view({"field": int})
    assert fingerprint_of(cls) is fingerprint_of(cls)
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None


def test_another_code_version_or_set_of_events_is_another_fingerprint() -> None:
    fields = {"a": int}
    found = {
        fingerprint_of(view(fields)),
        fingerprint_of(view(fields, code_version=2)),
        fingerprint_of(view(fields, also_applies=True)),
    }
    assert len(found) == 3


SAME: dict[str, tuple[Any, Any]] = {
    "an inner struct of another name": (struct("One", {"a": int}), struct("Two", {"a": int})),
    "fields in another order": (struct("In", {"a": int, "b": str}), struct("In", {"b": str, "a": int})),
    "a default that is written": (msgspec.defstruct("In", [("a", int, 1)]), msgspec.defstruct("In", [("a", int, 2)])),
    "a union in another order": (int | str | None, None | str | int),
    "values in another order": (enum("red", "green"), enum("green", "red")),
    "literals in another order": (Literal["a", "b"], Literal["b", "a"]),
    "what is said about it": (int, Annotated[int, msgspec.Meta(description="many", extra={"by": object()})]),
    "another module": (struct("In", {"a": int}, module="one"), struct("In", {"a": int}, module="two")),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_what_makes_no_difference_to_a_state_makes_none_to_the_fingerprint(one: Any, other: Any) -> None:
    assert fingerprint_of(view({"field": one})) == fingerprint_of(view({"field": other}))


def test_methods_docstrings_and_the_order_of_fields_make_no_difference() -> None:
    def answer(self: Any) -> int:
        return 3

    plain = fingerprint_of(view({"a": int, "b": str}))
    assert fingerprint_of(view({"b": str, "a": int})) == plain
    assert fingerprint_of(view({"a": int, "b": str}, answer=answer, __doc__="It says more.")) == plain
    assert fingerprint_of(view({"a": int, "b": str}, limit=3, __module__="elsewhere")) == plain


class Node(msgspec.Struct):
    name: str
    children: list[Node] = []


class Branch(msgspec.Struct):
    name: str
    children: list[Branch] = []
    leaves: int = 0


class Outer(msgspec.Struct):
    inner: ToOuter | None = None


class ToOuter(msgspec.Struct):
    back: Outer | None = None


class OuterToo(msgspec.Struct):
    inner: ToItself | None = None


class ToItself(msgspec.Struct):
    back: ToItself | None = None


def test_types_that_hold_themselves_at_another_depth_have_another_fingerprint() -> None:
    assert fingerprint_of(view({"a": Outer})) != fingerprint_of(view({"a": OuterToo}))


def test_a_type_that_holds_itself_has_a_fingerprint() -> None:
    assert fingerprint_of(view({"a": Node})) == fingerprint_of(view({"a": Node}))
    assert fingerprint_of(view({"a": Node})) != fingerprint_of(view({"a": Branch}))


class Unresolved(View):
    limit: ClassVar[int] = 3
    field: NotThere | None = None  # type: ignore[name-defined]  # noqa: F821
    happened = applies(happened)


class UnresolvedToo(View):
    field: NotThereEither | None = None  # type: ignore[name-defined]  # noqa: F821
    happened = applies(happened)


class Refused(View):
    field: bytes | str | int = 3
    happened = applies(happened)


def test_a_type_that_msgspec_refuses_is_taken_as_it_is_written() -> None:
    found = {fingerprint_of(Unresolved), fingerprint_of(UnresolvedToo), fingerprint_of(Refused)}
    assert len(found) == 3


class Own:
    """No Struct at all."""

    __appliers__: ClassVar[Any] = {}
    code_version: ClassVar[int] = 1

    def snapshot(self) -> Iterator[bytes] | None:
        return None

    def restore(self, piece: bytes) -> None: ...


class OwnOfTwo(Own):
    code_version = 2


def test_a_state_that_is_no_struct_has_a_fingerprint() -> None:
    assert fingerprint_of(Own) == fingerprint_of(Own)
    assert fingerprint_of(Own) != fingerprint_of(OwnOfTwo)


SCRIPT = """
from millstream.engine.snapshots.shape import fingerprint_of
from tests.engine.snapshots.states import Everything
from tests.shop import shop
print(*map(fingerprint_of, [Everything, *shop.models, *shop.views]), sep="\\n")
"""


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_a_fingerprint_is_the_same_in_another_process_whatever_its_hash_seed(seed: str) -> None:
    from tests.engine.snapshots.states import Everything
    from tests.shop import shop

    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    told = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    classes: list[Any] = [Everything, *shop.models, *shop.views]
    assert told.stdout.splitlines() == [fingerprint_of(cls) for cls in classes]
