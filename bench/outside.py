"""Effects: what one costs until it is settled, in commands; and what those cost that are owed and not performed.

Here: a shop that asks for payments, and a provider that answers at once. What is measured is the processor's time of
the loop's thread, where all of it happens but the writing. Not here: what effects are (`millstream.engine.outside`).
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from millstream.bench.drivers import require_receipts
from millstream.bench.job import DifferentWork, Job, Result
from millstream.engine import App, Command, Engine, Event, Key, Limits, Query
from millstream.handlers import Effects, WriteModel, applies, handles, performs
from millstream.views import View, answers

__all__ = ["bare", "owed", "settled"]

#: Times that both are measured, in turn.
_TURNS = 5
_CHARGE = "_Provider.charge"
_CONCURRENCY_MAX = 1_000
_PAUSE_SECONDS = 0.005
_CALL_COMMANDS = 10_000
_NEVER = 1 << 40


class _Pay(Command):
    account: Key
    number: int


class _Confirm(Command):
    account: Key
    number: int


class _Note(Command):
    account: Key
    number: int


class _Requested(Event):
    account: Key
    number: int


class _Confirmed(Event):
    account: Key
    number: int


class _Noted(Event):
    account: Key
    number: int


class _HowMany(Query[int]):
    """How many payments were confirmed."""


class _Ledger(WriteModel):
    open: int = 0

    @handles
    def pay(self, command: _Pay) -> Iterator[Event]:
        yield _Requested(command.account, command.number)

    @handles
    def confirm(self, command: _Confirm) -> Iterator[Event]:
        yield _Confirmed(command.account, command.number)

    @handles
    def note(self, command: _Note) -> Iterator[Event]:
        yield _Noted(command.account, command.number)

    @applies
    def requested(self, event: _Requested) -> None:
        self.open += 1

    @applies
    def confirmed(self, event: _Confirmed) -> None:
        self.open -= 1


class _Payments(View):
    confirmed: int = 0

    @applies
    def when_confirmed(self, event: _Confirmed) -> None:
        self.confirmed += 1

    @applies
    def noted(self, event: _Noted) -> None: ...

    @answers
    def how_many(self, query: _HowMany) -> int:
        return self.confirmed


class _Provider(Effects):
    @performs(concurrency_max=_CONCURRENCY_MAX)
    async def charge(self, event: _Requested) -> _Confirm:
        return _Confirm(event.account, event.number)


_shop = App(models=[_Ledger], views=[_Payments], effects=[_Provider], name="millstream-bench-shop")


async def settled(job: Job) -> Result:
    """How many commands a settled effect costs: all from when it is owed, by a command that costs as much as another
    one, until what came of it is durable.
    """
    count, confirmed = job.workload.commands // _TURNS, 0
    async with _open(job, "bank.db") as engine:

        async def pay(numbers: range) -> None:
            nonlocal confirmed
            await _send(engine, job.workload.callers, [_Pay(f"account {n}", n) for n in numbers])
            confirmed += len(numbers)
            while await engine.ask(_HowMany()) < confirmed:  # noqa: ASYNC110 - a figure is all that tells
                await asyncio.sleep(_PAUSE_SECONDS)

        async def note(numbers: range) -> None:
            await _send(engine, job.workload.callers, [_Note(f"account {n}", n) for n in numbers])

        command, both = await _in_turn(count, job.workload.warmup, note, pay)
        if (left := len(engine.agenda.entries())) or engine.stats().effects[_CHARGE].succeeded != confirmed:
            raise DifferentWork(job.program, {"left": str(left), "confirmed": str(confirmed)})
    effect = both - command
    return Result(value=effect / command, details={"µs per command": command, "µs per settled effect": effect})


async def bare(job: Job) -> Result:
    """The same of a task for each, in which a coroutine is awaited that has a time to end by, and of nothing else."""
    count = job.workload.commands // _TURNS
    async with _open(job, "bank.db") as engine:
        provider, done = _Provider(), list[_Confirm]()

        async def perform(event: _Requested) -> None:
            async with asyncio.timeout(30):
                done.append(await provider.charge(event))

        async def tasks(numbers: range) -> None:
            for first in range(numbers.start, numbers.stop, _CONCURRENCY_MAX):
                some = range(first, min(first + _CONCURRENCY_MAX, numbers.stop))
                await asyncio.gather(*(asyncio.create_task(perform(_Requested(f"account {n}", n))) for n in some))

        async def note(numbers: range) -> None:
            await _send(engine, job.workload.callers, [_Note(f"account {n}", n) for n in numbers])

        command, task = await _in_turn(count, job.workload.warmup, note, tasks)
    return Result(value=task / command, details={"µs per command": command, "µs per task": task})


async def owed(job: Job, effects: int = 10_000) -> Result:
    """How many times as much a command costs in an engine that owes so many effects, and performs none, as in one that
    owes none.
    """
    count = job.workload.commands // _TURNS
    async with _open(job, "idle.db") as idle, _open(job, "owing.db") as owing:
        owing.effects.pause(_CHARGE)
        payments = [_Pay(f"account {n}", n) for n in range(effects)]
        for start in range(0, effects, _CALL_COMMANDS):
            require_receipts(await owing.execute_many(payments[start : start + _CALL_COMMANDS]))

        def noting(engine: Engine) -> Callable[[range], Awaitable[None]]:
            return lambda numbers: _send(engine, job.workload.callers, [_Note(f"account {n}", n) for n in numbers])

        without, beside = await _in_turn(count, job.workload.warmup, noting(idle), noting(owing))
        if (left := len(owing.agenda.entries())) != effects:
            raise DifferentWork(job.program, {"left": str(left), "owed": str(effects)})
    details = {"µs per command without": without, "µs per command beside them": beside}
    return Result(value=beside / without, details=details)


def _open(job: Job, name: str) -> Engine:
    return Engine(_shop, log=Path(job.directory) / name, limits=Limits(snapshot_events_every=_NEVER))


async def _in_turn(
    count: int, warmup: int, first: Callable[[range], Awaitable[None]], second: Callable[[range], Awaitable[None]]
) -> tuple[float, float]:
    """Microseconds of the loop's thread for each of so many, of the one and of the other: the median of some turns, in
    each of which the other one begins.
    """
    seconds: dict[Any, list[float]] = {first: [], second: []}
    for turn in range(-1, _TURNS):
        size = warmup if turn < 0 else count
        for run, found in list(seconds.items())[:: -1 if turn % 2 else 1]:  # the second one finds warm caches
            gc.collect()
            before = time.thread_time()
            await run(range((turn + 1) * count, (turn + 1) * count + size))
            if turn >= 0:
                found.append((time.thread_time() - before) / size * 1e6)
    one, other = (sorted(found)[_TURNS // 2] for found in seconds.values())
    return one, other


async def _send(engine: Engine, callers: int, commands: Sequence[Command]) -> None:
    """Execute them, by so many callers, each of which waits for its receipt before it sends the next."""
    left = iter(commands)

    async def caller() -> None:
        for command in left:
            await engine.execute(command)

    await asyncio.gather(*(caller() for _ in range(callers)))
