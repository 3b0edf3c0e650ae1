"""The same random histories on a table, and on a plain dict that is sorted and filtered: every answer is the same."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from millstream.engine import Event
from millstream.views import TableView, applies
from millstream.views.table.text import words_of


class Thing(msgspec.Struct, frozen=True):
    key: int
    kind: str = "a"
    size: float = 0.0
    note: str = ""


class Changes(Event):
    """Things to put, keys to remove, and whether the method raises in the end."""

    puts: tuple[Thing, ...]
    removes: tuple[int, ...]
    raises: bool


class Boom(Exception):
    pass


class Things(TableView[Thing]):
    key: ClassVar = "key"
    indexes: ClassVar = ("kind", ("kind", "size"))
    ordered: ClassVar = ("size", ("kind", "size"), "key")
    text: ClassVar = ("note", "kind")

    @applies
    def changed(self, event: Changes) -> None:
        for thing in event.puts:
            if self.get(thing.key) is None:
                self.put(thing)
            else:
                self.change(thing.key, lambda old, new=thing: replace(new, key=old.key))  # type: ignore[misc]
        for key in event.removes:
            self.remove(key)
        if event.raises:
            raise Boom


_KINDS = st.sampled_from(("a", "b", "bc"))
_SIZES = st.integers(-2, 4).map(float)
_KEYS = st.integers(0, 12)
_THINGS = st.builds(Thing, _KEYS, _KINDS, _SIZES, st.sampled_from(("", "some thing", "somewhat", "Thing B")))


def _key(thing: Thing) -> int:
    return thing.key


class TableAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table = Things()
        self.model: dict[int, Thing] = {}

    @rule(puts=st.lists(_THINGS, max_size=6), removes=st.lists(_KEYS, max_size=4), raises=st.booleans())
    def apply(self, puts: list[Thing], removes: list[int], raises: bool) -> None:
        event = Changes(tuple(puts), tuple(removes), raises)
        try:
            Things.__appliers__[Changes].function(self.table, event)
        except Boom:
            assert raises
            return
        self.model |= {thing.key: thing for thing in puts}
        for key in removes:
            self.model.pop(key, None)

    @rule()
    def restart(self) -> None:
        pieces = list(self.table.snapshot() or ())
        before, self.table = self.table, Things()
        for piece in pieces:
            self.table.restore(piece)
        assert self.table == before

    @rule(kind=_KINDS, size=_SIZES, key=_KEYS)
    def find(self, kind: str, size: float, key: int) -> None:
        for equal in ({"kind": kind}, {"kind": kind, "size": size}, {"size": size}, {"key": key}):
            expected = [
                thing
                for thing in sorted(self.model.values(), key=_key)
                if all(getattr(thing, name) == value for name, value in equal.items())
            ]
            assert self.table.find(**equal) == tuple(expected)
            assert self.table.count(**equal) == len(expected)
        assert self.table.get(key) == self.model.get(key)

    @rule(
        kind=st.one_of(st.none(), _KINDS),
        low=st.one_of(st.none(), _SIZES),
        below=st.one_of(st.none(), _SIZES),
        descending=st.booleans(),
        limit=st.integers(1, 5),
    )
    def ranges(self, kind: str | None, low: float | None, below: float | None, descending: bool, limit: int) -> None:
        asked: dict[str, Any] = {"low": low, "below": below}
        if kind is not None:
            asked["where"] = {"kind": kind}
        expected = sorted(
            (
                thing
                for thing in self.model.values()
                if kind in (None, thing.kind)
                and (low is None or thing.size >= low)
                and (below is None or thing.size < below)
            ),
            key=lambda thing: (thing.size, thing.key),
            reverse=descending,
        )
        assert self.table.between("size", descending=descending, **asked) == tuple(expected)
        assert self.table.count_between("size", **asked) == len(expected)
        seen: list[Thing] = []
        page = self.table.page("size", descending=descending, limit=limit, **asked)
        while page.next is not None:
            assert len(page.rows) == limit
            seen += page.rows
            page = self.table.page("size", descending=descending, limit=limit, after=page.next, **asked)
        assert [*seen, *page.rows] == expected

    @rule(text=st.sampled_from(("some", "thing", "some th", "b", "thing b", "a", "nowhere", "")))
    def search(self, text: str) -> None:
        *whole, beginning = words_of(text) or [""]
        expected = set()
        for thing in self.model.values():
            words = {*words_of(thing.note), *words_of(thing.kind)}
            if beginning and words.issuperset(whole) and any(word.startswith(beginning) for word in words):
                expected.add(thing)
        found = self.table.search(text)
        assert set(found) == expected
        assert len(found) == len(expected)

    @invariant()
    def the_rows_are_those_of_the_dict_and_the_indexes_those_of_the_rows(self) -> None:
        assert {thing.key: thing for thing in self.table.rows()} == self.model
        fresh = Things()
        for thing in self.model.values():
            fresh.put(thing)
        assert fresh == self.table


TestTableAgainstDict = TableAgainstDict.TestCase
TestTableAgainstDict.settings = settings(max_examples=150, stateful_step_count=30)
