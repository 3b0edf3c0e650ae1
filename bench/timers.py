"""Timers: how late they are while others write, and what a million of them cost.

Here: an alarm clock. Each alarm is a timer, which rings an event, and a view notes when it sees it: that is later than
durable. Not here: what timers are (`millstream.engine.write.timetable`).
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millstream.bench.drivers import require_receipts
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import DifferentWork, Job, Result
from millstream.bench.measure import latencies, percentile, resident_bytes
from millstream.engine import App, Command, Engine, Event, Key, Limits, Query
from millstream.engine.loop.clock import elapsed, utc_now
from millstream.handlers import Decision, Schedule, WriteModel, applies, handles
from millstream.views import View, answers

__all__ = ["idle", "million", "plain_million", "punctual"]

#: How many are due in a second.
_PER_SECOND = 1_000
#: How long after the last was set the first is due.
_AHEAD_SECONDS = 2.0
_CALL_COMMANDS = 10_000
_FAR = timedelta(days=365)
_NEVER = 1 << 40
_MB = 1e6


class _Set(Command):
    clock: Key
    number: int
    at: float


class _Ring(Command):
    clock: Key
    number: int
    at: float


class _Note(Command):
    clock: Key


class _Rang(Event):
    clock: Key
    number: int
    at: float


class _Noted(Event):
    clock: Key


class _Late(Query[list[float]]):
    """By how many seconds each alarm was late, in the order in which they rang."""


class _HowMany(Query[int]):
    """How many rang."""


class _Alarms(WriteModel):
    rang: int = 0

    @handles
    def set(self, command: _Set) -> Decision:
        ring = _Ring(command.clock, command.number, command.at)
        yield Schedule(ring, at=datetime.fromtimestamp(command.at, UTC), name=str(command.number))

    @handles
    def ring(self, command: _Ring) -> Iterator[Event]:
        yield _Rang(command.clock, command.number, command.at)

    @handles
    def note(self, command: _Note) -> Iterator[Event]:
        yield _Noted(command.clock)

    @applies
    def when_rang(self, event: _Rang) -> None:
        self.rang += 1


class _Watch(View):
    """Looks at the clock, which a view may not: it is there to measure."""

    late: list[float] = []

    @applies
    def rang(self, event: _Rang) -> None:
        self.late.append(utc_now().timestamp() - event.at)

    @applies
    def noted(self, event: _Noted) -> None: ...

    @answers
    def how_many(self, query: _HowMany) -> int:
        return len(self.late)

    @answers
    def how_late(self, query: _Late) -> list[float]:
        return self.late


_alarms = App(models=[_Alarms], views=[_Watch], name="millstream-bench-alarms")


async def punctual(job: Job) -> Result:
    """The 99th percentile, in milliseconds, of how late a view sees what a timer led to; so many timers, 1,000 due in
    each second, beside callers who write.
    """
    count, callers = job.workload.commands, job.workload.callers
    async with Engine(_alarms, log=Path(job.directory) / LOG_NAME) as engine:
        first = utc_now().timestamp() + _AHEAD_SECONDS + count / 20_000
        await _set(engine, [_Set("tower", n, first + n / _PER_SECOND) for n in range(count)])
        written, stopped = 0, False

        async def caller(number: int) -> None:
            nonlocal written
            while not stopped:
                await engine.execute(_Note(f"caller {number}"))
                written += 1

        tasks = [asyncio.create_task(caller(number)) for number in range(callers)]
        started = elapsed()
        while await engine.ask(_HowMany()) < count:  # noqa: ASYNC110 - a figure is all that tells
            await asyncio.sleep(0.01)
        seconds, stopped = elapsed() - started, True
        await asyncio.gather(*tasks)
        late = list(await engine.ask(_Late()))
    if len(late) != count or min(late) < 0:
        raise DifferentWork(job.program, {"rang": str(len(late)), "set": str(count), "earliest": str(min(late))})
    details = latencies(late) | {"commands/s beside": written / seconds}
    return Result(value=details["p99 ms"], details=details)


async def idle(job: Job) -> Result:
    """The same for as many calls that the loop itself makes, each at its time, with nothing else to do."""
    loop, count = asyncio.get_running_loop(), job.workload.commands
    late: list[float] = []
    done = loop.create_future()
    first = loop.time() + 0.1 + count / 100_000

    def ring(at: float) -> None:
        late.append(loop.time() - at)
        if len(late) == count:
            done.set_result(None)

    for number in range(count):
        loop.call_at(first + number / _PER_SECOND, ring, first + number / _PER_SECOND)
    await done
    return Result(value=percentile(sorted(late), 0.99) * 1e3)


async def million(job: Job) -> Result:
    """Bytes of memory for each timer that waits; beside it what setting one costs, and opening a log with all."""
    count, path = job.workload.commands, Path(job.directory) / LOG_NAME
    far = (utc_now() + _FAR).timestamp()
    limits = Limits(timers_max=count, snapshot_events_every=_NEVER)
    async with Engine(_alarms, log=path, limits=limits, snapshots=False) as engine:
        without = await _noting(engine, job.workload.warmup)
        gc.collect()
        before, started = resident_bytes(), elapsed()
        await _set(engine, [_Set(f"tower {n % 1_000}", n, far + n) for n in range(count)])
        setting = elapsed() - started
        gc.collect()
        used = resident_bytes() - before
        beside = await _noting(engine, job.workload.warmup)
    seconds = {}
    for how in ("from the log", "storing", "from a snapshot"):
        started = elapsed()
        async with Engine(_alarms, log=path, limits=limits, snapshots=how != "from the log") as engine:
            seconds[how] = elapsed() - started
            if (found := len(engine.agenda.entries())) != count:
                raise DifferentWork(job.program, {"waiting": str(found), "set": str(count)})
    return Result(
        value=max(used, 1) / count,
        details={
            "µs to set one": setting / count * 1e6,
            "µs per command without": without,
            "µs per command beside them": beside,
            "s to open from the log": seconds["from the log"],
            "s to open from a snapshot": seconds["from a snapshot"],
        },
    )


def plain_million(job: Job) -> Result:
    """The same for a dict of the names, times and commands, and nothing else."""
    before = resident_bytes()
    plain = {
        (f"tower {n % 1_000}", str(n)): (
            f"2027-01-01T00:00:{n % 60:02}.{n:06}Z", f'{{"type":"_Ring","clock":"tower {n % 1_000}","number":{n}}}'
        )
        for n in range(job.workload.commands)
    }  # fmt: skip
    return Result(value=max(resident_bytes() - before, 1) / len(plain))


async def _set(engine: Engine, commands: Sequence[Command]) -> None:
    for start in range(0, len(commands), _CALL_COMMANDS):
        require_receipts(await engine.execute_many(commands[start : start + _CALL_COMMANDS]))


async def _noting(engine: Engine, count: int) -> float:
    """Microseconds for a command that sets none."""
    started = elapsed()
    await _set(engine, [_Note("one")] * count)
    return (elapsed() - started) / count * 1e6
