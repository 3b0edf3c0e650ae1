"""Workloads put to a system, whichever it is: many callers, one caller, callers who also ask, one call for all.

Every driver ends with the same proof: what the system answers from memory is what plain SQL finds in its file.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from millstream.bench.bank import BalanceOf, Deposit, Move, fingerprint, moves, operations, totals
from millstream.bench.job import DifferentWork, Job, Result
from millstream.bench.measure import bytes_in
from millstream.bench.systems import Adapter, System, read_back
from millstream.bench.workload import Workload
from millstream.engine import Command
from millstream.engine.loop.clock import elapsed

__all__ = ["Operation", "by_callers", "in_one_call", "mixed", "require_receipts", "require_sent", "send", "send_or_ask"]

#: What a caller does next.
Operation: TypeAlias = Move | BalanceOf

_Send = Callable[[System, Workload, Sequence[Operation]], Awaitable[None]]


async def by_callers(adapter: Adapter, job: Job) -> Result:
    """Commands a second when ``workload.callers`` tasks each await one receipt at a time."""
    return await _measured(adapter, job, _send_by_callers)


async def mixed(adapter: Adapter, job: Job) -> Result:
    """Operations a second of such callers when a part of what they do is to ask, as ``workload.reads`` says."""
    return await _measured(adapter, job, _send_mixed)


async def in_one_call(adapter: Adapter, job: Job) -> Result:
    """Commands a second when all are given to one call of ``execute_many``."""
    return await _measured(adapter, job, _send_in_one_call)


def require_receipts(outcomes: Sequence[object]) -> None:
    """Raise the first error among the outcomes."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


def require_sent(job: Job, balances: Mapping[str, int], sent: Sequence[Deposit]) -> str:
    """The fingerprint of balances, which must be those that these deposits make.

    Raises:
        DifferentWork: they are not.
    """
    answered, expected = fingerprint(balances), fingerprint(totals(job.workload, sent))
    if answered != expected:
        raise DifferentWork(job.program, {"answered": answered, "sent": expected})
    return answered


async def _measured(adapter: Adapter, job: Job, put: _Send) -> Result:
    work, directory = moves(job.workload), Path(job.directory)
    measured = operations(job.workload, work.measured) if job.workload.reads else work.measured
    async with adapter.open(directory / "bank.db") as system:
        require_receipts(await system.execute_many(work.opening))
        await put(system, job.workload, work.warmup)
        gc.collect()
        commits, commands = system.counts()
        started = elapsed()
        await put(system, job.workload, measured)
        seconds = elapsed() - started
        commits, commands = system.counts()[0] - commits, system.counts()[1] - commands
        answered = fingerprint(await system.balances())
    stored = fingerprint(read_back(directory / "bank.db", adapter.events_sql))
    if answered != stored:
        raise DifferentWork(job.program, {"in memory": answered, "in the file": stored})
    events = len(work.opening) + len(work.warmup) + sum(not isinstance(each, BalanceOf) for each in measured)
    details = {"commands/commit": commands / commits, "bytes/event": bytes_in(directory) / events}
    return Result(value=len(work.measured) / seconds, details=details, state=stored)


async def send(execute: Callable[[Any], Awaitable[object]], callers: int, commands: Sequence[Any]) -> None:
    """So many tasks send the commands, in turn; each awaits one receipt at a time."""

    async def caller(mine: Sequence[Any]) -> None:
        for command in mine:
            await execute(command)

    await asyncio.gather(*(caller(commands[number::callers]) for number in range(callers)))


async def send_or_ask(system: System, callers: int, work: Sequence[Operation]) -> None:
    """The same where some of what is sent are questions."""
    execute, ask = system.execute, system.ask
    assert ask is not None

    async def caller(mine: Sequence[Operation]) -> None:
        for each in mine:
            if isinstance(each, BalanceOf):
                await ask(each)
            else:
                await execute(each)

    await asyncio.gather(*(caller(work[number::callers]) for number in range(callers)))


async def _send_by_callers(system: System, workload: Workload, commands: Sequence[Operation]) -> None:
    await send(system.execute, workload.callers, commands)


async def _send_mixed(system: System, workload: Workload, work: Sequence[Operation]) -> None:
    await send_or_ask(system, workload.callers, work)


async def _send_in_one_call(system: System, _: Workload, commands: Sequence[Operation]) -> None:
    require_receipts(await system.execute_many(cast(Sequence[Command], commands)))
