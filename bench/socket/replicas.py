"""Replicas: what two of them answer, what following costs the writer, and how long they take to see what it wrote.

On a machine with two cores, a load that puts questions to two replicas over sockets takes a part of what they could use
to answer them. So there are two figures: over sockets, with what it comes to for each core that the replicas kept busy;
and without sockets, each replica asked by a task in its own process, all at the same time, with nothing else going on.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from millstream.bench.bank import BalanceOf, fingerprint, queries, streams, totals
from millstream.bench.drivers import by_callers
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import DifferentWork, Job, Result, WorkerFailed
from millstream.bench.measure import latencies
from millstream.bench.socket import calls
from millstream.bench.socket.asking import Asked
from millstream.bench.socket.contending import balances, load_on, opened, replica_server, result
from millstream.bench.socket.load import Burst, Load, NoReply, Target, WrongReply
from millstream.bench.systems import ENGINE, Adapter, System
from millstream.engine.loop.clock import elapsed

__all__ = ["answering", "delay", "delay_at_writer", "serving", "writing"]

_CHUNK_BYTES = 1 << 16


def answering(replicas: int, job: Job) -> Result:
    """Questions a second that so many replicas answer, each asked in its own process; the writer is there, and idle."""
    right = fingerprint(totals(job.workload, streams(job.workload).warmup))
    with opened(job), ExitStack() as stack:
        asking = [stack.enter_context(_asking(job)) for _ in range(replicas)]
        for process in asking:
            _hear(process, "ready")
        for process in asking:
            _tell(process)
        asked = [msgspec.json.decode(_hear(process, "{"), type=Asked) for process in asking]
    if any(each.state != right for each in asked):
        raise DifferentWork(
            job.program, {"sent": right, **{f"replica {n}": each.state for n, each in enumerate(asked)}}
        )
    slowest = max(each.seconds for each in asked)
    return Result(value=replicas * job.workload.asks / slowest, state=right)


@contextmanager
def _asking(job: Job) -> Iterator[subprocess.Popen[str]]:
    """A replica that asks itself on request. It ends with this process: what it waits for never comes then."""
    log, workload = str(Path(job.directory) / LOG_NAME), msgspec.json.encode(job.workload).decode()
    command = [sys.executable, "-m", "millstream.bench.socket.asking", log, job.loop, workload]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith(start):
        raise WorkerFailed("asking", f"it said {line!r}, and not {start!r}")
    return line


def serving(replicas: int, job: Job) -> Result:
    """Questions a second that so many replicas answer over their sockets; the writer is there, and idle."""
    workload, work, questions = job.workload, streams(job.workload), queries(job.workload)
    right = totals(workload, work.warmup)
    bursts = calls.asks(questions, workload.in_flight)
    with opened(job), ExitStack() as stack:
        targets = [stack.enter_context(replica_server(job)) for _ in range(replicas)]
        states = [fingerprint(_balances_at(target, _positions(job))) for target in targets]
        load = stack.enter_context(load_on(targets, job))
        load.exchange(bursts[: len(bursts) // 10])
        exchange = load.exchange(bursts)
    calls.require_answers(bursts, exchange, questions, right)
    if any(state != fingerprint(right) for state in states):
        raise DifferentWork(job.program, {"sent": fingerprint(right), "answered": states[0]})
    found = result(exchange, len(questions), states[0])
    if not found.details.get("server cores"):
        return found
    each = {"asks/s per core": found.value / found.details["server cores"]}
    return msgspec.structs.replace(found, details={**found.details, **each})


def _positions(job: Job) -> int:
    """How many events there are before anything is measured."""
    return job.workload.accounts + job.workload.warmup


def _balances_at(target: Target, position: int) -> dict[str, int]:
    with Load([target], 1) as load:
        return balances(load, position)


async def writing(replicas: int, job: Job) -> Result:
    """Commands a second of an engine that so many replicas follow, and no caller asks them anything."""
    lags: list[float] = []
    adapter = Adapter(partial(_followed, replicas, job, lags), ENGINE.events_sql)
    found = await by_callers(adapter, job)
    return msgspec.structs.replace(found, details={**found.details, **({"behind ms": max(lags)} if lags else {})})


@asynccontextmanager
async def _followed(replicas: int, job: Job, lags: list[float], path: Path) -> AsyncIterator[System]:
    """An engine with replicas, which end with what it has; ``lags`` gets after how many milliseconds they had it."""
    position = _positions(job) + job.workload.commands
    with ExitStack() as stack:
        async with ENGINE.open(path) as system:
            targets = [stack.enter_context(replica_server(job)) for _ in range(replicas)]

            async def all_balances() -> dict[str, int]:
                started = elapsed()
                found = [_balances_at(target, position) for target in targets]
                lags.append((elapsed() - started) * 1e3)
                own = await system.balances()
                if any(each != own for each in found):
                    raise DifferentWork(job.program, {"engine": fingerprint(own), "replica": fingerprint(found[0])})
                return own

            yield system._replace(balances=all_balances)


def delay(job: Job) -> Result:
    """The p99 in milliseconds from a receipt to the answer of a replica that has seen that write."""
    with opened(job) as (writer, _), replica_server(job) as replica:
        return _delays(job, writer, replica)


def delay_at_writer(job: Job) -> Result:
    """The same when the writer itself is asked."""
    with opened(job) as (writer, _):
        return _delays(job, writer, writer)


def _delays(job: Job, writer: Target, asked: Target) -> Result:
    deposits = streams(job.workload).measured
    commands = calls.executes(deposits, 1)
    seconds: list[float] = []
    with (
        socket.create_connection(("127.0.0.1", writer.port)) as write,
        socket.create_connection(("127.0.0.1", asked.port)) as read,
    ):
        for number, (deposit, command) in enumerate(zip(deposits, commands, strict=True)):
            question = calls.asks([BalanceOf(deposit.account)], 1, after=_positions(job) + number + 1)[0]
            _call(write, command)
            started = elapsed()
            _call(read, question)
            seconds.append(elapsed() - started)
    found = latencies(seconds)
    return Result(value=found.pop("p99 ms"), details=found)


def _call(connection: socket.socket, request: Burst) -> None:
    connection.sendall(request.data)
    reply = b""
    while not reply.endswith(b"\n"):
        chunk = connection.recv(_CHUNK_BYTES)
        if not chunk:
            raise NoReply("the server closed a connection")
        reply += chunk
    if b'"error"' in reply:
        raise WrongReply(reply.decode(errors="replace"))
