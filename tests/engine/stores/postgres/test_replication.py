"""Beside a server's own standby: replicas read from it, and writers go on with it when it is made the primary."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from millstream.engine import CommitsLost, Engine, LogRefused, MillstreamError, Replica
from millstream.engine.stores.postgres import PostgresLog
from tests.postgres import Server, new_server, promote, sql, standby_of
from tests.shop import Add, StockOf, shop
from tests.support import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary, and a standby that streams from it."""
    primary = new_server("primary", {"wal_level": "replica"})
    primary.start()
    standby = standby_of(primary, "copy")
    standby.start()
    yield primary, standby
    primary.stop("immediate")
    standby.stop("immediate")


def both(primary: Server, standby: Server, schema: str) -> str:
    """The address of a log on whichever takes changes."""
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    return f"postgresql://postgres@{hosts}/postgres?schema={schema}"


async def test_a_replica_reads_from_a_standby_of_the_server(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    schema = f"log_{secrets.token_hex(6)}"
    async with Engine(shop, log=primary.address(schema)) as engine:
        await engine.execute(Add("a", 1))
        await caught_up(primary, standby)
        async with Replica(shop, log=standby.address(schema)) as replica:
            for number in range(3):
                receipt = await engine.execute(Add("a", 1))
                with anyio.fail_after(10):
                    assert await replica.ask(StockOf("a"), after=receipt) == number + 2
            await until(lambda: replica.stats().lag_events == 0)
            with pytest.raises(LogRefused, match="the server takes no changes: it is a standby; name the primary"):
                await PostgresLog(standby.address(schema, target_session_attrs="any")).open("shop")


async def test_a_synchronous_standby_that_is_promoted_has_all_that_was_acknowledged(
    pair: tuple[Server, Server],
) -> None:
    primary, standby = pair
    sql(primary.address("x"), "ALTER SYSTEM SET synchronous_standby_names = 'copy'")
    sql(primary.address("x"), "SELECT pg_reload_conf()")
    await until(lambda: sql(primary.address("x"), "SELECT sync_state FROM pg_stat_replication") == [("sync",)])
    address = both(primary, standby, f"log_{secrets.token_hex(6)}")
    acknowledged: list[int] = []
    async with Engine(shop, log=address) as engine:
        acknowledged += [(await engine.execute(Add("a", 1))).position for _ in range(50)]
        await anyio.to_thread.run_sync(primary.kill)
        await anyio.to_thread.run_sync(promote, standby)
        with anyio.fail_after(30):
            while len(acknowledged) < 60:
                try:
                    acknowledged.append((await engine.execute(Add("a", 1))).position)
                except MillstreamError:
                    continue
        assert acknowledged == list(range(1, 61))
        assert await engine.ask(StockOf("a"), after=60) == 60


async def test_a_standby_that_is_promoted_without_the_last_commits_is_no_rewind(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    schema = f"log_{secrets.token_hex(6)}"
    address = both(primary, standby, schema)
    writer = await Engine(shop, log=address).__aenter__()
    await writer.execute(Add("a", 1))
    await caught_up(primary, standby)
    await anyio.to_thread.run_sync(standby.stop)
    for _ in range(3):
        receipt = await writer.execute(Add("a", 1))
    replica = await Replica(shop, log=address).__aenter__()
    await replica.ask(StockOf("a"), after=receipt)
    await anyio.to_thread.run_sync(primary.kill)
    await anyio.to_thread.run_sync(standby.start)
    await anyio.to_thread.run_sync(promote, standby)
    lost: MillstreamError | None = None
    with anyio.fail_after(30):
        while not isinstance(lost, CommitsLost):
            try:
                await writer.execute(Add("a", 1))
                pytest.fail("it went on with another history")
            except MillstreamError as error:
                lost = error
        assert (lost.commit, lost.head) == (4, 1)
        await until(lambda: "ends at commit 1, and commit 4 was durable" in (replica.stats().problem or ""))
    assert sql(standby.address("x"), f"SELECT max(number) FROM {schema}.commits") == [(1,)]
    await writer.__aexit__(None, None, None)
    await replica.__aexit__(None, None, None)


async def caught_up(primary: Server, standby: Server) -> None:
    ((position,),) = sql(primary.address("x"), "SELECT pg_current_wal_flush_lsn()::text")
    behind = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
    await until(lambda: sql(standby.address("x"), behind) == [(True,)])
