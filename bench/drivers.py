"""Workloads put to a system, whichever it is: many callers, one caller, one call for all.

Every driver ends with the same proof: what the system answers from memory is what plain SQL finds in its file.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from penstock.bench.bank import Deposit, fingerprint, streams
from penstock.bench.job import DifferentWork, Job, Result
from penstock.bench.measure import bytes_in
from penstock.bench.systems import Adapter, System, read_back
from penstock.bench.workload import Workload
from penstock.engine import Command
from penstock.engine.clock import elapsed

__all__ = ["by_callers", "in_one_call", "require_receipts"]

_Send = Callable[[System, Workload, list[Deposit]], Awaitable[None]]


async def by_callers(adapter: Adapter, job: Job) -> Result:
    """Commands a second when ``workload.callers`` tasks each await one receipt at a time."""
    return await _measured(adapter, job, _send_by_callers)


async def in_one_call(adapter: Adapter, job: Job) -> Result:
    """Commands a second when all are given to one call of ``execute_many``."""
    return await _measured(adapter, job, _send_in_one_call)


def require_receipts(outcomes: Sequence[object]) -> None:
    """Raise the first error among the outcomes."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _measured(adapter: Adapter, job: Job, send: _Send) -> Result:
    work, directory = streams(job.workload), Path(job.directory)
    async with adapter.open(directory / "bank.db") as system:
        require_receipts(await system.execute_many(work.opening))
        await send(system, job.workload, work.warmup)
        gc.collect()
        commits, commands = system.counts()
        started = elapsed()
        await send(system, job.workload, work.measured)
        seconds = elapsed() - started
        commits, commands = system.counts()[0] - commits, system.counts()[1] - commands
        answered = fingerprint(await system.balances())
    stored = fingerprint(read_back(directory / "bank.db", adapter.events_sql))
    if answered != stored:
        raise DifferentWork(job.program, {"in memory": answered, "in the file": stored})
    events = len(work.opening) + len(work.warmup) + len(work.measured)
    details = {"commands/commit": commands / commits, "bytes/event": bytes_in(directory) / events}
    return Result(value=len(work.measured) / seconds, details=details, state=stored)


async def _send_by_callers(system: System, workload: Workload, deposits: list[Deposit]) -> None:
    async def caller(mine: list[Deposit]) -> None:
        execute: Callable[[Command], Awaitable[object]] = system.execute
        for deposit in mine:
            await execute(deposit)

    await asyncio.gather(*(caller(deposits[number :: workload.callers]) for number in range(workload.callers)))


async def _send_in_one_call(system: System, workload: Workload, deposits: list[Deposit]) -> None:
    require_receipts(await system.execute_many(deposits))
