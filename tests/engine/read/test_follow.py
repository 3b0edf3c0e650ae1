"""Following what happens: in order, without a gap, as it is understood today; from wherever somebody stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import (
    App,
    Command,
    Engine,
    EngineClosed,
    Event,
    Following,
    Happened,
    InvalidMessage,
    Key,
    LimitReached,
    Limits,
    Metadata,
    Replica,
    UnknownMessage,
)
from millstream.handlers import Retired, WriteModel, applies, handles
from tests.stores import MemoryPlace, SqlitePlace
from tests.support import start, until

pytestmark = pytest.mark.anyio


class Sold(Event):
    item: Key
    count: int


class Noted(Event):
    text: str


class Sell(Command):
    item: Key
    count: int = 1
    times: int = 1


class Note(Command):
    text: str


class Desk(WriteModel):
    @handles
    def sell(self, command: Sell) -> Iterator[Sold]:
        for _ in range(command.times):
            yield Sold(command.item, command.count)

    @handles
    def note(self, command: Note) -> Iterator[Noted]:
        yield Noted(command.text)

    @applies
    def sold(self, event: Sold) -> None: ...

    @applies
    def noted(self, event: Noted) -> None: ...


desk = App(models=[Desk], name="desk")


async def take(following: Following[Any], count: int) -> list[Happened[Any]]:
    found = []
    with anyio.fail_after(20):
        async for happened in following:
            found.append(happened)
            if len(found) == count:
                return found
    return found


async def test_what_was_there_and_then_what_happens_comes_in_order_with_what_the_log_says() -> None:
    async with Engine(desk, log="memory:") as engine:
        await engine.execute_many([Sell("a", 1), Note("hello"), Sell("b", 2)], metadata=Metadata("ann"))
        following = engine.follow()
        there = await take(following, 3)
        assert [(each.about.position, each.event, each.about.actor) for each in there] == [
            (1, Sold("a", 1), "ann"),
            (2, Noted("hello"), "ann"),
            (3, Sold("b", 2), "ann"),
        ]
        async with anyio.create_task_group() as group:
            later = start(group, take(following, 2))
            await engine.execute(Sell("c", 3))
            await engine.execute(Note("bye"))
        assert [each.event for each in later.value] == [Sold("c", 3), Noted("bye")]


async def test_types_and_keys_leave_others_out_and_the_position_moves_all_the_same() -> None:
    async with Engine(desk, log="memory:") as engine:
        await engine.execute_many([Sell("a", 1), Note("x"), Sell("b", 2), Sell("a", 3), Note("y")])
        sold = engine.follow(types=[Sold], keys=["a"])
        assert [each.event.count for each in await take(sold, 2)] == [1, 3]
        async for page in engine.follow(types=[Sold], keys=["nobody"]).pages():
            assert (page.happened, page.position) == ([], 5)
            break
        async with anyio.create_task_group() as group:
            asked = start(group, take(engine.follow(after=5, keys=["b"]), 1))
            receipt = await engine.execute(Sell("b", 7))
        assert [each.about.position for each in asked.value] == [receipt.position]


@pytest.mark.parametrize("after", range(8))
async def test_it_goes_on_wherever_somebody_stopped(after: int) -> None:
    async with Engine(desk, log="memory:", limits=Limits(batch_commands_max=2)) as engine:
        await engine.execute_many([Sell("a", 1, times=3), Note("x"), Sell("b", 2), Note("y"), Sell("c", 5)])
        found = await take(engine.follow(after=after), 7 - after) if after < 7 else []
        assert [each.about.position for each in found] == list(range(after + 1, 8))


async def test_where_to_go_on_never_passes_what_somebody_still_deals_with() -> None:
    async with Engine(desk, log="memory:") as engine:
        await engine.execute_many([Sell("a", 1), Note("x"), Sell("b", 2)])
        following, told = engine.follow(), []
        with anyio.move_on_after(20):
            async for happened in following:
                told.append((happened.about.position, following.position))
                if len(told) == 3:
                    break
        assert told == [(1, 0), (2, 1), (3, 2)]
        pages, positions = engine.follow(), []
        async for page in pages.pages():
            positions.append((page.position, pages.position))
            break
        assert positions == [(3, 0)]


class Opened(Event):
    item: Key


class Renamed(Retired):
    item: Key

    def upcast(self) -> Iterator[Event]:
        yield Opened(self.item)
        yield Sold(self.item, 0)


class OldRenamed(Event, tag="Renamed"):
    item: Key


class Rename(Command):
    item: Key


class OldDesk(WriteModel):
    @handles
    def rename(self, command: Rename) -> Iterator[OldRenamed]:
        yield OldRenamed(command.item)

    @applies
    def renamed(self, event: OldRenamed) -> None: ...


class NewDesk(Desk):
    @applies
    def opened(self, event: Opened) -> None: ...


async def test_a_retired_event_is_what_it_means_today_and_its_parts_have_one_position() -> None:
    place = MemoryPlace()
    async with Engine(App(models=[OldDesk], name="desk"), log=place.log()) as engine:
        await engine.execute_many([Rename("a"), Rename("b")])
    today = App(models=[NewDesk], retired=[Renamed], name="desk")
    async with Engine(today, log=place.log()) as engine:
        following, told = engine.follow(), []
        async for happened in following:
            told.append((type(happened.event).__name__, happened.about.position, following.position))
            if len(told) == 4:
                break
        assert told == [("Opened", 1, 0), ("Sold", 1, 0), ("Opened", 2, 1), ("Sold", 2, 1)]
        assert [each.event.item for each in await take(engine.follow(types=[Sold]), 2)] == ["a", "b"]


async def test_a_replica_tells_what_its_writer_does(tmp_path: Any) -> None:
    place = SqlitePlace(tmp_path)
    async with Engine(desk, log=place.log()) as engine, Replica(desk, log=place.log()) as replica:
        await engine.execute(Sell("a", 1))
        async with anyio.create_task_group() as group:
            asked = start(group, take(replica.follow(types=[Sold]), 2))
            await engine.execute_many([Note("x"), Sell("b", 2)])
        assert [each.event for each in asked.value] == [Sold("a", 1), Sold("b", 2)]


COMMANDS = [
    Note(f"{number}") if number % 5 == 0 else Sell("abc"[number % 3], number, times=1 + number % 4)
    for number in range(1, 40)
]


@given(
    stops=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    types=st.sampled_from([None, (Sold,), (Noted,), (Sold, Noted)]),
    keys=st.sampled_from([None, ("a",), ("a", "c"), ("nobody",)]),
    read_bytes_max=st.sampled_from([1, 700, 1_000_000]),
)
@settings(max_examples=60)
def test_whoever_stops_anywhere_and_goes_on_misses_nothing(
    stops: list[int], types: Any, keys: Any, read_bytes_max: int
) -> None:
    async def run() -> None:
        limits = Limits(batch_commands_max=3, read_bytes_max=read_bytes_max)
        async with Engine(desk, log="memory:", limits=limits) as engine:
            await engine.execute_many(COMMANDS)
            everything = await take(engine.follow(), engine.position)
            expected = [
                each.about.position
                for each in everything
                if (types is None or type(each.event) in types)
                and (keys is None or (isinstance(each.event, Sold) and each.event.item in keys))
            ]
            dealt, after = dict[int, None](), 0
            for count in stops:
                following = engine.follow(after=after, types=types, keys=keys)
                left = [position for position in expected if position > after]
                if not left:
                    break
                for each in await take(following, min(count, len(left))):
                    assert each.about.position > after
                    dealt[each.about.position] = None
                after = following.position
                assert after < left[min(count, len(left)) - 1], "the last one may not be dealt with yet"
                after = left[min(count, len(left)) - 1]
            assert list(dealt) == expected[: len(dealt)]

    anyio.run(run)


async def test_a_slow_one_holds_up_nobody_and_misses_nothing() -> None:
    limits = Limits(read_bytes_max=500, batch_commands_max=5)
    async with Engine(desk, log="memory:", limits=limits) as engine:
        await engine.execute(Note("first"))
        following = engine.follow()
        assert len(await take(following, 1)) == 1
        receipts = await engine.execute_many([Sell("a", number) for number in range(200)])
        assert len(receipts) == 200
        assert [each.event.count for each in await take(following, 200)] == list(range(200))


async def test_it_ends_with_the_engine_and_says_so() -> None:
    async with anyio.create_task_group() as group, Engine(desk, log="memory:") as engine:
        following, late = engine.follow(), engine.follow()
        await engine.execute(Sell("a", 1))
        assert len(await take(following, 1)) == 1
        asked = start(group, take(following, 1))
        await engine.execute(Sell("b", 2))
        await until(lambda: asked.settled)
        waits = start(group, take(following, 1))
        await until(lambda: following.position == 2)
    assert isinstance(waits.error, EngineClosed)
    for each in (late, engine.follow()):
        with pytest.raises(EngineClosed):
            await take(each, 1)


async def test_whoever_was_cancelled_while_it_waited_asks_again_and_misses_nothing() -> None:
    async with Engine(desk, log="memory:") as engine:
        await engine.execute(Sell("a", 1))
        following = engine.follow()
        pages = engine.follow(after=1).pages()
        assert len(await take(following, 1)) == 1
        for _ in range(3):
            for waits in (following, pages):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await anext(waits)
        await engine.execute_many([Note("x"), Sell("b", 2)])
        assert [each.about.position for each in await take(following, 2)] == [2, 3]
        assert (await anext(pages)).position == 3


async def test_what_is_wrong_is_said_at_once() -> None:
    async with Engine(desk, log="memory:", limits=Limits(followers_max=1)) as engine:
        with pytest.raises(UnknownMessage, match="Opened"):
            engine.follow(types=[Opened])
        with pytest.raises(InvalidMessage, match="`keys` are texts"):
            engine.follow(keys="a")
        with pytest.raises(InvalidMessage, match="`keys` are texts"):
            engine.follow(keys=[1])  # type: ignore[list-item]
        with pytest.raises(InvalidMessage, match="`types` has none, so nothing would ever come"):
            engine.follow(types=[])
        with pytest.raises(InvalidMessage, match="`keys` has none, so nothing would ever come"):
            engine.follow(keys=[])
        with pytest.raises(InvalidMessage, match="are several, or one among others"):
            engine.follow(types=Sold)  # type: ignore[call-overload]
        with pytest.raises(InvalidMessage, match="no receipt, no answer and no position"):
            engine.follow(after="0")  # type: ignore[call-overload]
        with pytest.raises(InvalidMessage, match="position 7 is above the head of the log, which is at 0"):
            await take(engine.follow(after=7), 1)
        receipt = await engine.execute(Sell("a", 1))
        first = engine.follow()
        assert len(await take(first, 1)) == 1
        with pytest.raises(LimitReached, match="followers_max=1"):
            await take(engine.follow(), 1)
        await first.aclose()
        assert (await take(engine.follow(), 1))[0].about.position == receipt.position
