"""A simulated world to run a scenario in: one seed, one clock, one order of events.

Here: what a scenario gets, and running it. Not here: the loop (`loop`), the store that fails (`faulty`), `checks`.

Whatever is random comes from the seed, each part of the world from a stream of its own: a scenario's choices don't
change because the store drew one number more. So the same seed gives the same run, step by step, as long as the code is
the same, in this process and in the next.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from random import Random
from threading import Lock
from typing import Any, Generic, NoReturn, TypeVar

import anyio
import anyio.lowlevel
import msgspec
import structlog

from millstream.engine.engine import Engine
from millstream.engine.loop.clock import replaced_clocks
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing.errors import SimulationError
from millstream.engine.testing.faulty import Faults, FaultyLog
from millstream.engine.testing.loop import SimulatedClock, SimulatedLoop, confined, require_no_loop

__all__ = ["Run", "Scenario", "Simulation", "quiet_loop", "simulate", "torture"]

T = TypeVar("T")

_PAUSE_TURNS_MAX = 10
_TOLD_LINES = 30
#: Simulated seconds, and turns of the loop, after which a scenario is stuck.
_SECONDS_MAX, _TURNS_MAX = 1e6, 2_000_000
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_one_at_a_time = Lock()


class Simulation:
    """What a scenario gets: its randomness, its clock, its stores, and the record of what happened."""

    def __init__(self, seed: int, clock: SimulatedClock) -> None:
        self.seed = seed
        #: The scenario's own.
        self.random = Random(seed)
        #: What happened, a line each, with the simulated seconds since the beginning.
        self.trace: list[str] = []
        self._clock = clock
        self._logs: list[FaultyLog] = []

    @property
    def seconds(self) -> float:
        """Simulated seconds since the beginning."""
        return self._clock.now

    @property
    def counts(self) -> Counter[str]:
        """How often which fault happened so far, in all logs together; crashes too."""
        counts: Counter[str] = Counter()
        for log in self._logs:
            counts.update(log.counts)
        return counts

    def now(self) -> datetime:
        """The time of day, as the engine sees it; it goes back now and then."""
        return self._clock.of_day()

    def set_clock(self, ahead_seconds: float) -> None:
        """Let the time of day be so far ahead of the time that passes, or behind it; 0 sets it right."""
        self._clock.ahead = ahead_seconds
        self.note(f"the clock is set {ahead_seconds:+g} s")

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self._clock.now:.6f} {_ADDRESS.sub('', what)}")

    def stream(self, name: str) -> Random:
        """A random generator that depends on the seed and the name alone."""
        return Random(f"{self.seed} {name}")

    def log(self, faults: Faults | None = None, *, store: MemoryStore | None = None) -> FaultyLog:
        """A log in memory that fails as ``faults`` say, which the trace tells; without them it is only slow."""
        self._logs.append(FaultyLog(self.stream(f"log {len(self._logs)}"), faults, store=store, note=self.note))
        return self._logs[-1]

    async def sleep(self, seconds: float) -> None:
        """Wait while so much simulated time passes."""
        await anyio.sleep(seconds)

    async def pause(self, seconds_max: float = 0.01) -> None:
        """Let others run for as long as the seed says: some turns of the loop, or up to so many simulated seconds."""
        if self.random.random() < 0.5:
            for _ in range(self.random.randint(0, _PAUSE_TURNS_MAX)):
                await anyio.lowlevel.checkpoint()
        else:
            await anyio.sleep(self.random.uniform(0, seconds_max))

    def stall(self, seconds: float) -> None:
        """So much time passes in which no task runs, as if the machine were busy."""
        self._clock.now += seconds

    async def crash(self, engine: Engine) -> None:
        """Throw an engine away as if its process had been killed; nothing is drained, nothing is closed.

        Nothing that comes after this reaches the log; what was being written is there or not, as the seed says. Callers
        that wait get a typed error. It may be called at any time, also while the engine opens or closes; leave the
        engine's ``async with`` before opening another one on the same log.

        Args:
            engine: one whose log was made by `log`.

        Raises:
            SimulationError: its log is another one.
        """
        log = engine.log
        if not isinstance(log, FaultyLog):
            raise SimulationError(f"an engine on {engine.log.name} can't crash here: open it on a log of world.log()")
        log.counts["crashes"] += 1
        self.note(f"crash, with {len(log.commits)} commits in the log")
        log.crash()
        await asyncio.sleep(0)  # a task that is cancelled before its first step can't tell those who wait for it
        tasks = list(_tasks_of(engine))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Scenario = Callable[[Simulation], Coroutine[Any, Any, T]]


class Run(msgspec.Struct, Generic[T], frozen=True):
    """What became of a scenario: what it returned, its trace, how often which fault happened, and how long it took."""

    seed: int
    result: T
    trace: list[str]
    counts: Counter[str]
    seconds: float


def simulate(
    scenario: Scenario[T],
    *,
    seed: int,
    stalls: float = 0.01,
    seconds_max: float = _SECONDS_MAX,
    turns_max: int = _TURNS_MAX,
) -> Run[T]:
    """Run ``scenario(world)`` to its end, in a simulated world that is the same for the same seed.

    No real time passes. Engines that are opened in the scenario need no special arguments: both of their clocks are the
    simulated one. Their log lines, and all others of structlog, go to the trace. What the scenario leaves running is
    cancelled at its end.

    Args:
        scenario: a coroutine function. It, and what it calls, may use asyncio and anyio, but no threads, files, sockets
            or subprocesses, and what it chooses it chooses by ``world.random``.
        seed: any number.
        stalls: how often, per look at the clock, the machine is busy for up to 5 ms with something else.
        seconds_max: simulated seconds after which the scenario is stuck.
        turns_max: turns of the loop after which it is.

    Raises:
        Stuck: a task waits for what never comes; says which one, and where.
        NotSimulated: a thread or a socket was wanted.
        SimulationError: another simulation runs in this process, or a loop runs in this thread.
        BaseException: whatever the scenario raised, with the seed and the end of the trace as a note.
    """
    require_no_loop("simulate()")
    if not _one_at_a_time.acquire(blocking=False):
        raise SimulationError("another simulation runs in this process: one at a time, the clocks are shared")
    clock = SimulatedClock(Random(f"{seed} clock"), stalls)
    world = Simulation(seed, clock)
    try:
        with replaced_clocks(clock.look, clock.of_day), _log_lines(world):
            result = _run(partial(scenario, world), SimulatedLoop(clock, seconds_max, turns_max))
        return Run(seed, result, world.trace, world.counts, world.seconds)
    except BaseException as error:
        error.add_note(_text_of(world))
        raise
    finally:
        _one_at_a_time.release()


def torture(scenario: Scenario[Any], *, seeds: Iterable[int], **how: Any) -> Counter[str]:
    """Run a scenario with each of the seeds; the first run that fails ends it, and its error names the seed.

    Args:
        scenario: as for `simulate`.
        seeds: such as ``range(200)``.
        how: whatever else `simulate` takes.

    Returns:
        How often which fault happened in all runs together: see that it did happen what the scenario is for.
    """
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts.update(simulate(scenario, seed=seed, **how).counts)
    return counts


def quiet_loop() -> SimulatedLoop:
    """A loop in simulated time, with no world around it: nothing stalls, and nothing is random."""
    return SimulatedLoop(SimulatedClock(Random(0), 0), _SECONDS_MAX, _TURNS_MAX)


def _run(made: Callable[[], Coroutine[Any, Any, T]], loop: SimulatedLoop) -> T:
    try:
        with confined(loop):
            try:
                return loop.run_until_complete(loop.create_task(made(), name="scenario"))
            finally:
                loop.dismiss()
    finally:
        loop.close()


def _text_of(world: Simulation) -> str:
    lines = world.trace[-_TOLD_LINES:]
    cut = [f"… {len(world.trace) - len(lines):,} lines"] if len(world.trace) > len(lines) else []
    return "\n".join([f"simulated with seed={world.seed}, which goes the same way again; its trace:", *cut, *lines])


def _tasks_of(engine: Engine) -> Iterator[asyncio.Task[Any]]:
    """Whatever runs on the engine's behalf, alone or in a list."""
    for held in vars(engine).values():
        yield from (each for each in (held if isinstance(held, list) else [held]) if isinstance(each, asyncio.Task))


@contextmanager
def _log_lines(world: Simulation) -> Iterator[None]:
    """Let structlog's lines go to the trace: in place, because loggers keep the list of processors that they found."""

    def write(_: Any, level: str, line: MutableMapping[str, Any]) -> NoReturn:
        values = "".join(f" {name}={value!r}" for name, value in line.items() if name != "event")
        world.note(f"{level}: {line.get('event')}{values}")
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [write]
    try:
        yield
    finally:
        processors[:] = before
