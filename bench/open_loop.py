"""How long a durable command takes when commands arrive on a schedule, at a share of what the engine can do.

In a closed loop callers wait when the engine stalls, and none shows it; here commands go on arriving, and each counts
from the moment that was intended for it. The rate is a share of the one that callers reached just before, in the same
process.
"""

from __future__ import annotations

import gc
from pathlib import Path

from millstream.bench.bank import streams
from millstream.bench.drivers import require_receipts, require_sent, send
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.measure import LATENCY, arrivals, curve, latencies
from millstream.bench.systems import Adapter
from millstream.engine.loop.clock import elapsed

__all__ = ["arriving", "idle"]

#: What arrives at an idle loop: ten thousand a second.
_IDLE_SECONDS = 1e-4


async def arriving(adapter: Adapter, job: Job) -> Result:
    """The p99 in milliseconds from the moment that was intended for a command to its receipt."""
    workload, work = job.workload, streams(job.workload)
    async with adapter.open(Path(job.directory) / LOG_NAME) as system:
        require_receipts(await system.execute_many(work.opening))
        half = len(work.warmup) // 2
        await send(system.execute, workload.callers, work.warmup[:half])
        started = elapsed()
        await send(system.execute, workload.callers, work.warmup[half:])
        rate = workload.arrivals * (len(work.warmup) - half) / (elapsed() - started)
        gc.collect()
        started = elapsed()
        seconds = await arrivals(system.execute, work.measured, 1 / rate)
        served = len(seconds) / (elapsed() - started)
        state = require_sent(job, await system.balances(), [*work.warmup, *work.measured])
    return _result(seconds, {"arriving/s": rate, "served/s": served}, state)


async def idle(job: Job) -> Result:
    """The same of ten thousand a second for which nothing is done: how late the loop's own timers are."""

    async def nothing(_: object) -> None:
        pass

    seconds = await arrivals(nothing, range(job.workload.commands // 10), _IDLE_SECONDS)
    return _result(seconds, {"arriving/s": 1 / _IDLE_SECONDS})


def _result(seconds: list[float], details: dict[str, float], state: str | None = None) -> Result:
    measured = latencies(seconds)
    return Result(
        value=measured.pop("p99 ms"), details={**measured, **details}, series={LATENCY: curve(seconds)}, state=state
    )
