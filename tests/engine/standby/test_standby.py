"""An engine that stands by: it answers, it follows, and it takes over where the other one left off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest

from millstream.engine import (
    App,
    Engine,
    Limits,
    Log,
    LogLocked,
    MemoryLog,
    NotLeader,
    Replica,
    SqliteLog,
    WriterUnavailable,
)
from millstream.engine.read.feed import Feed
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.stores.postgres import PostgresLog
from tests.postgres import new_address
from tests.shop import Add, Everything, Note, Stock, StockOf, Take, shop
from tests.support import engine_state, until

pytestmark = pytest.mark.anyio

NewLog: TypeAlias = Callable[[], Log]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def new_log(request: pytest.FixtureRequest, tmp_path: Path) -> NewLog:
    """Makes a handle to the test's one log."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: MemoryLog(store)
    if request.param == "sqlite":
        return lambda: SqliteLog(tmp_path / "shop.db")
    address = new_address()
    return lambda: PostgresLog(address)


def told(log_lines: list[Any], *names: str) -> list[str]:
    return [line["event"] for line in log_lines if line["event"] in names]


async def test_a_standby_answers_follows_and_refuses_commands_with_the_writers_address(new_log: NewLog) -> None:
    async with (
        Engine(shop, log=new_log(), address="tcp://127.0.0.1:1") as writer,
        Engine(shop, log=new_log(), standby=True) as standby,
    ):
        for number in range(3):
            receipt = await writer.execute(Add("a", number + 1))
            assert await standby.ask(StockOf("a"), after=receipt) == await writer.ask(StockOf("a"), after=receipt)
        await until(lambda: standby.not_ready == ["it stands by for the writer at tcp://127.0.0.1:1"])
        with pytest.raises(NotLeader) as refused:
            await standby.execute(Add("a", 1))
        assert refused.value.address == "tcp://127.0.0.1:1"
        assert [type(each) for each in await standby.execute_many([Add("a", 1)])] == [NotLeader]
        with pytest.raises(NotLeader):
            standby.preview(Add("a", 1))
        assert (standby.position, writer.position) == (3, 3)


async def test_it_takes_over_when_the_writer_lets_go_and_has_its_very_state(
    new_log: NewLog, log_lines: list[Any]
) -> None:
    writer = Engine(shop, log=new_log(), snapshots=False)
    await writer.__aenter__()
    await writer.execute_many([Add("a", 5), Note("one"), Take("a", 2)], command_ids=["1", "2", "3"])
    async with Engine(shop, log=new_log(), standby=True, snapshots=False) as standby:
        await writer.execute(Add("b", 7), command_id="4")
        live = engine_state(writer)
        await writer.__aexit__(None, None, None)
        with anyio.fail_after(20):
            await until(lambda: not standby.not_ready)
        assert told(log_lines, "stands_by", "took_over") == ["stands_by", "took_over"]
        assert engine_state(standby) == live
        assert (await standby.execute(Add("b", 7), command_id="4")).repeated
        receipt = await standby.execute(Take("b", 7))
        assert await standby.ask(Everything(), after=receipt) == {"a": 3, "b": 0}
        live = engine_state(standby)
    async with Engine(shop, log=new_log(), snapshots=False) as again:
        assert engine_state(again) == live


async def test_turns_go_round(new_log: NewLog) -> None:
    """Three engines, of which one writes and the others stand by; each lets go in its turn and comes back."""
    engines = [Engine(shop, log=new_log(), standby=True) for _ in range(3)]
    for engine in engines:
        await engine.__aenter__()
    count = 0
    for _ in range(4):
        with anyio.fail_after(20):
            await until(lambda: sum(not engine.not_ready for engine in engines) == 1)
        (leader,) = (engine for engine in engines if not engine.not_ready)
        for _ in range(3):
            count += 1
            receipt = await leader.execute(Add("a", 1))
            assert receipt.position == count
        for engine in engines:
            assert await engine.ask(StockOf("a"), after=receipt) == count
        engines.remove(leader)
        await leader.__aexit__(None, None, None)
        engines.append(await Engine(shop, log=new_log(), standby=True).__aenter__())
    for engine in engines:
        await engine.__aexit__(None, None, None)


async def test_where_nobody_writes_it_does_so_at_once_and_without_standby_it_is_locked_out(new_log: NewLog) -> None:
    async with Engine(shop, log=new_log(), standby=True) as engine:
        assert engine.not_ready == []
        await engine.execute(Add("a", 1))
        with pytest.raises(LogLocked):
            await Engine(shop, log=new_log()).__aenter__()


async def test_a_standby_that_is_closed_leaves_the_writer_alone(new_log: NewLog) -> None:
    async with Engine(shop, log=new_log()) as writer:
        for _ in range(2):
            async with Engine(shop, log=new_log(), standby=True) as standby:
                receipt = await writer.execute(Add("a", 1))
                await standby.ask(StockOf("a"), after=receipt)
        assert (await writer.execute(Add("a", 1))).position == 3


async def test_a_replica_goes_on_from_one_writer_to_the_next(new_log: NewLog) -> None:
    writer = await Engine(shop, log=new_log()).__aenter__()
    await writer.execute(Add("a", 1))
    async with Engine(shop, log=new_log(), standby=True) as standby, Replica(shop, log=new_log()) as replica:
        await writer.__aexit__(None, None, None)
        with anyio.fail_after(20):
            await until(lambda: not standby.not_ready)
        receipt = await standby.execute(Add("a", 1))
        with anyio.fail_after(20):
            assert await replica.ask(StockOf("a"), after=receipt) == 2


async def test_a_standby_whose_model_can_not_apply_an_event_says_so_and_does_not_take_over(
    new_log: NewLog, log_lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await Engine(shop, log=new_log(), snapshots=False).__aenter__()
    await writer.execute(Add("a", 1))
    standby = await Engine(shop, log=new_log(), standby=True, snapshots=False).__aenter__()
    parts = standby._opening.standby.write.models  # type: ignore[union-attr]
    monkeypatch.setattr(parts[0], "_appliers", dict.fromkeys(parts[0]._appliers, _broken))
    receipt = await writer.execute(Add("a", 1))
    assert await standby.ask(StockOf("a"), after=receipt) == 2
    assert standby.not_ready[0].startswith("it can't take over: ")
    assert told(log_lines, "standby_failed") == ["standby_failed"]
    await writer.__aexit__(None, None, None)
    async with Engine(shop, log=new_log(), snapshots=False) as another:  # the log is free
        await another.execute(Add("a", 1))
    await standby.__aexit__(None, None, None)


def _broken(_: object) -> None:
    raise ValueError("older code")


async def test_a_standby_of_older_code_that_meets_an_event_it_does_not_know_says_so(
    new_log: NewLog, log_lines: list[Any]
) -> None:
    older = App(models=[Stock], views=shop.views[:1], name="shop")
    async with Engine(shop, log=new_log(), snapshots=False) as writer:
        await writer.execute(Add("a", 1))
        async with Engine(older, log=new_log(), standby=True, snapshots=False) as standby:
            await writer.execute(Note("news"))
            await until(lambda: standby.not_ready[0].startswith("it can't take over: "))
            assert told(log_lines, "standby_failed") == ["standby_failed"]


async def test_a_log_that_lost_its_tail_is_not_taken_over(log_lines: list[Any]) -> None:
    store = MemoryStore()
    writer = await Engine(shop, log=MemoryLog(store), snapshots=False).__aenter__()
    await writer.execute(Add("a", 1))
    receipt = await writer.execute(Add("a", 1))
    standby = await Engine(shop, log=MemoryLog(store), standby=True, snapshots=False).__aenter__()
    await standby.ask(StockOf("a"), after=receipt)
    await writer.__aexit__(None, None, None)
    store.commits.pop()
    with anyio.fail_after(20):
        await until(lambda: told(log_lines, "writer_stopped"))
    with pytest.raises(WriterUnavailable, match="could not take over: log memory: ends at commit 1, and commit 2 was"):
        await standby.execute(Add("a", 1))
    assert await standby.ask(StockOf("a")) == 2
    async with Engine(shop, log=MemoryLog(store), snapshots=False):
        pass  # the log is free, as it could not be taken over
    with pytest.raises(Exception, match="the store has lost what it had taken"):
        await standby.__aexit__(None, None, None)


async def test_snapshots_of_the_old_writer_are_where_a_standby_begins(new_log: NewLog, log_lines: list[Any]) -> None:
    async with Engine(shop, log=new_log()) as engine:
        await engine.execute_many([Add("a", 1)] * 50)
    writer = await Engine(shop, log=new_log(), limits=Limits(snapshot_events_every=10)).__aenter__()
    standby = await Engine(shop, log=new_log(), standby=True).__aenter__()
    assert told(log_lines, "snapshots_unavailable", "snapshot_set_aside") == []
    await writer.execute(Add("a", 1))
    await writer.__aexit__(None, None, None)
    with anyio.fail_after(20):
        await until(lambda: not standby.not_ready)
    await standby.execute(Add("a", 1))
    await standby.__aexit__(None, None, None)
    async with Engine(shop, log=new_log()) as again:
        assert await again.ask(StockOf("a")) == 52
    assert told(log_lines, "snapshots_unavailable", "snapshot_set_aside", "snapshot_failed") == []


async def test_what_it_had_not_read_when_its_turn_came_is_read_then(
    new_log: NewLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Feed) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(Feed, "run", nothing)
    writer = await Engine(shop, log=new_log(), snapshots=False).__aenter__()
    async with Engine(shop, log=new_log(), standby=True, snapshots=False) as standby:
        await writer.execute_many([Add("a", 5), Take("a", 2)], command_ids=["1", "2"])
        live = engine_state(writer)
        assert standby.position == 0
        await writer.__aexit__(None, None, None)
        with anyio.fail_after(20):
            await until(lambda: not standby.not_ready)
        assert (await standby.execute(Add("a", 5), command_id="1")).repeated
        assert engine_state(standby) == live
        assert await standby.ask(StockOf("a"), after=2) == 3
