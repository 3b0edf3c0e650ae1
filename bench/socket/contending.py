"""What the contenders over sockets share: how servers are started, and how a result is made of what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from millstream.bench.bank import AllBalances, streams
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.measure import latencies
from millstream.bench.socket import calls, redis
from millstream.bench.socket.children import running
from millstream.bench.socket.load import Exchange, Load, Target, allow_connections

__all__ = [
    "balances",
    "bank_server",
    "cores",
    "echo_server",
    "load_on",
    "opened",
    "redis_server",
    "replica_server",
    "result",
]


def bank_server(job: Job, *, alone: bool = False, fronts: int = 0) -> AbstractContextManager[Target]:
    """The bank behind its socket, on a log in the job's directory.

    Args:
        job: what is measured.
        alone: small commits are written on the loop's own thread.
        fronts: how many processes take the connections; 0: the server's own.
    """
    role = "alone" if alone else str(fronts or "")
    return _server(job, "serve", _log(job), job.loop, *([role] if role else []))


def replica_server(job: Job) -> AbstractContextManager[Target]:
    """A replica of it behind a socket of its own."""
    return _server(job, "serve", _log(job), job.loop, "replica")


def echo_server(job: Job) -> AbstractContextManager[Target]:
    """A server that sends back what it receives."""
    return _server(job, "echo")


@contextmanager
def redis_server(job: Job) -> Iterator[Target]:
    """Redis, with its files in the job's directory."""
    allow_connections(job.workload.callers)
    with redis.server(job.directory) as (child, port):
        yield Target(port, child.pid)


@contextmanager
def _server(job: Job, module: str, *arguments: str) -> Iterator[Target]:
    allow_connections(job.workload.callers)
    command = [sys.executable, "-m", f"millstream.bench.socket.{module}", *arguments]
    with running(module, command, "port ") as child:
        yield Target(int(child.line.removeprefix("port ")), child.pid)


def _log(job: Job) -> str:
    return str(Path(job.directory) / LOG_NAME)


def load_on(targets: Sequence[Target], job: Job, end: bytes = b"\n") -> Load:
    """As many connections to each as the workload has callers; replies are counted by ``end``."""
    return Load(targets, job.workload.callers, end)


@contextmanager
def opened(job: Job, *, alone: bool = False, fronts: int = 0) -> Iterator[tuple[Target, Load]]:
    """The bank, served, and the load on it; its accounts are open, and the deposits of the warm-up are made."""
    workload, work = job.workload, streams(job.workload)
    with bank_server(job, alone=alone, fronts=fronts) as server, load_on([server], job) as load:
        for commands in (work.opening, work.warmup):
            bursts = calls.executes(commands, workload.in_flight)
            calls.receipts(bursts, load.exchange(bursts))
        yield server, load


def balances(load: Load, position: int) -> dict[str, int]:
    """All balances, as the server answers them once it has applied the events up to ``position``."""
    bursts = calls.asks([AllBalances()], 1, after=position)
    return calls.balances(bursts, load.exchange(bursts))


def result(exchange: Exchange, requests: int, state: str | None = None) -> Result:
    """Requests a second, their latencies, and who kept how many cores busy."""
    times = latencies(exchange.latencies)
    del times["max ms"]
    busy = cores(exchange.seconds, exchange.servers_cpu_seconds, exchange.cpu_seconds)
    return Result(value=requests / exchange.seconds, details={**times, **busy}, state=state)


def cores(seconds: float, servers: float | None, load: float) -> dict[str, float]:
    """How many cores each kept busy: the load's are those that must not be the limit."""
    return {**({} if servers is None else {"server cores": servers / seconds}), "load cores": load / seconds}
