"""What keeping costs: opening with and without snapshots, taking one, verifying, memory, and the garbage collector.

All of them begin with a log that `engine_runs.write_history` has left in the directory.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Literal

from millstream.bench.bank import AllBalances, Deposit, bank, fingerprint, streams
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.measure import peak_bytes, resident_bytes, stall_ms
from millstream.engine import App, Engine, Limits, SqliteLog
from millstream.engine.loop.clock import elapsed
from millstream.engine.upkeep import verify_log

__all__ = [
    "idle",
    "memory",
    "memory_of",
    "open_it",
    "open_without_snapshots",
    "plain_memory",
    "snapshot",
    "snapshot_elsewhere",
    "verify",
]

_MB = 1e6


async def open_it(job: Job) -> Result:
    """Seconds until the engine is open, its states from snapshots."""
    return await _opened(job, snapshots=True)


async def open_without_snapshots(job: Job) -> Result:
    """Seconds until the engine is open, its states from the first event on."""
    return await _opened(job, snapshots=False)


async def _opened(job: Job, *, snapshots: bool) -> Result:
    gc.collect()
    started = elapsed()
    async with Engine(bank, log=Path(job.directory) / LOG_NAME, snapshots=snapshots) as engine:
        seconds = elapsed() - started
        events = engine.stats().writer.position
        state = fingerprint(await engine.ask(AllBalances()))
    details = {"events": events, "events/s": events / seconds, "peak MB": peak_bytes() / _MB}
    return Result(value=seconds, details=details, state=state)


async def snapshot(job: Job) -> Result:
    """The longest stall of the loop, in milliseconds, while a snapshot of all states is taken in the running engine."""
    return await _snapshot(job, "loop")


async def snapshot_elsewhere(job: Job) -> Result:
    """The same while another process takes it, the start of that one included."""
    return await _snapshot(job, "process")


async def _snapshot(job: Job, where: Literal["loop", "process"]) -> Result:
    path = Path(job.directory) / LOG_NAME
    async with Engine(bank, log=path, limits=Limits(snapshot_events_every=1), snapshots=where) as engine:
        account = streams(job.workload).opening[0].account
        before = engine.stats().snapshot_position
        gc.collect()
        held = resident_bytes()
        receipt = await engine.execute(Deposit(account, 1))

        async def taken() -> None:
            while engine.stats().snapshot_position <= before:  # noqa: ASYNC110 - a figure is all that tells
                await asyncio.sleep(0.05)

        started = elapsed()
        longest = await stall_ms(taken)
        seconds = elapsed() - started
        grown = resident_bytes() - held
        assert engine.stats().snapshot_position >= receipt.position
    size = sum(file.stat().st_size for file in path.parent.glob(f"{LOG_NAME}-snapshots*"))
    return Result(value=longest, details={"seconds": seconds, "MB": size / _MB, "grown MB": grown / _MB})


async def idle(job: Job) -> Result:
    """The same look at the loop while nothing at all happens in it."""
    longest = await stall_ms(lambda: asyncio.sleep(job.workload.asks / 1e3))
    return Result(value=longest)


async def verify(job: Job) -> Result:
    """Megabytes a second of a log's bodies, digests and structure checked."""
    log = SqliteLog(Path(job.directory) / LOG_NAME)
    await log.attach()
    try:
        started = elapsed()
        verified = await verify_log(log)
        seconds = elapsed() - started
    finally:
        await log.close()
    size = (Path(job.directory) / LOG_NAME).stat().st_size
    return Result(value=size / _MB / seconds, details={"events/s": verified.events / seconds, "seconds": seconds})


async def memory(job: Job) -> Result:
    """Bytes of memory for each key: a write model, a view, and the version of it that the write index has."""
    return await memory_of(bank, job)


async def memory_of(app: App, job: Job) -> Result:
    """The same of another application that has the bank's events."""
    gc.collect()
    before = resident_bytes()
    async with Engine(app, log=Path(job.directory) / LOG_NAME) as engine:
        gc.collect()
        used = max(resident_bytes() - before, 1)  # a small one may fit into what the process has already
        keys = len(await engine.ask(AllBalances()))
    return Result(value=used / keys)


def plain_memory(job: Job) -> Result:
    """The same for one dict of the same keys and values, and nothing else."""
    before = resident_bytes()
    plain = {f"account-{number:07}": number * 1_000 for number in range(job.workload.accounts)}
    alone = sys.getsizeof(plain)
    used = max(alone, resident_bytes() - before)  # a small one may fit into what the process has already
    return Result(value=used / len(plain), details={"dict alone": alone / len(plain)})
