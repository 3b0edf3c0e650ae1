"""What only the engine does: answer while it writes, and come back from its log."""

from __future__ import annotations

import asyncio
import gc
from itertools import cycle, islice
from pathlib import Path

from millstream.bench.bank import AllBalances, BalanceOf, Deposit, bank, fingerprint, queries, streams
from millstream.bench.drivers import require_receipts, require_sent
from millstream.bench.job import Job, Result
from millstream.bench.measure import LATENCY, bytes_in, curve, latencies, open_loop
from millstream.engine import Engine
from millstream.engine.loop.clock import elapsed

__all__ = ["LOG_NAME", "asks", "asks_beside_callers", "replay", "write_history"]

LOG_NAME = "bank.db"
_HISTORY_CALL_COMMANDS = 50_000


async def asks(job: Job) -> Result:
    """Questions a second from one task, on a view that is up to date."""
    work, questions = streams(job.workload), queries(job.workload)
    async with Engine(bank, log=Path(job.directory) / LOG_NAME) as engine:
        require_receipts(await engine.execute_many([*work.opening, *work.warmup]))
        await engine.ask(AllBalances(), after=engine.stats().writer.position)
        ask = engine.ask
        for question in questions[: len(questions) // 10]:
            await ask(question)
        gc.collect()
        started = elapsed()
        for question in questions:
            await ask(question)
        seconds = elapsed() - started
        answered = {each.account: await ask(BalanceOf(each.account)) for each in work.opening}
    return Result(value=len(questions) / seconds, state=fingerprint(answered))


async def asks_beside_callers(job: Job) -> Result:
    """The p99 in milliseconds of questions on a schedule, while callers write as fast as they can.

    Each caller repeats its share of the deposits until the questions are over.
    """
    workload = job.workload
    work, questions = streams(workload), queries(workload)
    asking = True

    async def caller(mine: list[Deposit]) -> int:
        done = 0
        for deposit in cycle(mine):
            if not asking:
                break
            await engine.execute(deposit)
            done += 1
        return done

    async with Engine(bank, log=Path(job.directory) / LOG_NAME) as engine:
        require_receipts(await engine.execute_many([*work.opening, *work.warmup]))
        if workload.gc_frozen:
            gc.collect()
            gc.freeze()
        shares = [work.measured[number :: workload.callers] for number in range(workload.callers)]
        callers = [asyncio.create_task(caller(share)) for share in shares]
        started = elapsed()
        interval_seconds = workload.ask_interval_ms / 1e3
        await open_loop(engine.ask, questions[: len(questions) // 10], interval_seconds)
        seconds = await open_loop(engine.ask, questions, interval_seconds)
        asking = False
        counts = await asyncio.gather(*callers)
        written = sum(counts) / (elapsed() - started)
        balances = await engine.ask(AllBalances(), after=engine.stats().writer.position)
    done = [deposit for share, count in zip(shares, counts, strict=True) for deposit in islice(cycle(share), count)]
    require_sent(job, balances, work.warmup + done)
    measured = latencies(seconds)
    return Result(
        value=measured.pop("p99 ms"), details={**measured, "commands/s": written}, series={LATENCY: curve(seconds)}
    )


async def write_history(job: Job) -> Result:
    """Leave a log of ``workload.commands`` deposits in the directory, for those that replay it."""
    work = streams(job.workload)
    started = elapsed()
    async with Engine(bank, log=Path(job.directory) / LOG_NAME) as engine:
        for commands in (work.opening, work.measured):
            for start in range(0, len(commands), _HISTORY_CALL_COMMANDS):
                require_receipts(await engine.execute_many(commands[start : start + _HISTORY_CALL_COMMANDS]))
        state = fingerprint(await engine.ask(AllBalances(), after=engine.stats().writer.position))
    written = len(work.opening) + len(work.measured)
    return Result(value=written / (elapsed() - started), state=state)


async def replay(job: Job) -> Result:
    """Events a second from the log into write model, index and view, when the engine opens without snapshots: once to
    warm up, once measured.
    """
    directory = Path(job.directory)
    async with Engine(bank, log=directory / LOG_NAME, snapshots=False):
        pass
    gc.collect()
    started = elapsed()
    async with Engine(bank, log=directory / LOG_NAME, snapshots=False) as engine:
        seconds = elapsed() - started
        events = engine.stats().writer.position
        state = fingerprint(await engine.ask(AllBalances()))
    return Result(
        value=events / seconds, details={"events": events, "bytes/event": bytes_in(directory) / events}, state=state
    )
