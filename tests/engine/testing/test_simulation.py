from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import structlog

from millstream.engine import Engine, Limits
from millstream.engine.loop.clock import elapsed, utc_now
from millstream.engine.testing import NotSimulated, Simulation, SimulationError, Stuck, simulate, torture
from tests.shop import Add, shop

ROOT = Path(__file__).parents[3]
A_DAY = 86_400.0


# Time.


def test_simulated_time_passes_and_real_time_does_not() -> None:
    async def a_week(world: Simulation) -> list[float]:
        seen = [world.seconds]
        for _ in range(7):
            await world.sleep(A_DAY)
            seen.append(world.seconds)
        return seen

    run = simulate(a_week, seed=1)
    assert [round(seconds / A_DAY, 6) for seconds in run.result] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert run.seconds == pytest.approx(7 * A_DAY, rel=1e-6)


def test_timeouts_are_over_when_their_simulated_time_is() -> None:
    async def scenario(world: Simulation) -> float:
        with anyio.move_on_after(300):
            await anyio.Event().wait()
        return world.seconds

    assert simulate(scenario, seed=1).result == pytest.approx(300, abs=0.001)


def test_both_clocks_of_the_engine_are_the_simulated_one_and_real_ones_afterwards() -> None:
    async def scenario(world: Simulation) -> tuple[float, datetime]:
        world.stall(A_DAY)
        return elapsed(), utc_now()

    before = elapsed()
    run = simulate(scenario, seed=1, stalls=0.0)
    assert run.result[0] == pytest.approx(A_DAY, abs=0.001)
    assert run.result[1].date() == datetime(2024, 1, 2, tzinfo=UTC).date()
    assert 0 <= elapsed() - before < 60
    assert utc_now().year > 2024


def test_a_sleep_that_holds_the_loop_takes_simulated_time_only() -> None:
    async def scenario(world: Simulation) -> float:
        before = world.seconds
        vars(time)["sleep"](A_DAY)
        return world.seconds - before

    assert simulate(scenario, seed=1).result == A_DAY


def test_the_time_of_day_goes_back_now_and_then_and_the_measuring_clock_never() -> None:
    async def scenario(world: Simulation) -> tuple[list[datetime], list[float]]:
        return [world.now() for _ in range(100)], [elapsed() for _ in range(100)]

    of_day, measured = simulate(scenario, seed=1).result
    assert of_day != sorted(of_day)
    assert measured == sorted(measured)


def test_another_thread_sees_the_real_clocks_while_a_simulation_runs() -> None:
    seen: list[Any] = []
    go, gone = Event(), Event()

    def look() -> None:
        go.wait(10)
        seen.extend([utc_now().year, elapsed() - before])
        gone.set()

    async def scenario(world: Simulation) -> None:
        world.stall(A_DAY)
        go.set()
        gone.wait(10)

    before, other = elapsed(), Thread(target=look)
    other.start()
    simulate(scenario, seed=1)
    other.join()
    assert seen[0] > 2024
    assert 0 <= seen[1] < 60


def test_the_machine_stalls_as_often_as_it_is_told_to() -> None:
    async def scenario(world: Simulation) -> float:
        before = elapsed()
        for _ in range(1_000):
            elapsed()
        return elapsed() - before

    assert simulate(scenario, seed=1, stalls=0.0).result == pytest.approx(1_001e-6)
    assert simulate(scenario, seed=1, stalls=1.0).result > 1.0


# The same seed, the same run.


async def crowd(world: Simulation) -> None:
    """Thirty tasks, each in a cancel scope of its own, that pause, and are cancelled together; and sets to go through."""

    async def one(number: int) -> None:
        try:
            with anyio.move_on_after(A_DAY):
                while True:
                    await world.pause()
                    world.note(f"{number} at {object()!r}")
        finally:
            world.note(f"{number} ends")

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(one, number)
        await world.sleep(0.02)
        group.cancel_scope.cancel()
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(10)]
    for number, future in enumerate(futures):
        future.set_result(number)
    tasks = [asyncio.create_task(world.sleep(0), name=str(number)) for number in range(10)]
    world.note(f"futures {[future.result() for future in (await asyncio.wait(futures))[0]]}")
    world.note(f"tasks {[task.get_name() for task in (await asyncio.wait(tasks))[0]]}")


def clutter() -> list[bytes]:
    """Memory in another order, so that what depends on addresses comes out differently."""
    random = Random()
    return [bytes(random.randrange(600)) for _ in range(5_000)]


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first = simulate(crowd, seed=7)
    for _ in range(3):
        kept = clutter()
        again = simulate(crowd, seed=7)
        assert again == first
        del kept
    assert simulate(crowd, seed=8).trace != first.trace
    assert len(first.trace) > 100


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    program = (
        "from tests.engine.testing.test_simulation import crowd\n"
        "from millstream.engine.testing import simulate\n"
        "print(*simulate(crowd, seed=7).trace, sep='\\n')\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert told.stdout.splitlines() == simulate(crowd, seed=7).trace


def test_a_scenarios_choices_do_not_depend_on_what_the_stores_draw() -> None:
    async def quiet(world: Simulation) -> list[int]:
        return [world.random.randrange(1_000) for _ in range(5)]

    async def busy(world: Simulation) -> list[int]:
        await world.log().open("shop")
        world.stream("mine").random()
        return await quiet(world)

    assert simulate(quiet, seed=3).result == simulate(busy, seed=3).result == [243, 606, 557, 133, 378]


def test_callbacks_run_in_the_order_in_which_they_were_scheduled_whatever_the_seed() -> None:
    async def scenario(world: Simulation) -> list[int]:
        order: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_soon(order.append, number)
        await anyio.lowlevel.checkpoint()
        return order

    assert [simulate(scenario, seed=seed).result for seed in range(20)] == [list(range(20))] * 20


def test_log_lines_go_to_the_trace_and_nowhere_else(log_lines: list[Any]) -> None:
    async def scenario(world: Simulation) -> None:
        structlog.get_logger("millstream").warning("view_detached", view="Shelf", cause=object())

    assert simulate(scenario, seed=1).trace == ["0.000003 warning: view_detached view='Shelf' cause=<object object>"]
    structlog.get_logger("millstream").info("afterwards")
    assert log_lines == [{"event": "afterwards", "log_level": "info"}]


# Runs that don't end.


async def wait_for_ever(world: Simulation) -> None:
    await anyio.Event().wait()


async def two_who_wait(world: Simulation) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(wait_for_ever, world, name="ann")


def test_a_scenario_in_which_somebody_waits_for_ever_ends_at_once_and_says_who() -> None:
    with pytest.raises(Stuck) as raised:
        simulate(two_who_wait, seed=1)
    assert raised.value.problem == "nothing is left to do, and no timer runs"
    assert [re.sub(r":\d+", ":…", task) for task in raised.value.waiting] == [
        "scenario: two_who_wait (test_simulation.py:…)",
        "ann: wait_for_ever (test_simulation.py:…)",
    ]
    assert str(raised.value).startswith("the scenario is stuck after 0.0000")
    assert str(raised.value).endswith(raised.value.waiting[1])


def test_a_scenario_that_only_waits_for_timers_is_stuck_when_its_time_is_over() -> None:
    async def scenario(world: Simulation) -> None:
        while True:
            await world.sleep(60)

    with pytest.raises(Stuck, match=r"it is not over after seconds_max=3,600"):
        simulate(scenario, seed=1, seconds_max=3_600)


def test_a_scenario_that_goes_round_in_circles_is_stuck_when_its_turns_are_over() -> None:
    async def scenario(world: Simulation) -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(Stuck, match=r"it is not over after turns_max=1,000 of the loop"):
        simulate(scenario, seed=1, turns_max=1_000)


def test_a_cancelled_task_that_waits_behind_a_shield_does_not_stop_time() -> None:
    """anyio tries again at each turn of the loop to cancel it, so there is always something to do."""

    async def scenario(world: Simulation) -> float:
        with anyio.CancelScope() as scope:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await world.sleep(0.01)
        return world.seconds

    assert simulate(scenario, seed=1).result == pytest.approx(0.01, abs=0.001)


def test_what_a_scenario_leaves_running_is_cancelled_in_the_order_in_which_it_was_started() -> None:
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await anyio.Event().wait()
        finally:
            ended.append(number)

    async def scenario(world: Simulation) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(wait(number)) for number in range(20)]
        await anyio.lowlevel.checkpoint()
        return tasks

    assert all(task.cancelled() for task in simulate(scenario, seed=1).result)
    assert ended == list(range(20))


def test_a_task_that_refuses_to_end_does_not_keep_the_run_from_ending() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await anyio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def scenario(world: Simulation) -> str:
        scenario_task = asyncio.create_task(stubborn())
        await anyio.lowlevel.checkpoint()
        return "the result" if not scenario_task.done() else "nothing"

    assert simulate(scenario, seed=1).result == "the result"


# What can't be simulated.


async def start_a_thread(world: Simulation) -> None:
    await anyio.to_thread.run_sync(int)


async def use_the_executor(world: Simulation) -> None:
    await asyncio.to_thread(int)


async def read_a_socket(world: Simulation) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        await asyncio.get_running_loop().sock_recv(ours, 1)


async def start_a_program(world: Simulation) -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-c", "0")


@pytest.mark.parametrize(
    ("scenario", "what"),
    [
        (start_a_thread, "the thread 'AnyIO worker thread'"),
        (use_the_executor, "a thread of an executor"),
        (read_a_socket, "a socket, a pipe or a subprocess"),
        (start_a_program, ""),
    ],
)
def test_threads_sockets_and_programs_are_refused_where_they_are_wanted(scenario: Any, what: str) -> None:
    with pytest.raises(NotSimulated) as raised:
        simulate(scenario, seed=1)
    assert raised.value.what.startswith(what)
    assert "keep the log in memory (world.log())" in str(raised.value)


def test_an_engine_on_a_file_is_refused(tmp_path: Path) -> None:
    async def scenario(world: Simulation) -> None:
        async with Engine(shop, log=tmp_path / "shop.db"):
            raise AssertionError("it must not open")

    with pytest.raises(NotSimulated, match="the thread 'AnyIO worker thread' is not simulated"):
        simulate(scenario, seed=1)


def test_a_call_from_a_thread_that_ran_before_ends_the_run() -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    go, refused = Event(), Event()

    def call() -> None:
        go.wait(10)
        with pytest.raises(NotSimulated):
            loops[0].call_soon_threadsafe(print)
        refused.set()

    async def scenario(world: Simulation) -> None:
        loops.append(asyncio.get_running_loop())
        go.set()
        refused.wait(10)
        await anyio.Event().wait()

    other = Thread(target=call)
    other.start()
    with pytest.raises(NotSimulated, match="a call from another thread"):
        simulate(scenario, seed=1)
    other.join()


@pytest.mark.anyio
async def test_a_simulation_inside_a_running_loop_is_refused() -> None:
    with pytest.raises(SimulationError, match="call it from a plain function"):
        simulate(wait_for_ever, seed=1)


def test_a_second_simulation_at_the_same_time_is_refused() -> None:
    problems: list[SimulationError] = []

    def second() -> None:
        go.wait(10)
        try:
            simulate(wait_for_ever, seed=1)
        except SimulationError as error:
            problems.append(error)
        gone.set()

    async def first(world: Simulation) -> None:
        go.set()
        gone.wait(10)

    go, gone, other = Event(), Event(), Thread(target=second)
    other.start()
    simulate(first, seed=1)
    other.join()
    assert [str(problem) for problem in problems] == [
        "another simulation runs in this process: one at a time, the clocks are shared"
    ]


def test_nothing_is_left_changed_after_a_run_that_failed() -> None:
    async def scenario(world: Simulation) -> None:
        changed.extend([Thread.start, vars(time)["sleep"], structlog.get_config()["processors"][:]])
        raise KeyError("on purpose")

    changed: list[Any] = []
    before = [Thread.start, vars(time)["sleep"], structlog.get_config()["processors"][:]]
    for _ in range(2):
        with pytest.raises(KeyError):
            simulate(scenario, seed=1)
    assert [Thread.start, vars(time)["sleep"], structlog.get_config()["processors"]] == before
    assert [now != then for now, then in zip(changed, before * 2, strict=True)] == [True] * 6

    async def make() -> int:
        scope = anyio.CancelScope()
        return hash(scope) - object.__hash__(scope)

    assert asyncio.run(make()) == 0


# A run that fails, and many runs.


async def fails_at_seven(world: Simulation) -> None:
    world.note("looking at the seed")
    assert world.seed != 7, "seven"


def test_what_a_scenario_raises_names_the_seed_and_ends_with_the_trace() -> None:
    with pytest.raises(AssertionError, match="seven") as raised:
        torture(fails_at_seven, seeds=range(20))
    assert raised.value.__notes__ == [
        "simulated with seed=7, which goes the same way again; its trace:\n0.000003 looking at the seed"
    ]


def test_a_long_trace_is_told_from_its_end() -> None:
    async def scenario(world: Simulation) -> None:
        for number in range(100):
            world.note(f"line {number}")
        raise KeyError("on purpose")

    with pytest.raises(KeyError) as raised:
        simulate(scenario, seed=1)
    told = raised.value.__notes__[0].splitlines()
    assert told[1:3] == ["… 70 lines", "0.000003 line 70"]
    assert told[-1] == "0.000003 line 99"


def test_an_engine_in_a_simulation_needs_no_special_arguments() -> None:
    async def scenario(world: Simulation) -> int:
        async with Engine(shop, log=world.log(), limits=Limits(slice_ms_max=0.001)) as engine:
            world.stall(A_DAY)
            return (await engine.execute(Add("a", 3), timeout=1.0)).position

    run = simulate(scenario, seed=1)
    assert run.result == 1
    assert [line.split()[2] for line in run.trace] == ["opened", "closed"]


def test_an_engine_on_another_log_can_not_crash() -> None:
    async def scenario(world: Simulation) -> None:
        async with Engine(shop, log="memory:") as engine:
            await world.crash(engine)

    with pytest.raises(
        SimulationError, match=r"an engine on memory: can't crash here: open it on a log of world.log\(\)"
    ):
        simulate(scenario, seed=1)
