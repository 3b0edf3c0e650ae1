from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import Engine, Receipt
from millstream.engine.loop import threads as threads_module
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.threads import YieldingGil, in_thread
from millstream.engine.stores.sqlite.connection import connect
from millstream.engine.testing import Simulation, simulate
from millstream.engine.upkeep import attached, backup_log, verify_log
from tests.shop import Add, StockOf, shop

#: How often each has to get its turn.
ROUNDS = 40


# When it holds still, on a clock that only the test moves.


def holds(monkeypatch: pytest.MonkeyPatch, *blocks: tuple[float, float], share: float = 1.0) -> list[float]:
    """When the loop held still, in milliseconds, while there were blocks: each begins and lasts so many of them.

    It had a core for this share of its time.
    """
    held: list[float] = []
    monkeypatch.setattr(threads_module, "release_gil", lambda _: held.append(elapsed()))
    monkeypatch.setattr(threads_module, "worked", lambda: elapsed() * share)

    async def scenario(world: Simulation) -> list[float]:
        beginning = world.seconds

        async def block(begins: float, lasts: float) -> None:
            await world.sleep(begins / 1e3)
            with YieldingGil():
                await world.sleep(lasts / 1e3)

        async with anyio.create_task_group() as group:
            for begins, lasts in blocks:
                group.start_soon(block, begins, lasts)
        await world.sleep(1)  # what is over holds nothing any more
        return [round((moment - beginning) * 1e3, 1) for moment in held]

    return simulate(scenario, seed=1, stalls=0).result


def test_what_is_over_within_a_millisecond_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert holds(monkeypatch, (0, 0.9), (5, 0.5)) == []


def test_the_longer_it_lasts_the_rarer_the_loop_holds_still(monkeypatch: pytest.MonkeyPatch) -> None:
    assert holds(monkeypatch, (0, 80)) == pytest.approx(
        [1, 2, 3, 4.5, 6.8, 10.1, 15.2, 22.8, 34.2, 50.2, 66.2], rel=0.02
    )


def test_a_loop_that_rests_lets_go_of_the_lock_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert holds(monkeypatch, (0, 80), share=0.2) == []


def test_one_moment_serves_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = holds(monkeypatch, (0, 1_000))
    together = holds(monkeypatch, *[(begins / 10, 1_000) for begins in range(40)])
    assert len(alone) > 60
    assert len(together) < 3 * len(alone)
    assert max(later - moment for moment, later in pairwise(together)) <= 16.2


def test_who_begins_to_wait_after_a_moment_has_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    held = holds(monkeypatch, (0, 100), (51, 5))
    assert [moment for moment in held if 51 <= moment <= 56] == pytest.approx([52, 53, 54, 55.5], rel=0.02)


# That it is enough, beside a loop that always has something to do. On a machine whose cores are all busy the system's own
# scheduler takes turns, and these pass without it, too; with a core to spare they don't end.


@asynccontextmanager
async def busy_loop() -> AsyncIterator[None]:
    """Callbacks of a fifth of a millisecond, one after another, for as long as the block runs."""
    is_over = False

    async def work() -> None:
        while not is_over:
            until = elapsed() + 0.2e-3
            while elapsed() < until:
                pass
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        try:
            with anyio.fail_after(30):
                yield
        finally:
            is_over = True


@pytest.mark.anyio
async def test_commits_are_written_beside_a_loop_that_is_never_idle(tmp_path: Path) -> None:
    async with Engine(shop, log=tmp_path / "shop.db") as engine, busy_loop():
        for number in range(1, ROUNDS + 1):
            assert await engine.execute(Add("a", 1)) == Receipt(number, number, 1, version=number)


async def open_and_ask(path: Path) -> None:
    async with Engine(shop, log=path) as engine:
        assert await engine.ask(StockOf("a")) == 5


async def copy(path: Path) -> None:
    target = path.with_name("copy.db")
    assert (await backup_log(path, target)).events == 5
    target.unlink()


async def read(path: Path) -> None:
    async with attached(path) as (log, _):
        assert len(await log.read(0, 1_000_000)) == 5


async def verify(path: Path) -> None:
    async with attached(path) as (log, _):
        assert (await verify_log(log)).events == 5


@pytest.mark.anyio
@pytest.mark.parametrize("job", [open_and_ask, copy, read, verify])
async def test_a_log_is_read_beside_a_loop_that_is_never_idle(
    job: Callable[[Path], Awaitable[None]], tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    async with Engine(shop, log=path) as engine:
        for _ in range(5):
            await engine.execute(Add("a", 1))
    async with busy_loop():
        for _ in range(5):
            await job(path)


@pytest.mark.anyio
async def test_threads_get_to_work_beside_a_loop_that_is_never_idle() -> None:
    async with busy_loop():
        for number in range(ROUNDS):
            assert await in_thread(divmod, number, 7) == divmod(number, 7)


@pytest.mark.anyio
async def test_what_a_thread_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)
    db = await connect(":memory:")
    await db.close()
    with pytest.raises(ValueError, match="closed"):
        await db.rows("SELECT 1")


@pytest.mark.anyio
async def test_who_is_cancelled_while_a_database_is_opened_or_closed_leaves_no_thread_to_itself() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        db = await connect(":memory:")
    assert [tuple(row) for row in await db.rows("SELECT 1")] == [(1,)]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await db.close()
    with pytest.raises(ValueError, match="closed"):
        await db.rows("SELECT 1")
