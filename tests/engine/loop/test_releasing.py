"""Letting go of states in steps."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from typing import Any

import msgspec

from millstream.engine.application.messages import Receipt
from millstream.engine.loop.releasing import drained
from millstream.engine.write.index import WriteIndex


class State(msgspec.Struct):
    counts: dict[str, int] = {}
    names: list[str] = []
    seen: set[int] = set()
    number: int = 3


class Child(State):
    more: dict[int, int] = {}


class Odd:
    def __init__(self) -> None:
        self.counts = Counter("aabb")
        self.groups: defaultdict[str, list[int]] = defaultdict(list, a=[1])
        self.order = OrderedDict(a=1, b=2)


def test_every_collection_of_a_state_is_emptied_a_little_at_each_step() -> None:
    state = Child(dict.fromkeys(map(str, range(1_000)), 1), ["a"] * 1_000, set(range(1_000)), more={1: 1})
    left = [len(state.counts) + len(state.names) + len(state.seen) + len(state.more) for _ in drained(state)]
    assert len(left) == 3 * (4 + 1) + (1 + 1)
    assert all(before - after <= 256 for before, after in zip([3_001, *left], left, strict=False))
    assert state == Child()


def test_states_that_are_no_structs_are_emptied_too() -> None:
    odd = Odd()
    for _ in drained(odd):
        pass
    assert (odd.counts, odd.groups, odd.order) == (Counter(), {}, OrderedDict())


def test_a_ledger_is_emptied() -> None:
    write_index = WriteIndex(receipts_max=10)
    write_index.count("ann", None, 3)
    write_index.remember("id", "digest", Receipt(1, 1, 1, "id"), None)
    for _ in drained(write_index):
        pass
    assert (write_index.versions, write_index.receipts) == ({}, [])


CONSTANT: dict[str, int] = {"a": 1}


def test_what_is_held_elsewhere_too_is_left_as_it_is() -> None:
    state = State(counts=CONSTANT, names=["a"])
    for _ in drained(state):
        pass
    assert CONSTANT == {"a": 1}
    assert state.names == []


class Own(dict[str, int]):
    def popitem(self) -> Any:
        raise AssertionError("its own rules are not asked for")


def test_a_collection_with_rules_of_its_own_is_left_as_it_is() -> None:
    state = State(counts=Own(a=1))
    for _ in drained(state):
        pass
    assert state.counts == {"a": 1}
