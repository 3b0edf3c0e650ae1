"""What size costs: commands on a log and a state that have grown, and memory while an engine works for a long time.

Here: the engine, filled before the clock starts. Not here: what opening such a log costs (`opening`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from millstream.bench.bank import AllBalances, Deposit, bank, fingerprint, operations, past, streams
from millstream.bench.drivers import require_receipts, send, send_or_ask
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import DifferentWork, Job, Result
from millstream.bench.measure import MEMORY, resident_bytes, stall_ms
from millstream.bench.systems import Adapter
from millstream.engine import Command, Engine, Limits
from millstream.engine.loop.clock import elapsed

__all__ = ["grown", "long_run", "stall"]

_CALL_COMMANDS = 20_000
#: In events, more than any of these logs has.
_NEVER = 1 << 40
_MB = 1e6


async def grown(job: Job) -> Result:
    """Microseconds per command of ``workload.callers``, once the log holds ``workload.history`` events more."""
    workload, work = job.workload, streams(job.workload)
    expected = dict.fromkeys((each.account for each in work.opening), 0)

    def noted(deposits: Iterable[Deposit]) -> Iterable[Deposit]:
        for deposit in deposits:
            expected[deposit.account] += deposit.amount
            yield deposit

    path = Path(job.directory) / LOG_NAME
    async with Engine(bank, log=path, limits=Limits(snapshot_events_every=_NEVER)) as engine:
        await _fill(engine, work.opening)
        await _fill(engine, noted(past(workload)))
    async with Engine(bank, log=path) as engine:  # from the snapshot that closing took, so that none is due meanwhile
        await send(engine.execute, workload.callers, list(noted(work.warmup)))
        gc.collect()
        events = engine.stats().writer.position
        started = elapsed()
        await send(engine.execute, workload.callers, work.measured)
        seconds = elapsed() - started
        answered = fingerprint(await engine.ask(AllBalances(), after=engine.stats().writer.position))
        resident = resident_bytes()
    for _ in noted(work.measured):
        pass
    if answered != fingerprint(expected):
        raise DifferentWork(job.program, {"answered": answered, "sent": fingerprint(expected)})
    details = {"events": events, "keys": workload.accounts, "commands/s": len(work.measured) / seconds}
    return Result(value=seconds / len(work.measured) * 1e6, details={**details, "MB": resident / _MB}, state=answered)


async def stall(job: Job, **options: Any) -> Result:
    """The longest time in milliseconds for which the loop ran no other task, while callers write to a large state."""
    work = streams(job.workload)
    commands, measured = work.measured, len(work.measured)
    del work  # a million commands that are of no use here
    async with Engine(bank, log=Path(job.directory) / LOG_NAME, **options) as engine:
        await send(engine.execute, job.workload.callers, commands[: measured // 10])
        gc.collect()
        started = elapsed()
        longest = await stall_ms(lambda: send(engine.execute, job.workload.callers, commands))
        seconds = elapsed() - started
    return Result(value=longest, details={"commands/s": measured / seconds})


async def long_run(adapter: Adapter, job: Job) -> Result:
    """Memory at the end of a long run, as a multiple of what it was after a fifth of it."""
    workload = job.workload
    rounds = workload.commands // workload.warmup
    work = streams(msgspec.structs.replace(workload, commands=workload.warmup))
    measured = operations(workload, work.measured)
    memory: list[tuple[float, float]] = []
    async with adapter.open(Path(job.directory) / LOG_NAME) as system:
        require_receipts(await system.execute_many(work.opening))
        await send_or_ask(system, workload.callers, work.warmup)
        gc.collect()
        started = elapsed()
        for _ in range(rounds):
            await send_or_ask(system, workload.callers, measured)
            memory.append((elapsed() - started, resident_bytes() / _MB))
        balances = await system.balances()
    moved = sum(each.amount for each in measured if isinstance(each, Deposit)) * rounds
    sent = moved + sum(each.amount for each in work.warmup)
    if sum(balances.values()) != sent:
        raise DifferentWork(job.program, {"answered": str(sum(balances.values())), "sent": str(sent)})
    early, late = memory[rounds // 5][1], memory[-1][1]
    details = {"MB at the end": late, "operations/s": rounds * len(measured) / memory[-1][0]}
    return Result(value=late / early, details=details, series={MEMORY: memory}, state=fingerprint(balances))


async def _fill(engine: Engine, commands: Iterable[Command]) -> None:
    waiting = iter(commands)
    while some := list(islice(waiting, _CALL_COMMANDS)):
        require_receipts(await engine.execute_many(some))
