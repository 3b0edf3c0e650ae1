"""Time in the log is time, and never goes back: whoever reads a commit that breaks this refuses it, and says why."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from millstream.engine import Engine, Limits, LogCorrupt, MemoryLog, Replica
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.commits.marks import EXPORT_MARK
from millstream.engine.read.feed import FeedStatus
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing import BrokenPromise
from millstream.engine.testing.checks import check_log
from millstream.engine.upkeep import export_log, import_log, verify_log
from tests.shop import Add, StockOf, shop
from tests.support import sealed_rows

pytestmark = pytest.mark.anyio

PROBLEM = "its time 2001-01-01T00:00:00.000000Z is before 20"


async def written() -> MemoryStore:
    """A log of three commits, whose application has gone."""
    store = MemoryStore()
    async with Engine(shop, log=MemoryLog(store)) as engine:
        for _ in range(3):
            await engine.execute(Add("a", 1))
    return store


def earlier(store: MemoryStore) -> Commit:
    """The next commit, chained and whole, from long ago."""
    last = store.commits[-1]
    return sealed_rows(Head.after(last, 1), "2001-01-01T00:00:00.000000Z", [])


async def opened(store: MemoryStore, **options: Any) -> None:
    async with Engine(shop, log=MemoryLog(store), **options):
        pass


async def attached(store: MemoryStore) -> None:
    async with Replica(shop, log=MemoryLog(store)):
        pass


async def exported(store: MemoryStore) -> None:
    await export_log(MemoryLog(store), "shop", io.BytesIO())


async def imported(store: MemoryStore) -> None:
    lines = [b'{"%s":"log","format":1,"application":"shop"}' % EXPORT_MARK.encode()]
    for each in store.commits:
        head = b'{"number":%d,"position":%d,"recorded_at":"%s","digest":"%s","body":'
        values = (each.number, each.position, each.recorded_at.encode(), each.digest.hex().encode())
        lines.append(head % values + each.body + b"}")
    await import_log(io.BytesIO(b"\n".join([*lines, b""])), MemoryLog())


async def verified(store: MemoryStore) -> None:
    await verify_log(MemoryLog(store))


async def from_the_first(store: MemoryStore) -> None:
    await opened(store, snapshots=False)


READERS = (from_the_first, attached, verified, exported, imported)


@pytest.mark.parametrize("time", ["zzz", "2999-13-01T00:00:00.000000Z", "2999-01-01T00:00:00Z"])
@pytest.mark.parametrize("read", READERS)
async def test_every_reader_refuses_a_commit_whose_time_is_none_before_a_writer_goes_on_from_it(
    read: Callable[[MemoryStore], Awaitable[None]], time: str
) -> None:
    store = await written()
    store.commits.append(sealed_rows(Head.after(store.commits[-1], 1), time, []))
    with pytest.raises(LogCorrupt, match=f"its time is '{time}', and not one like"):
        await read(store)


@pytest.mark.parametrize("read", READERS)
async def test_every_reader_refuses_a_commit_from_before_the_last_one(
    read: Callable[[MemoryStore], Awaitable[None]],
) -> None:
    store = await written()
    await read(store)
    store.commits.append(earlier(store))
    with pytest.raises(LogCorrupt, match=PROBLEM):
        await read(store)


async def test_an_opening_from_snapshots_finds_it_among_the_last_commits_that_it_checks() -> None:
    store = await written()
    store.commits.append(earlier(store))
    async with Engine(shop, log=MemoryLog(MemoryStore(store.commits[:3], "shop"))) as engine:
        assert await engine.ask(StockOf("a")) == 3
    last = sealed_rows(Head.after(store.commits[-1], 0), "2030-01-01T00:00:00.000000Z", [])
    store.commits.append(last)
    with pytest.raises(LogCorrupt, match=PROBLEM):
        await opened(store, limits=Limits(verify_commits_min=10))


async def test_a_replica_that_follows_stops_there() -> None:
    store = await written()
    async with Replica(shop, log=MemoryLog(store)) as replica:
        assert await replica.ask(StockOf("a")) == 3
        store.add(earlier(store))
        with anyio.fail_after(5):
            while replica.stats().status != FeedStatus.STOPPED:
                await anyio.lowlevel.checkpoint()
        assert PROBLEM in str(replica.stats().problem)


def test_the_checks_of_a_simulation_find_it_too() -> None:
    first = sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", [])
    with pytest.raises(BrokenPromise, match=PROBLEM):
        check_log([first, sealed_rows(Head.after(first, 0), "2001-01-01T00:00:00.000000Z", [])])
