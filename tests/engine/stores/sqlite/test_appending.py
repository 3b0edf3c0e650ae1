"""The connection that appends: in its thread, and on the loop's where that is wanted and quick."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import CommitFailed, DefinitionError, Engine, Fenced, Limits, Receipt, SqliteLog
from millstream.engine.commits.commit import Commit
from millstream.engine.stores.sqlite.appending import Appender
from millstream.engine.stores.sqlite.connection import STEPS_MIN
from millstream.engine.testing.stores.written import APP, commits, read_all
from tests.shop import Add, StockOf, shop

pytestmark = pytest.mark.anyio

ALWAYS, NEVER = 60_000.0, 1e-9


def connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE IF NOT EXISTS t (thread)")
    return connection


@asynccontextmanager
async def appender(path: Path, *, busy: float = 5.0, here: float | None = None) -> AsyncIterator[Appender]:
    made = await Appender.opened(partial(connected, path), steps_max=STEPS_MIN, busy_seconds_max=busy, here_ms_max=here)
    try:
        yield made
    finally:
        await made.close()


class Told:
    """What `launch` has told, and a way to wait for it."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self._more = anyio.Event()

    def __call__(self, result: Any, error: BaseException | None) -> None:
        self.results.append(error or result)
        self._more.set()

    async def wait(self, count: int) -> None:
        while len(self.results) < count:
            self._more = anyio.Event()
            await self._more.wait()


def thread_of(connection: sqlite3.Connection) -> str:
    """Write who writes."""
    name = threading.current_thread().name
    connection.execute("INSERT INTO t VALUES (?)", (name,))
    return name


async def warm(made: Appender) -> None:
    """Let it find out how long a statement takes."""
    for _ in range(60):
        await made.rows("SELECT 1")


async def test_what_is_launched_is_done_in_order_in_the_thread_and_told_on_the_loop(tmp_path: Path) -> None:
    async with appender(tmp_path / "t.db") as made:
        told, here = Told(), threading.current_thread().name
        for number in range(5):
            made.launch(lambda connection, number=number: (number, thread_of(connection)), told)  # type: ignore[misc]
        await told.wait(5)
        assert told.results == [(number, "millstream-append") for number in range(5)]
        assert here != "millstream-append"


async def test_an_error_is_told_and_leaves_no_transaction_open(tmp_path: Path) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO nowhere VALUES (1)")

    async with appender(tmp_path / "t.db") as made:
        told = Told()
        made.launch(fails, told)
        await told.wait(1)
        assert isinstance(told.results[0], sqlite3.OperationalError)
        assert not made.in_transaction
        assert await made.rows("SELECT 1") == [(1,)]


async def test_one_that_is_closed_takes_nothing_and_has_done_what_it_took(tmp_path: Path) -> None:
    async with appender(tmp_path / "t.db") as made:
        made.launch(thread_of, Told())
    with pytest.raises(ValueError, match="no active connection"):
        made.launch(thread_of, Told())
    await made.close()
    with closing(sqlite3.connect(tmp_path / "t.db")) as db:
        assert db.execute("SELECT thread FROM t").fetchall() == [("millstream-append",)]


async def test_one_that_cannot_connect_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        async with appender(tmp_path / "no" / "t.db"):
            raise AssertionError("it is open")
    assert threading.active_count() <= before + 1  # the worker that waited for it


@pytest.mark.parametrize(
    ("here", "alone", "expected"),
    [(ALWAYS, True, True), (ALWAYS, False, False), (NEVER, True, False), (None, True, False)],
)
async def test_what_is_done_on_the_loop_s_thread_is_what_is_alone_and_quick(
    tmp_path: Path, here: float | None, alone: bool, expected: bool
) -> None:
    async with appender(tmp_path / "t.db", here=here) as made:
        await warm(made)
        told = Told()
        made.launch(thread_of, told, alone=alone)
        assert (len(told.results) == 1) == expected
        await told.wait(1)
        assert (told.results == [threading.current_thread().name]) == expected


async def test_the_first_ones_go_to_the_thread_which_finds_out_how_long_they_take(tmp_path: Path) -> None:
    async with appender(tmp_path / "t.db", here=ALWAYS) as made:
        told = Told()
        made.launch(thread_of, told, alone=True)
        assert told.results == []
        await told.wait(1)


async def test_after_a_slow_one_the_thread_does_it_for_a_while(tmp_path: Path) -> None:
    async with appender(tmp_path / "t.db", here=ALWAYS) as made:
        await warm(made)
        made._took(4.1 * ALWAYS / 1e3)  # in seconds; what is usual is still less
        assert made._usual_seconds < ALWAYS / 1e3
        told = Told()
        made.launch(thread_of, told, alone=True)
        await told.wait(1)
        assert told.results == ["millstream-append"]


async def test_somebody_else_s_lock_is_waited_for_in_the_thread(tmp_path: Path) -> None:
    async with appender(tmp_path / "t.db", here=ALWAYS) as made:
        await warm(made)
        told = Told()
        with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            made.launch(thread_of, told, alone=True)
            assert told.results == []
            other.execute("ROLLBACK")
        await told.wait(1)
        assert told.results == ["millstream-append"]


async def test_it_waits_for_a_lock_no_longer_than_it_may(tmp_path: Path) -> None:
    async with appender(tmp_path / "t.db", busy=0.01) as made:
        with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await made.rows("INSERT INTO t VALUES (1)")


async def test_a_statement_s_steps_are_its_own(tmp_path: Path) -> None:
    """The bound is for one statement, and not for all that were ever executed."""
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400000) SELECT count(*) FROM n"
    async with appender(tmp_path / "t.db") as made:
        for _ in range(8):
            assert await made.rows(many) == [(400_000,)]


def log_of(path: Path) -> SqliteLog:
    return SqliteLog(path, alone_ms_max=ALWAYS)


async def test_a_lone_caller_s_commits_are_durable_and_told_once(tmp_path: Path) -> None:
    async with Engine(shop, log=log_of(tmp_path / "shop.db")) as engine:
        receipts = [await engine.execute(Add("a", 1)) for _ in range(60)]
        assert receipts == [Receipt(number, number, 1, version=number) for number in range(1, 61)]
        assert await engine.ask(StockOf("a"), after=receipts[-1]) == 60
        outcomes = await engine.execute_many([Add("a", 1)] * 100)
        assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    async with Engine(shop, log=tmp_path / "shop.db", snapshots=False) as engine:
        assert await engine.ask(StockOf("a")) == 160


async def test_a_lone_caller_s_commit_that_fails_is_told_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with Engine(shop, log=log_of(tmp_path / "shop.db")) as engine:
        for _ in range(60):
            await engine.execute(Add("a", 1))
        assert isinstance(engine.log, SqliteLog)
        assert engine.log._writer is not None
        await engine.log._writer.rows("PRAGMA query_only=1")
        with pytest.raises(CommitFailed, match="readonly"):
            await engine.execute(Add("a", 1))
        await engine.log._writer.rows("PRAGMA query_only=0")
        assert (await engine.execute(Add("a", 1))).position == 61


async def test_a_launch_lands_as_an_append_does(tmp_path: Path) -> None:
    log, made = log_of(tmp_path / "log.db"), commits(3)
    await log.open(APP)
    landed: list[Exception | None] = []
    log.launch(made[0], landed.append)
    await log.append(made[1])
    log.launch(made[1], landed.append)
    while len(landed) < 2:
        await anyio.lowlevel.checkpoint()
    assert landed[0] is None
    assert isinstance(landed[1], Fenced)
    assert (landed[1].commit, landed[1].head) == (2, 2)
    assert await read_all(log) == made[:2]
    await log.close()
    with pytest.raises(CommitFailed, match="not open for writing"):
        log.launch(made[2], landed.append)


class Noting(SqliteLog):
    """Notes of each commit how many events it has, and whether nobody else needs the loop."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, alone_ms_max=ALWAYS)
        self.noted: list[tuple[int, bool]] = []

    def launch(self, commit: Commit, landed: Callable[[Exception | None], None], *, alone: bool = False) -> None:
        self.noted.append((commit.body.count(b'"type":"Added"'), alone))
        super().launch(commit, landed, alone=alone)


async def test_a_small_commit_of_several_callers_is_alone_and_a_large_one_or_one_before_others_is_not(
    tmp_path: Path,
) -> None:
    log = Noting(tmp_path / "shop.db")
    async with Engine(shop, log=log, limits=Limits(slice_ms_max=60_000)) as engine:

        async def go_on() -> None:
            for _ in range(20):
                await engine.execute(Add("a", 1))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(go_on)
        assert (3, True) in log.noted
        log.noted.clear()
        async with anyio.create_task_group() as group:
            for _ in range(65):
                group.start_soon(engine.execute, Add("a", 1))
    assert log.noted == [(65, False)]


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "x", []])
def test_what_is_no_time_is_refused_when_the_log_is_made(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="milliseconds above 0, or None, not"):
        SqliteLog(tmp_path / "shop.db", alone_ms_max=wrong)
