"""Front processes: what a command takes of the writer's one thread, with them and without.

The writer is one thread, so what a command takes of it is the end of what a machine can do, however many cores it has.
A machine with two cores has none for fronts: load, fronts and writer share them. So what is measured is the time of
that one thread, which says what there is to be had where fronts have cores of their own; and, as a detail, the rate
that comes of it here, which is less than without fronts.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from millstream.bench.bank import fingerprint, streams, totals
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import BenchError, DifferentWork, Job, Result
from millstream.bench.socket import calls
from millstream.bench.socket.children import spent, thread_seconds
from millstream.bench.socket.contending import balances, opened, result
from millstream.bench.systems import ENGINE, read_back

__all__ = ["NotTold", "writing"]


class NotTold(BenchError):
    """The system does not tell what a thread has used."""

    def __str__(self) -> str:
        return "what one thread uses stands in /proc/PID/task: this system has none"


def writing(fronts: int, job: Job) -> Result:
    """Microseconds of the writer's thread for each durable command, with so many fronts; 0: with none.

    Raises:
        NotTold: this system does not say.
        DifferentWork: the balances are not what was sent.
    """
    workload, work = job.workload, streams(job.workload)
    bursts = calls.executes(work.measured, workload.in_flight)
    with opened(job, fronts=fronts) as (server, load):
        before = thread_seconds(server.pid)
        exchange = load.exchange(bursts)
        used = spent(before, thread_seconds(server.pid))
        position = max(receipt.position for receipt in calls.receipts(bursts, exchange))
        answered = fingerprint(balances(load, position))
    stored = fingerprint(read_back(Path(job.directory) / LOG_NAME, ENGINE.events_sql))
    expected = fingerprint(totals(workload, work.warmup + work.measured))
    if not answered == stored == expected:
        raise DifferentWork(job.program, {"answered": answered, "in the file": stored, "sent": expected})
    if used is None:
        raise NotTold
    found = result(exchange, len(work.measured), stored)
    rate = {"commands/s": found.value}
    return msgspec.structs.replace(found, value=used / len(work.measured) * 1e6, details={**rate, **found.details})
