"""Failovers under load, between real processes: what was acknowledged is there, and once.

A few in each run of the suite; a hundred with ``MILLSTREAM_TORTURE=1``.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import Engine
from millstream.engine.upkeep import attached, stored_events, verify_log
from tests.failover import Callers, Processes
from tests.postgres import new_address
from tests.shop import Everything, shop

pytestmark = pytest.mark.anyio

IS_LONG = bool(os.environ.get("MILLSTREAM_TORTURE"))
ROUNDS = 100 if IS_LONG else 3
#: What users have by default, in the long run.
LEASE_SECONDS = "3" if IS_LONG else "1"
#: Every so many rounds the next standby begins while callers are at work. In all of them, two cores would do little
#: else, as each standby begins with all that they have written.
BUSY_EVERY = 5


@pytest.fixture(params=["asyncio"])
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The processes take uvloop; who calls them does not matter."""
    return "asyncio", {"use_uvloop": False}


LOGS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: str(folder / "shop.db"),
    "postgres": lambda folder: new_address(lease_seconds=LEASE_SECONDS),
}


async def require_each_once(log: str, callers: Callers) -> None:
    async with attached(log) as (found, _):
        await verify_log(found)
        positions = {event.command_id: event.position async for event in stored_events(found)}
        counted = Counter([event.command_id async for event in stored_events(found)])
    assert counted.most_common(1)[0][1] == 1
    assert {name: positions[name] for name in callers.acknowledged} == callers.acknowledged
    async with Engine(shop, log=log) as engine:
        assert sum((await engine.ask(Everything())).values()) == len(positions)


def report(what: str, seconds: list[float], callers: Callers) -> None:
    """The figures of a long run, which is run with ``-s``."""
    if IS_LONG:
        seconds = sorted(seconds)
        half, most = seconds[len(seconds) // 2], seconds[-1]
        sys.stdout.write(
            f"\n{what}: {len(seconds)} times, {len(callers.acknowledged):,} acknowledged, "
            f"until the next receipt p50 {half:.2f} s, most {most:.2f} s\n"
        )


@pytest.mark.parametrize("kind", LOGS)
async def test_a_leader_that_is_killed_is_replaced_and_nothing_is_lost_or_doubled(kind: str, tmp_path: Path) -> None:
    log = LOGS[kind](tmp_path)
    seconds = []
    async with Processes(tmp_path, log) as processes, anyio.create_task_group() as group:
        callers = Callers(processes.addresses)
        group.start_soon(callers.run)
        await callers.more(100)
        await processes.standing_by()
        for number in range(ROUNDS):
            leader = await processes.leader()
            await callers.more(50)
            await processes.kill(leader)
            seconds.append(await callers.more(1))
            await callers.more(50)
            if number % BUSY_EVERY:
                callers.rest()
            await processes.begin(leader)
            await processes.standing_by()
        callers.end()
    assert processes.said().count("took_over") >= ROUNDS
    assert not callers.errors, (callers.errors, processes.said()[-3000:])
    await require_each_once(log, callers)
    report(f"killed on {kind}", seconds, callers)
    assert max(seconds) < 2


async def test_a_leader_that_stands_still_is_replaced_when_its_lease_ends_and_fenced_when_it_wakes(
    tmp_path: Path,
) -> None:
    log = LOGS["postgres"](tmp_path)
    seconds = []
    async with Processes(tmp_path, log) as processes, anyio.create_task_group() as group:
        callers = Callers(processes.addresses)
        group.start_soon(callers.run)
        await callers.more(100)
        await processes.standing_by()
        for number in range(max(1, ROUNDS // 2)):
            leader = await processes.leader()
            await callers.more(50)
            processes.stop(leader)
            seconds.append(await callers.more(1))
            await callers.more(50)
            assert await processes.wake(leader) == 4
            if number % BUSY_EVERY:
                callers.rest()
            await processes.begin(leader)
            await processes.standing_by()
        callers.end()
    said = processes.said()
    assert said.count("has another writer, which has taken over") + said.count("so commit") >= len(seconds)
    assert not callers.errors, (callers.errors, processes.said()[-3000:])
    await require_each_once(log, callers)
    report("stopped on postgres", seconds, callers)
    assert max(seconds) < 5
