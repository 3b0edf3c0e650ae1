"""What a command takes in a program whose loop is never idle."""

from __future__ import annotations

import asyncio
from pathlib import Path

from millstream.bench.bank import AllBalances, Deposit, bank, streams
from millstream.bench.drivers import require_receipts, require_sent
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.measure import LATENCY, curve, latencies
from millstream.engine import Engine
from millstream.engine.loop.clock import elapsed

__all__ = ["beside_work"]

_CALLBACK_SECONDS = 1e-3


async def beside_work(job: Job, *, log: str | None = None) -> Result:
    """The median in milliseconds from a command to its receipt, while something else always wants to run.

    Args:
        job: what is to be done.
        log: where the events go; by default a file in the job's directory.
    """
    work, loop = streams(job.workload), asyncio.get_running_loop()
    turns, is_over = 0, False

    def callback() -> None:
        nonlocal turns
        turns += 1
        until = elapsed() + _CALLBACK_SECONDS
        while elapsed() < until:
            pass
        if not is_over:
            loop.call_soon(callback)

    async def timed(deposit: Deposit) -> float:
        started = elapsed()
        await engine.execute(deposit)
        return elapsed() - started

    async with Engine(bank, log=log or Path(job.directory) / LOG_NAME) as engine:
        require_receipts(await engine.execute_many(work.opening))
        callback()
        try:
            for deposit in work.warmup:
                await engine.execute(deposit)
            before = turns
            seconds = [await timed(deposit) for deposit in work.measured]
            turns -= before
        finally:
            is_over = True
        balances = await engine.ask(AllBalances(), after=engine.stats().writer.position)
    measured = latencies(seconds)
    return Result(
        value=measured.pop("p50 ms"),
        details={**measured, "turns": turns / len(seconds)},
        series={LATENCY: curve(seconds)},
        state=require_sent(job, balances, [*work.warmup, *work.measured]),
    )
