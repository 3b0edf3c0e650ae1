from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import CommitFailed, DefinitionError, Fenced
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.stores.port import Log
from millstream.engine.testing import Faults, FaultyLog, Simulation, StoreFault, simulate
from millstream.engine.testing.stores.log_conformance import LogConformance
from millstream.engine.testing.stores.written import APP, READ_BYTES, commits

TRIES = 40


@pytest.mark.anyio
class TestFaultyLogWithoutFaults(LogConformance):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemoryStore()

    def make(self) -> FaultyLog:
        return FaultyLog(1, store=self.store)

    def break_lock(self) -> None:
        self.store.locked = False

    async def bound(self, log: Log) -> int:
        self.store.body_bytes_max = 70_000
        return 70_000

    def traces(self) -> object:
        return self.store.application, list(self.store.commits), self.store.locked


def played(scenario: Callable[[Simulation, FaultyLog], Awaitable[Any]], faults: Faults, seed: int = 1) -> Any:
    """What a scenario on an open log returns."""

    async def with_log(world: Simulation) -> Any:
        log = world.log(faults)
        log.faults = Faults()
        await log.open(APP)
        log.faults = faults
        return await scenario(world, log)

    return simulate(with_log, seed=seed).result


def outcomes(scenario: Callable[[Simulation, FaultyLog], Awaitable[Any]], faults: Faults) -> set[Any]:
    """What a scenario returns with different seeds."""
    return {played(scenario, faults, seed) for seed in range(TRIES)}


async def append(log: FaultyLog, number: int = 1) -> type[Exception] | None:
    """Append a commit of the usual chain; what it raised."""
    try:
        await log.append(commits(number)[-1])
    except (CommitFailed, Fenced, StoreFault) as error:
        return type(error)
    return None


# The four fates.


@pytest.mark.parametrize(
    ("faults", "error", "there"),
    [
        (Faults(), None, 1),
        (Faults(append_refused=1.0), CommitFailed, 0),
        (Faults(append_lost=1.0), StoreFault, 0),
        (Faults(append_written=1.0), StoreFault, 1),
        (Faults(append_ghost=1.0), StoreFault, 0),
    ],
)
def test_each_fate_of_an_append_raises_what_it_should_and_leaves_what_it_should(
    faults: Faults, error: type[Exception] | None, there: int
) -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> tuple[type[Exception] | None, int]:
        return await append(log), len(log.commits)

    assert played(scenario, faults) == (error, there)


async def fail_and_crash(world: Simulation, log: FaultyLog) -> int:
    await append(log)
    log.crash()
    return len(log.commits)


async def fail_probe_and_crash(world: Simulation, log: FaultyLog) -> int:
    await append(log)
    await log.probe()
    log.crash()
    return len(log.commits)


async def fail_append_another_and_crash(world: Simulation, log: FaultyLog) -> int:
    await append(log)
    log.faults = Faults()
    await append(log, len(log.commits) + 1)
    log.crash()
    return len(log.commits)


@pytest.mark.parametrize(
    ("faults", "at_once", "after_a_probe", "after_another"),
    [
        (Faults(append_lost=1.0), {0}, {0}, {1}),
        (Faults(append_written=1.0), {0, 1}, {1}, {2}),
        (Faults(append_ghost=1.0), {0, 1}, {0}, {1}),
    ],
)
def test_after_an_error_a_crash_may_go_either_way_until_the_store_has_taken_something(
    faults: Faults, at_once: set[int], after_a_probe: set[int], after_another: set[int]
) -> None:
    assert outcomes(fail_and_crash, faults) == at_once
    assert outcomes(fail_probe_and_crash, faults) == after_a_probe
    assert outcomes(fail_append_another_and_crash, faults) == after_another


@pytest.mark.parametrize(("unflushed", "left"), [(0.0, {1}), (1.0, {0, 1})])
def test_opening_flushes_what_was_left_unless_it_is_told_not_to(unflushed: float, left: set[int]) -> None:
    """Left by an append that failed, and by one that a crash interrupted; if that left nothing, there is nothing to see."""

    async def after_a_failure(world: Simulation, log: FaultyLog) -> int:
        log.faults = Faults(append_written=1.0, open_unflushed=unflushed)
        await append(log)
        await log.close()
        await log.open(APP)
        log.crash()
        return len(log.commits)

    async def after_a_crash(world: Simulation, log: FaultyLog) -> int:
        log.faults = Faults(open_unflushed=unflushed, latency_seconds_max=0.5)
        with anyio.move_on_after(0.01):
            await append(log)
        log.crash()
        if not log.commits:
            return 1
        await log.open(APP)
        log.crash()
        return len(log.commits)

    assert outcomes(after_a_failure, Faults()) == left
    assert outcomes(after_a_crash, Faults()) == left


def test_a_ghost_does_not_come_back_behind_another_commit() -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> list[int]:
        await fail_append_another_and_crash(world, log)
        return [commit.number for commit in log.commits]

    assert all(played(scenario, Faults(append_ghost=1.0), seed) == [1] for seed in range(TRIES))


ASKED: dict[str, Callable[[FaultyLog], Awaitable[object]]] = {
    "head": lambda log: log.head(),
    "read": lambda log: log.read(0, READ_BYTES),
    "probe": lambda log: log.probe(),
    "open": lambda log: log.open(APP),
    "attach": lambda log: log.attach(),
    "snapshot": lambda log: log.snapshots.kept(),
}


@pytest.mark.parametrize(
    ("faults", "failing"),
    [
        (Faults(), set()),
        (Faults(head_fails=1.0), {"head"}),
        (Faults(read_fails=1.0), {"read"}),
        (Faults(probe_fails=1.0), {"probe"}),
        (Faults(open_fails=1.0), {"open", "attach"}),
        (Faults(snapshot_fails=1.0), {"snapshot"}),
    ],
)
def test_whatever_is_asked_of_the_store_fails_when_it_is_told_to(faults: Faults, failing: set[str]) -> None:
    async def scenario(world: Simulation) -> set[str]:
        failed = set()
        for what, ask in ASKED.items():
            log = world.log()
            await log.open(APP)
            if what == "open":
                await log.close()
            log.faults = faults
            try:
                await ask(log)
            except StoreFault:
                failed.add(what)
        return failed

    assert simulate(scenario, seed=1).result == failing


# What is under way.


def test_a_cancelled_append_goes_on_by_itself() -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> tuple[int, int]:
        with anyio.move_on_after(0.01):
            await append(log)
        before = len(log.commits)
        await world.sleep(1)
        return before, len(log.commits)

    assert played(scenario, Faults(latency_seconds_max=0.5)) == (0, 1)


@pytest.mark.parametrize("then", ["append", "close"])
def test_closing_waits_for_what_is_being_written_and_so_does_the_next_append(then: str) -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> int:
        with anyio.move_on_after(0.001):
            await append(log)
        await (append(log, 2) if then == "append" else log.close())
        return len(log.commits)

    assert outcomes(scenario, Faults(latency_seconds_max=0.5)) == {2 if then == "append" else 1}


def test_what_is_being_written_at_a_crash_is_written_or_not_and_never_later() -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> tuple[int, int]:
        with anyio.move_on_after(0.01):
            await append(log)
        log.crash()
        at_once = len(log.commits)
        await world.sleep(10)
        return at_once, len(log.commits)

    assert outcomes(scenario, Faults(latency_seconds_max=0.5)) == {(0, 0), (1, 1)}


def test_what_was_acknowledged_is_there_after_any_number_of_crashes() -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> bool:
        acknowledged = 0
        for _ in range(20):
            for _ in range(3):
                if await append(log, len(log.commits) + 1) is None:
                    acknowledged = len(log.commits)
            log.crash()
            if len(log.commits) < acknowledged:
                return False
            await log.open(APP)
        return True

    rough = Faults(append_refused=0.1, append_lost=0.1, append_written=0.2, append_ghost=0.2)
    assert outcomes(scenario, rough) == {True}


def test_whoever_used_the_log_before_the_crash_gets_errors_and_whoever_opens_it_does_not() -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> list[type[Exception] | None]:
        seen: list[type[Exception] | None] = []
        waiting = asyncio.create_task(append(log))
        await anyio.lowlevel.checkpoint()
        log.crash()
        seen += [await waiting, await append(log)]
        with pytest.raises(StoreFault, match="has crashed: open it again"):
            await log.head()
        await log.close()
        await log.open(APP)
        return [*seen, await append(log, len(log.commits) + 1)]

    assert played(scenario, Faults()) == [StoreFault, StoreFault, None]


def test_held_operations_take_longer_than_others() -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> float:
        before = world.seconds
        await log.head()
        return world.seconds - before

    assert all(played(scenario, Faults(), seed) <= 0.0011 for seed in range(TRIES))
    assert max(played(scenario, Faults(held=1.0, held_seconds_max=60), seed) for seed in range(TRIES)) > 30


# What it tells.


def test_faults_are_counted_and_in_the_trace() -> None:
    async def scenario(world: Simulation) -> None:
        log = world.log()
        await log.open(APP)
        log.faults = Faults(append_refused=1.0, head_fails=1.0)
        await append(log)
        with pytest.raises(StoreFault):
            await log.head()

    run = simulate(scenario, seed=1)
    assert run.counts == {"append_refused": 1, "head_fails": 1}
    assert [line.partition(" ")[2] for line in run.trace] == ["log: append refused commit 1", "log: head fails"]


def test_who_follows_hears_of_a_crash_and_of_a_read_that_fails() -> None:
    async def scenario(world: Simulation, log: FaultyLog) -> tuple[int, str, str]:
        pages = log.follow(0, READ_BYTES)
        await log.append(commits(1)[0])
        first = (await anext(pages))[-1].number
        waiting = asyncio.ensure_future(anext(pages))
        await world.sleep(1)
        log.crash()
        with pytest.raises(StoreFault) as crashed:
            await waiting
        await log.open(APP)
        log.faults = Faults(read_fails=1.0)
        with pytest.raises(StoreFault) as failed:
            await anext(log.follow(0, READ_BYTES))
        return first, str(crashed.value), str(failed.value)

    assert played(scenario, Faults()) == (
        1,
        "the process that used this log has crashed: open it again",
        "the simulated store failed: read",
    )


def test_healing_ends_the_faults_and_keeps_the_latency() -> None:
    log = FaultyLog(1, Faults(append_lost=1.0, held=0.5, latency_seconds_max=0.25))
    log.heal()
    assert log.faults == Faults(latency_seconds_max=0.25)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"head_fails": 1.5}, "head_fails is 1.5: a share of 1"),
        ({"read_fails": -0.1}, "read_fails is -0.1: a share of 1"),
        ({"held_seconds_max": -1.0}, "held_seconds_max is -1.0: a time"),
        (
            {"append_lost": 0.6, "append_ghost": 0.6},
            "append_refused, append_lost, append_written, append_ghost are more than 1 together",
        ),
    ],
)
def test_faults_that_make_no_sense_are_refused(wrong: dict[str, float], problem: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        Faults(**wrong)
    assert str(raised.value) == f"{problem} (Faults)"
