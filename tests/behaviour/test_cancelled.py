"""Cancellation by the task itself, at any turn of the loop: whatever was opened is let go of, and nothing is left running.

`Task.cancel`, ``asyncio.timeout`` and a ``TaskGroup`` whose other task failed go through a shield of anyio's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from millstream.engine import Engine, Replica
from millstream.engine.client import Client
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.server import Server
from tests.shop import Add, StockOf, shop
from tests.support import StoreBroke, settled

pytestmark = pytest.mark.anyio


async def write(path: Path) -> None:
    async with Engine(shop, log=path) as engine:
        await engine.execute(Add("a", 1))


async def follow(path: Path) -> None:
    async with Replica(shop, log=path) as replica:
        await replica.ask(StockOf("a"))


async def serve(path: Path) -> None:
    address = f"unix://{path}.socket"
    async with Engine(shop, log=path) as engine, Server(engine, listen=[address]), Client(address) as client:
        await client.execute(Add("a", 1))


def running() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("millstream") and not task.done()}


def turns() -> list[int]:
    """Every one of the first turns, and then fewer: a thread that works takes a hundred."""
    found = list(range(12))
    while found[-1] < 2_000:
        found.append(found[-1] * 3 // 2)
    return found


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("use", [write, follow, serve])
async def test_whatever_is_cancelled_while_it_opens_works_or_closes_lets_go_of_its_log(
    use: Callable[[Path], Awaitable[None]], times: int, tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    await write(path)
    ended: set[str] = set()
    for count in turns():
        task = asyncio.ensure_future(use(path))
        for _ in range(count):
            await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        ended.add(type(outcome).__name__)
        assert running() == set(), f"after {count} turns"
        with anyio.fail_after(20):
            await write(path)
    assert "CancelledError" in ended


async def test_a_timeout_around_a_closing_engine_is_told_and_the_log_is_whole(tmp_path: Path) -> None:
    engine = Engine(shop, log=tmp_path / "shop.db")
    await engine.__aenter__()
    await engine.execute(Add("a", 1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await engine.__aexit__(None, None, None)
    assert engine.status == "closed"
    await follow(tmp_path / "shop.db")


async def test_two_who_close_at_once_both_wait_until_it_is_closed(tmp_path: Path) -> None:
    engine = Engine(shop, log=tmp_path / "shop.db")
    await engine.__aenter__()
    found: list[str] = []

    async def close() -> None:
        await engine.__aexit__(None, None, None)
        found.append(engine.status)

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        group.start_soon(close)
    assert found == ["closed", "closed"]


@asynccontextmanager
async def waited_for(work: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    async def run() -> None:
        await work()

    task = asyncio.create_task(to_the_end(run()))
    await settled()
    yield task
    await asyncio.wait([task])


async def test_work_is_done_to_its_end_and_the_cancellation_told_then() -> None:
    gate, done = anyio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append("all of it")

    async with waited_for(work) as task:
        for _ in range(3):
            task.cancel()
            await settled()
        assert not task.done()
        gate.set()
    assert task.cancelled()
    assert done == ["all of it"]


async def test_work_that_fails_is_told_or_is_the_cause_of_the_cancellation() -> None:
    gate = anyio.Event()

    async def work() -> None:
        await gate.wait()
        raise StoreBroke("at the end")

    async with waited_for(work) as task:
        task.cancel()
        await settled()
        gate.set()
    with pytest.raises(asyncio.CancelledError) as raised:
        task.result()
    assert isinstance(raised.value.__cause__, StoreBroke)
    with pytest.raises(StoreBroke):
        await to_the_end(work())
