"""Watches of rows: whoever keeps what it is told has, at each position, what the query answers there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from millstream.engine import (
    AnswerFailed,
    App,
    Command,
    Engine,
    EngineClosed,
    Event,
    InvalidMessage,
    Query,
    RowChanges,
    UnknownMessage,
    ViewFaulted,
)
from millstream.engine.application.row_changes import changes_between, rows_by_key
from millstream.handlers import WriteModel, handles
from millstream.views import TableView, View, answers, applies
from tests.desk import Seen

pytestmark = pytest.mark.anyio


class Thing(msgspec.Struct, frozen=True, rename="camel"):
    the_key: int
    tags: frozenset[str] = frozenset()
    size: int = 0


class Put(Command):
    things: tuple[Thing, ...] = ()
    gone: tuple[int, ...] = ()


class Happened(Event):
    things: tuple[Thing, ...]
    gone: tuple[int, ...]


class Everything(Query[list[Thing]]):
    pass


class Large(Query[tuple[Thing, ...]]):
    least: int


class Total(Query[int]):
    pass


class Twice(Query[list[Thing]]):
    pass


class Untyped(Query[list[dict[str, int]]]):
    pass


class Stored(Query[list[Thing]]):
    pass


class Sparse(msgspec.Struct, frozen=True, omit_defaults=True):
    number: int = 0
    share: float = 0.0


class Listed(msgspec.Struct, frozen=True, array_like=True):
    number: int


class SparseRows(Query[list[Sparse]]):
    pass


class ListedRows(Query[list[Listed]]):
    pass


class Model(WriteModel):
    @handles
    def put(self, command: Put) -> Iterator[Happened]:
        yield Happened(command.things, command.gone)


class Things(TableView[Thing]):
    key: ClassVar = "the_key"
    indexes: ClassVar = ("size",)

    @applies
    def happened(self, event: Happened) -> None:
        for each in event.things:
            self.put(each)
        for gone in event.gone:
            self.remove(gone)

    @answers
    def all(self, query: Everything) -> list[Thing]:
        return list(self.rows())

    @answers
    def large(self, query: Large) -> tuple[Thing, ...]:
        return tuple(each for each in self.rows() if each.size >= query.least)

    @answers
    def total(self, query: Total) -> int:
        return self.count()

    @answers
    def untyped(self, query: Untyped) -> list[dict[str, int]]:
        return []


class Plain(View):
    """No table, though it has a field of that name."""

    key: str = "nothing"
    things: list[Thing] = []

    @applies
    def happened(self, event: Happened) -> None:
        if any(each.size == 666 for each in event.things):
            raise ValueError("no such size")
        self.things += event.things

    @answers
    def twice(self, query: Twice) -> list[Thing]:
        return self.things + self.things[:1]

    @answers
    def sparse(self, query: SparseRows) -> list[Sparse]:
        return [Sparse(each.the_key, math.nan if each.size == 5 else 0.0) for each in self.things]

    @answers
    def listed(self, query: ListedRows) -> list[Listed]:
        return [Listed(each.the_key) for each in self.things]

    @answers
    def stored(self, query: Stored) -> list[Thing]:
        return self.things


app = App(models=[Model], views=[Things, Plain], name="things")


class Kept:
    """Whoever keeps what it is told."""

    def __init__(self) -> None:
        self.rows: dict[Any, Thing] = {}
        self.position = -1
        self.changes: list[RowChanges[Thing]] = []

    def take(self, change: RowChanges[Thing]) -> None:
        assert change.position >= self.position
        assert change.whole is (not self.changes)
        assert change.key == "the_key"
        if change.whole:
            self.rows.clear()
        self.rows.update((each.the_key, each) for each in change.put)
        for key in change.removed:
            del self.rows[key]
        self.position = change.position
        self.changes.append(change)


async def test_all_rows_come_first_and_then_those_that_changed_alone() -> None:
    async with Engine(app, log="memory:") as engine:
        await engine.execute(Put((Thing(1), Thing(2, frozenset("ab")), Thing(3))))
        async with engine.watch_rows(Everything(), after=1) as changes:
            first = await anext(changes)
            assert (first.whole, first.position, len(first.put), first.removed) == (True, 1, 3, ())
            await engine.execute(Put((Thing(2, frozenset("ba"), 7), Thing(4)), gone=(3,)))
            assert await anext(changes) == RowChanges(
                (Thing(2, frozenset("ab"), 7), Thing(4)), (3,), 2, False, "the_key"
            )
            await engine.execute(Put((Thing(1),)))  # it is what it was: nothing to tell
            await engine.execute(Put(gone=(1,)))
            assert await anext(changes) == RowChanges((), (1,), 4, False, "the_key")


async def test_a_row_that_leaves_the_answer_is_gone_and_whoever_gives_up_may_ask_again() -> None:
    async with Engine(app, log="memory:") as engine, engine.watch_rows(Large(5)) as changes:
        assert await anext(changes) == RowChanges((), (), 0, True, "the_key")
        with anyio.move_on_after(0.001):
            await anext(changes)
        await engine.execute(Put((Thing(1, size=9), Thing(2, size=1))))
        assert (await anext(changes)).put == (Thing(1, size=9),)
        await engine.execute(Put((Thing(1, size=4),)))
        assert (await anext(changes)).removed == (1,)


things = st.builds(Thing, st.integers(0, 8), st.frozensets(st.sampled_from("abc")), st.integers(0, 9))
puts = st.builds(Put, st.lists(things, max_size=3).map(tuple), st.lists(st.integers(0, 8), max_size=2).map(tuple))


@given(st.lists(st.tuples(st.lists(puts, min_size=1, max_size=4), st.booleans()), max_size=12))
@settings(max_examples=40, deadline=None)
def test_whoever_keeps_what_it_is_told_has_what_the_query_answers(rounds: list[tuple[list[Put], bool]]) -> None:
    async def run() -> None:
        async with (
            Engine(app, log="memory:") as engine,
            engine.watch_rows(Large(3)) as slow,
            engine.watch_rows(Large(3)) as quick,
        ):
            kept, kept_slowly = Kept(), Kept()
            kept.take(await anext(quick))
            for commands, is_slow_one_to_look in rounds:
                (*_, receipt) = [await engine.execute(each) for each in commands]
                expected = await engine.ask(Large(3), after=receipt)
                for each, changes in ((kept, quick), *([(kept_slowly, slow)] if is_slow_one_to_look else [])):
                    while not each.changes or set(each.rows.values()) != set(expected):
                        with anyio.fail_after(5):
                            each.take(await anext(changes))

    anyio.run(run)


async def test_those_who_watch_the_same_share_what_is_compared() -> None:
    async with Engine(app, log="memory:") as engine:
        watches = [await engine.open_row_watch(Everything()) for _ in range(5)]
        first = [await watch.next() for watch in watches]
        await engine.execute(Put((Thing(1),)))
        second = [await watch.next() for watch in watches]
        assert all(each[0] is first[0][0] for each in first)
        assert all(each[0] is second[0][0] for each in second)
        for watch in watches:
            watch.close()
        assert engine.stats().views["Things"].watches == 0


@pytest.mark.parametrize(
    ("query", "key", "problem"),
    [
        (Total(), None, "its answer is no list of rows"),
        (Untyped(), None, "its answer is no list of rows"),
        (Everything(), "size_of", "its rows, Thing, have no field 'size_of'"),
        (Everything(), "", "its rows, Thing, have no field ''"),
        (ListedRows(), "number", "its rows, Listed, are arrays in JSON"),
        (Stored(), None, "its view is no table, so say which field identifies a row: key='the_key'"),
    ],
)
async def test_what_is_no_list_of_rows_is_told(query: Query[Any], key: str | None, problem: str) -> None:
    async with Engine(app, log="memory:") as engine:
        with pytest.raises(InvalidMessage, match=problem):
            async with engine.watch_rows(query, key=key):
                pass
        with pytest.raises(InvalidMessage, match=problem):
            await engine.open_row_watch(query, key=key)


async def test_another_view_s_rows_are_told_apart_by_the_field_that_is_named() -> None:
    async with Engine(app, log="memory:") as engine:
        await engine.execute(Put((Thing(1),)))
        async with engine.watch_rows(Stored(), key="the_key", after=1) as changes:
            assert (await anext(changes)).put == (Thing(1),)
            await engine.execute(Put((Thing(2),)))
            assert (await anext(changes)).put == (Thing(2),)
        async with engine.watch_rows(Twice(), key="the_key") as changes:
            with pytest.raises(AnswerFailed, match="1 rows have a theKey that another one has, too"):
                await anext(changes)


async def test_a_key_that_is_left_out_of_json_is_the_default_and_what_is_not_promised_is_told() -> None:
    async with Engine(app, log="memory:") as engine:
        await engine.execute(Put((Thing(0), Thing(3))))
        async with engine.watch_rows(SparseRows(), key="number", after=1) as changes:
            assert (await anext(changes)).put == (Sparse(0), Sparse(3))
            await engine.execute(Put((Thing(4, size=5),)))  # NaN is null in JSON
            with pytest.raises(AnswerFailed, match="its rows are not what the query promises"):
                await anext(changes)
        async with engine.watch_rows(Everything(), key="theKey") as things:
            assert (await anext(things)).key == "the_key"


async def test_a_watch_of_rows_ends_as_any_watch_does() -> None:
    async with Engine(app, log="memory:") as engine:
        with pytest.raises(UnknownMessage):
            await engine.open_row_watch(Seen())
        async with engine.watch_rows(Stored(), key="the_key") as changes:
            await anext(changes)
            await engine.execute(Put((Thing(1, size=666),)))
            with pytest.raises(ViewFaulted):
                await anext(changes)
        watch = await engine.open_row_watch(Everything())
        await watch.next()
    with pytest.raises(EngineClosed):
        await watch.next()


def test_changes_of_nothing_are_none() -> None:
    rows = rows_by_key(b'[{"k":1,"v":[1]},{"k":"x","v":2}]', "k")
    assert changes_between("k", rows, dict(rows)) is None
    changed = changes_between("k", rows, rows_by_key(b'[{"k":1,"v":[2]}]', "k"))
    assert changed is not None
    assert (changed.put, changed.removed) == ([Raw(b'{"k":1,"v":[2]}')], [Raw(b'"x"')])
    with pytest.raises(msgspec.ValidationError):
        rows_by_key(b'[{"v":1}]', "k")
