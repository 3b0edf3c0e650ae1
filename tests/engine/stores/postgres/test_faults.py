"""What goes wrong between a writer and its server, on real ones: nothing acknowledged is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from millstream.engine import (
    CommitFailed,
    Engine,
    Fenced,
    InvalidMessage,
    Limits,
    LogLocked,
    LogRefused,
    MillstreamError,
    NotYetVisible,
    OutcomeUnknown,
)
from millstream.engine.commits.commit import Head
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.postgres.connecting import Connection, Session
from millstream.engine.stores.postgres.log import PostgresLog
from millstream.engine.testing.stores.written import APP, append_all, commits, head_of, read_all
from tests.postgres import Server, new_server, server, sql
from tests.proxy import Proxy, proxied
from tests.shop import Add, Everything, shop
from tests.support import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxied(server().port) as made:
        yield made


@pytest.fixture
def own_server() -> Iterator[Server]:
    made = new_server("own")
    made.start()
    yield made
    made.stop("immediate")


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """On one loop: what fails here is the server and what lies between, and the suites of the port run on both."""
    return "asyncio", {"use_uvloop": False}


def schema() -> str:
    return f"log_{secrets.token_hex(6)}"


class Load:
    """Callers that add one after another under ids, and send a command again that may not have happened."""

    def __init__(self, engine: Engine, callers: int = 20) -> None:
        self._engine = engine
        self.acknowledged: list[str] = []
        self.errors: Counter[str] = Counter()
        self.is_over = False
        self._callers = callers

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            for caller in range(self._callers):
                group.start_soon(self._call, caller)

    async def _call(self, caller: int) -> None:
        number = 0
        while not self.is_over:
            name = f"{caller}.{number}"
            try:
                await self._engine.execute(Add(f"k{caller}", 1), command_id=name)
            except MillstreamError as error:
                self.errors[type(error).__name__] += 1
                await anyio.lowlevel.checkpoint()
                continue
            self.acknowledged.append(name)
            number += 1

    async def reaches(self, count: int) -> None:
        await until(lambda: len(self.acknowledged) >= count)


async def require_once_each(address: str, load: Load) -> None:
    """The log has each acknowledged command once, and the view has what they add up to."""
    log = PostgresLog(address)
    await log.attach()
    await log.close()
    ids = [name for (name,) in sql(address, f"SELECT command_id FROM {address.partition('schema=')[2]}.events")]
    assert Counter(ids).most_common(1)[0][1] == 1
    assert set(load.acknowledged) <= set(ids)
    async with Engine(shop, log=address, snapshots=False) as engine:
        assert sum((await engine.ask(Everything())).values()) == len(ids)


async def test_a_server_that_is_killed_and_started_loses_nothing_and_doubles_nothing(own_server: Server) -> None:
    address = own_server.address(schema())
    async with Engine(shop, log=address) as engine, anyio.create_task_group() as group:
        load = Load(engine)
        group.start_soon(load.run)
        for _ in range(2):
            await load.reaches(len(load.acknowledged) + 100)
            await anyio.to_thread.run_sync(own_server.kill)
            await anyio.to_thread.run_sync(own_server.start)
        await load.reaches(len(load.acknowledged) + 100)
        load.is_over = True
    assert set(load.errors) <= {"CommitFailed"}
    await require_once_each(address, load)


async def test_cut_connections_are_made_again_and_no_caller_is_left_in_doubt(proxy: Proxy) -> None:
    name = schema()
    async with (
        Engine(shop, log=server().address(name, port=proxy.port)) as engine,
        anyio.create_task_group() as group,
    ):
        load = Load(engine)
        group.start_soon(load.run)
        for _ in range(10):
            await load.reaches(len(load.acknowledged) + 40)
            proxy.cut()
        await load.reaches(len(load.acknowledged) + 40)
        load.is_over = True
    assert set(load.errors) <= {"CommitFailed"}
    await require_once_each(server().address(name), load)


async def test_a_server_that_says_nothing_for_a_while_leaves_no_caller_in_doubt(proxy: Proxy) -> None:
    name = schema()
    address = server().address(name, port=proxy.port, answer_seconds_max="0.3")
    async with Engine(shop, log=address) as engine, anyio.create_task_group() as group:
        load = Load(engine)
        group.start_soon(load.run)
        await load.reaches(100)
        proxy.hold()
        made = proxy.made
        await until(lambda: proxy.made >= made + 4)  # each was given up
        proxy.flow()
        await load.reaches(len(load.acknowledged) + 100)
        load.is_over = True
    assert set(load.errors) <= {"CommitFailed"}
    await require_once_each(server().address(name), load)


async def test_an_append_whose_answer_is_lost_is_found_and_acknowledged(proxy: Proxy) -> None:
    async with Engine(shop, log=server().address(schema(), port=proxy.port, answer_seconds_max="0.3")) as engine:
        await engine.execute(Add("a", 1))
        proxy.swallow()
        assert (await engine.execute(Add("a", 2))).position == 2
        assert await engine.ask(Everything(), after=2) == {"a": 3}


async def test_an_append_that_comes_late_is_refused_by_the_term(proxy: Proxy) -> None:
    """It hangs on its way to the server while its connection is given up; it arrives after the doubt was settled."""
    name = schema()
    log = PostgresLog(server().address(name, port=proxy.port, answer_seconds_max="0.3"))
    await log.open(APP)
    try:
        written = commits(2)
        await log.append(written[0])
        held = proxy.hold()
        with pytest.raises((OSError, Exception), match=r".") as raised:
            await log.append(written[1])
        assert not isinstance(raised.value, CommitFailed)
        proxy.new_ones_flow()
        assert not await log.settle(written[1])
        proxy.flow(held)
        sql(server().address(name), "SELECT pg_sleep(0.1)")
        assert await read_all(log) == written[:1]
        other = commits(1, head_of(written[0]), events=3)[0]
        await log.append(other)
        assert await read_all(log) == [written[0], other]
    finally:
        await log.close()


async def test_a_writer_that_was_cut_off_is_taken_over_when_its_lease_ends_and_is_fenced(proxy: Proxy) -> None:
    name = schema()
    stale = PostgresLog(server().address(name, port=proxy.port, lease_seconds="0.6"))
    fresh = PostgresLog(server().address(name))
    written = commits(2)
    leadership = await stale.open(APP, "tcp://127.0.0.1:1")
    lost = asyncio.Event()
    leadership.on_lost(lost.set)
    try:
        await stale.append(written[0])
        proxy.hold()
        began = elapsed()
        with anyio.fail_after(10):
            await fresh.wait_for_turn()
            took = await fresh.open(APP, "tcp://127.0.0.1:2")
        assert elapsed() - began < 2
        assert took.took_over
        assert not leadership.is_held
        await fresh.append(written[1])
        proxy.flow()
        with pytest.raises(Fenced):
            await stale.append(commits(1, head_of(written[0]), events=3)[0])
        with anyio.fail_after(10):
            await lost.wait()
        assert await fresh.leader() == "tcp://127.0.0.1:2"
        assert await read_all(fresh) == written
    finally:
        await stale.close()
        await fresh.close()


async def test_a_writer_that_was_replaced_unawares_takes_no_token_of_the_new_one_for_a_wrong_one(proxy: Proxy) -> None:
    name = schema()
    address = server().address(name, port=proxy.port, lease_seconds="0.5")
    async with Engine(shop, log=server().address(name), standby=True) as standby:
        await standby.execute(Add("a", 1))  # it made the log, and lets go of it
    stale = await Engine(shop, log=address).__aenter__()
    with pytest.raises(InvalidMessage, match="above the head of the log"):
        await stale.ask(Everything(), after=2)
    async with Engine(shop, log=server().address(name), standby=True) as standby:
        proxy.hold()
        await until(lambda: not standby.not_ready)
        receipt = await standby.execute(Add("a", 1))
        with pytest.raises(NotYetVisible):
            await stale.ask(Everything(), after=receipt, timeout=0.05)
        proxy.flow()
        await until(lambda: stale.stats().writer.status == "stopped")
    await stale.__aexit__(None, None, None)


async def test_a_writer_that_is_replaced_while_its_connection_is_cut_knows_when_it_is_back(proxy: Proxy) -> None:
    name = schema()
    dead, fresh = PostgresLog(server().address(name, port=proxy.port)), PostgresLog(server().address(name))
    leadership = await dead.open(APP)
    assert leadership.is_held
    proxy.is_refusing = True
    proxy.cut()
    await until(lambda: not leadership.is_held)  # of a lease of 3 s: others need not wait for that
    assert not leadership.is_lost
    with anyio.fail_after(10):
        await fresh.wait_for_turn()
        await fresh.open(APP)
    proxy.is_refusing = False
    await until(lambda: leadership.is_lost)
    await dead.close()
    await fresh.close()


async def test_a_writer_that_died_is_taken_over_at_once(proxy: Proxy) -> None:
    name = schema()
    dead, fresh = PostgresLog(server().address(name, port=proxy.port)), PostgresLog(server().address(name))
    await dead.open(APP)
    proxy.is_refusing = True
    proxy.cut()
    began = elapsed()
    with anyio.fail_after(10):
        await fresh.wait_for_turn()
        assert (await fresh.open(APP)).took_over
    assert elapsed() - began < 1  # of a lease of 3 s
    await dead.close()
    await fresh.close()


async def test_while_the_server_is_away_callers_hear_so_when_patience_is_over(own_server: Server) -> None:
    address = own_server.address(schema())
    async with Engine(shop, log=address, limits=Limits(store_retry_seconds=0.2)) as engine:
        await engine.execute(Add("a", 1))
        await anyio.to_thread.run_sync(own_server.kill)
        with pytest.raises(OutcomeUnknown):
            await engine.execute(Add("a", 1), command_id="one")
        await anyio.to_thread.run_sync(own_server.start)
        with anyio.fail_after(20):
            receipt = await engine.execute(Add("a", 1), command_id="one")
        assert (receipt.position, receipt.repeated) == (2, False)


async def test_a_database_that_lost_its_tail_is_no_rewind(own_server: Server) -> None:
    """As a standby has it that was promoted without all of it."""
    address = own_server.address(schema())
    place = address.partition("schema=")[2]
    async with Engine(shop, log=address, snapshots=False) as engine:
        for number in range(3):
            await engine.execute(Add("a", number + 1))
        sql(address, f"DELETE FROM {place}.commits WHERE number > 1 RETURNING number")
        with pytest.raises(MillstreamError, match="ends at commit 1, and commit 3 was durable: the store has lost"):
            await engine.execute(Add("a", 1))
        assert engine.stats().writer.status == "stopped"


async def test_a_session_that_the_server_ended_unseen_is_made_again_before_anybody_hears_of_it(proxy: Proxy) -> None:
    """What lies between keeps the connection: the driver has read the server's last words, and sees no end."""
    proxy.is_keeping = True
    name = schema()
    async with Engine(shop, log=server().address(name, port=proxy.port)) as engine:
        assert isinstance(engine.log, PostgresLog)
        await engine.execute(Add("a", 1))
        for session in (writer_of(engine), reader_of(engine)):
            pid, kept = await session.run(_pid), proxy.kept
            sql(server().address(name), f"SELECT pg_terminate_backend({pid}, 5000)")
            await until(lambda before=kept: proxy.kept > before)  # type: ignore[misc]
            await anyio.wait_all_tasks_blocked()
            assert session.is_connected
        receipt = await engine.execute(Add("a", 1))
        assert (await engine.log.head()).number == receipt.commit == 2
        proxy.is_keeping = False  # or closing waits for an end that does not come


async def _pid(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def test_a_server_that_waits_for_a_standby_that_is_away_is_not_taken_for_one_that_is_gone(
    own_server: Server,
) -> None:
    address = own_server.address(schema(), answer_seconds_max="0.5")
    async with Engine(shop, log=address):
        pass
    sql(address, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    sql(address, "SELECT pg_reload_conf()")
    await until(lambda: sql(address, "SHOW synchronous_standby_names") == [("nobody",)])
    with pytest.raises(LogRefused) as refused:
        await Engine(shop, log=address).__aenter__()
    assert str(refused.value).endswith(
        "the server can't be used: the server gave no answer within 0.5 s; "
        "see that it runs, and so does the synchronous standby that it waits for, if it has one"
    )


async def test_a_log_that_is_closed_while_its_server_is_away_is_closed_in_time(own_server: Server) -> None:
    log = PostgresLog(own_server.address(schema()))
    await log.open(APP)
    await append_all(log, commits(1))
    await anyio.to_thread.run_sync(own_server.kill)
    with anyio.fail_after(5):
        await log.close()
    await anyio.to_thread.run_sync(own_server.start)
    await log.open(APP)
    assert await log.head() != Head()
    await log.close()


@pytest.mark.parametrize("standby", [False, True])
async def test_of_many_that_make_one_log_at_once_one_writes_and_the_others_find_it_locked_or_stand_by(
    standby: bool,
) -> None:
    address = server().address(schema())
    opened: list[Engine] = []
    refused: list[MillstreamError] = []

    async def open_one() -> None:
        try:
            async with Engine(shop, log=address, standby=standby) as engine:
                opened.append(engine)
                await until(lambda: len(opened) + len(refused) == 6)
        except LogLocked as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(open_one)
    assert (len(opened), len(refused)) == ((6, 0) if standby else (1, 5))


async def test_a_writer_whose_connection_is_cut_while_it_is_idle_keeps_the_log() -> None:
    address = server().address(schema())
    async with Engine(shop, log=address) as engine:
        await engine.execute(Add("a", 1))
        writer = writer_of(engine)
        for generation in (1, 2, 3):
            sql(address, f"SELECT pg_terminate_backend(pid) FROM {place_of(engine)}.leader")
            await until(lambda before=generation: writer.generation > before)  # type: ignore[misc]
        with pytest.raises(LogLocked):
            async with Engine(shop, log=address):
                pass
        await engine.execute(Add("a", 1))


def writer_of(engine: Engine) -> Session:
    """The connection that appends."""
    assert isinstance(engine.log, PostgresLog)
    assert engine.log._writer is not None
    return engine.log._writer


def reader_of(engine: Engine) -> Session:
    """The connection that reads."""
    assert isinstance(engine.log, PostgresLog)
    assert engine.log._reader._session is not None
    return engine.log._reader._session


def place_of(engine: Engine) -> str:
    """The schema, as it stands in a statement."""
    assert isinstance(engine.log, PostgresLog)
    return engine.log._settings.place


async def test_a_schema_may_have_a_quote_in_its_name() -> None:
    address = server().address(f"o'{secrets.token_hex(4)}")
    for life in (1, 2):
        async with Engine(shop, log=address) as engine:
            await engine.execute(Add("a", 1))
            assert await engine.ask(Everything(), after=engine.position) == {"a": life}
            snapshots = engine.log.snapshots
            assert snapshots is not None
            assert bool(await snapshots.kept()) == (life == 2)
