"""What a caller that asks of today feels of another one that asks of yesterday: the state of then is made beside it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from millstream.bench.bank import AllBalances, bank, queries
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.measure import LATENCY, curve, latencies, open_loop
from millstream.engine import Engine

__all__ = ["alone", "beside"]


async def beside(job: Job) -> Result:
    """The p99 in milliseconds of questions on a schedule, while one earlier state after another is made."""
    return await _asked(job, earlier=True)


async def alone(job: Job) -> Result:
    """The same while none is."""
    return await _asked(job, earlier=False)


async def _asked(job: Job, *, earlier: bool) -> Result:
    made = 0

    async def ask_of_yesterday() -> None:
        nonlocal made
        number = 0
        while True:
            number += 1
            at = 1 + number * 104_729 % head  # far from those before it, whose states are kept
            await engine.ask(AllBalances(), at=at)
            made += 1

    questions, interval_seconds = queries(job.workload), job.workload.ask_interval_ms / 1e3
    async with Engine(bank, log=Path(job.directory) / LOG_NAME) as engine:
        head = engine.position
        await open_loop(engine.ask, questions[: len(questions) // 10], interval_seconds)
        task = asyncio.create_task(ask_of_yesterday()) if earlier else None
        seconds = await open_loop(engine.ask, questions, interval_seconds)
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    measured = latencies(seconds)
    return Result(
        value=measured.pop("p99 ms"), details={**measured, "states made": made}, series={LATENCY: curve(seconds)}
    )
