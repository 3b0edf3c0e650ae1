"""The store fails for real, in the middle of a pipeline of many callers, and works again.

Whatever the cause: what was acknowledged is in the log once, at the place that its receipt names; what failed for
certain is not there; the live state is what a replay makes; and service goes on when the cause is gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import (
    CommitFailed,
    Engine,
    Limits,
    MillstreamError,
    OutcomeUnknown,
    Receipt,
    SqliteLog,
    WriterUnavailable,
)
from tests.shop import Add, Everything, shop
from tests.support import engine_state

pytestmark = pytest.mark.anyio

CALLERS = 20
ENOUGH = 60


@asynccontextmanager
async def full(engine: Engine, path: Path) -> AsyncIterator[None]:
    """No page can be added to the file: what SQLite says when the disk is full."""
    ((pages,),) = await tell(engine, "PRAGMA page_count")
    await tell(engine, f"PRAGMA max_page_count={pages}")
    yield
    await tell(engine, "PRAGMA max_page_count=1000000")


@asynccontextmanager
async def limited(engine: Engine, path: Path) -> AsyncIterator[None]:
    """The operating system lets no file grow: a quota."""
    resource = pytest.importorskip("resource", reason="no limit for the size of files on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The write-ahead log starts anew, so that its next frame is one beyond the limit.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def locked(engine: Engine, path: Path) -> AsyncIterator[None]:
    """Another program holds SQLite's write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def read_only(engine: Engine, path: Path) -> AsyncIterator[None]:
    """SQLite refuses to write."""
    await tell(engine, "PRAGMA query_only=1")
    yield
    await tell(engine, "PRAGMA query_only=0")


@asynccontextmanager
async def gone(engine: Engine, path: Path) -> AsyncIterator[None]:
    """Somebody moves the file away, and back."""
    away = path.with_name("elsewhere.db")
    path.rename(away)
    yield
    away.rename(path)


async def tell(engine: Engine, pragma: str) -> list[Any]:
    """Tell something to the connection that appends."""
    log = engine.log
    assert isinstance(log, SqliteLog)
    assert log._writer is not None
    return await log._writer.rows(pragma)


class Callers:
    """Twenty tasks that send commands, and what they heard: before, while and after the store was broken."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.receipts: dict[str, Receipt] = {}
        self.failed: dict[str, MillstreamError] = {}
        self.mended_since: int | None = None
        self.sent = 0

    @property
    def is_over(self) -> bool:
        return self.mended_since is not None and len(self.receipts) >= self.mended_since + ENOUGH

    async def send(self) -> None:
        with anyio.fail_after(60):
            while not self.is_over:
                self.sent += 1
                command_id = f"c-{self.sent}"
                try:
                    self.receipts[command_id] = await self.engine.execute(Add("a", 1), command_id=command_id)
                except (CommitFailed, OutcomeUnknown, WriterUnavailable) as error:
                    self.failed[command_id] = error
                    await anyio.lowlevel.checkpoint()

    async def break_and_mend(self, broken: AbstractAsyncContextManager[None]) -> None:
        with anyio.fail_after(60):
            while len(self.receipts) < ENOUGH:
                await anyio.lowlevel.checkpoint()
            async with broken:
                while len(self.failed) < ENOUGH:
                    await anyio.lowlevel.checkpoint()
            self.mended_since = len(self.receipts)


@pytest.mark.parametrize("cause", [full, limited, locked, read_only, gone], ids=lambda cause: cause.__name__)
async def test_exactly_what_is_not_durable_fails_and_service_goes_on_when_the_cause_is_gone(
    tmp_path: Path, cause: Callable[[Engine, Path], AbstractAsyncContextManager[None]], log_lines: list[Any]
) -> None:
    path = tmp_path / "shop.db"
    log = SqliteLog(path, busy_seconds_max=0.02)
    async with Engine(shop, log=log, limits=Limits(batch_commands_max=4, store_retry_seconds=0.5)) as engine:
        callers = Callers(engine)
        async with anyio.create_task_group() as group:
            group.start_soon(callers.break_and_mend, cause(engine, path))
            for _ in range(CALLERS):
                group.start_soon(callers.send)
        everything = await engine.ask(Everything(), after=engine.stats().writer.position)
        live = engine_state(engine)
    stored = stored_ids(path)
    assert {command_id: (r.commit, r.position) for command_id, r in callers.receipts.items()} == {
        command_id: place for command_id, place in stored.items() if command_id in callers.receipts
    }
    certain = {command_id for command_id, error in callers.failed.items() if not isinstance(error, OutcomeUnknown)}
    assert certain.isdisjoint(stored)
    assert everything == {"a": len(stored)}
    assert "store_recovered" in [line["event"] for line in log_lines]
    for snapshots in (True, False):
        async with Engine(shop, log=path, snapshots=snapshots) as again:
            assert engine_state(again) == live


def stored_ids(path: Path) -> dict[str, tuple[int, int]]:
    """The commit and position of each id in the log, read by SQLite and json alone; each is there once."""
    found: dict[str, tuple[int, int]] = {}
    with closing(sqlite3.connect(path)) as db:
        for number, position, body in db.execute("SELECT number, position, body FROM commits ORDER BY number"):
            for index, record in enumerate(commands_in(body)):
                assert record["id"] not in found
                found[record["id"]] = (number, position + index)
    return found
