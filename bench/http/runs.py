"""The contenders over HTTP: each is asked for the same deposits, by the load that the sockets have, on one workload.

A reply is a small JSON object, so what ends it is known by its last brace; every reply of a server has as many.
"""

from __future__ import annotations

import re
import socket
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from millstream.bench.bank import fingerprint, streams, totals
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import DifferentWork, Job, Result
from millstream.bench.socket.children import cpu_seconds, running, spent
from millstream.bench.socket.contending import load_on, result
from millstream.bench.socket.load import Burst, Exchange, Load, Target, WrongReply, allow_connections
from millstream.bench.systems import ENGINE, read_back
from millstream.engine import Command
from millstream.engine.loop.clock import elapsed

__all__ = ["bank", "nothing", "row", "watched"]

#: How many watch, each an account of its own.
_WATCHES = 1_000
_SMOKE_WATCHES = 20
#: Fewer commands are a smoke run.
_SMOKE_COMMANDS = 2_000
_END = b"}"
_LENGTH = re.compile(rb"content-length: (\d+)\r\n(?:.+\r\n)*\r\n", re.IGNORECASE)
_GOOD = re.compile(rb"HTTP/1\.1 200 OK\r\n")

_encode = msgspec.json.Encoder().encode


def bank(job: Job) -> Result:
    """Deposits a second, each durable before it is answered."""
    with _served("bank", job) as server, load_on([server], job, end=_END) as load:
        exchange = _deposit(job, server, load)
    return _proven(job, exchange)


def watched(job: Job) -> Result:
    """The same beside those who watch."""
    watches = _SMOKE_WATCHES if job.workload.commands < _SMOKE_COMMANDS else _WATCHES
    command = [sys.executable, "-m", "millstream.bench.http.watch"]
    with _served("bank", job) as server:
        with load_on([server], job, end=_END) as load:
            _open(job, server, load)
        with running("watch", [*command, str(server.port), str(watches)], "watching") as watchers:
            with load_on([server], job, end=_END) as load:
                before, started = cpu_seconds(watchers.pid), elapsed()
                exchange = _deposit(job, server, load, is_open=True)
                used = spent(before, cpu_seconds(watchers.pid))
            seconds = elapsed() - started
    found = _proven(job, exchange)
    cores = {} if used is None else {"watchers' cores": used / seconds}
    return msgspec.structs.replace(found, details={**found.details, **cores})


def nothing(job: Job) -> Result:
    """The same requests, and nothing is done."""
    with _served("nothing", job) as server, load_on([server], job, end=_END) as load:
        exchange = _deposit(job, server, load, is_open=True)
    return result(exchange, len(streams(job.workload).measured))


def row(job: Job) -> Result:
    """The same requests, and a row is written for each."""
    work = streams(job.workload)
    with _served("row", job) as server, load_on([server], job, end=_END) as load:
        exchange = _deposit(job, server, load, is_open=True)
    with closing(sqlite3.connect(Path(job.directory) / LOG_NAME)) as db:
        (count, amount) = db.execute("SELECT count(*), sum(amount) FROM deposits").fetchone()
    sent = [*work.warmup, *work.measured]
    expected = (len(sent) + 1, sum(each.amount for each in sent) + work.measured[0].amount)  # and one to probe with
    if (count, amount) != expected:
        raise DifferentWork(job.program, {"in the file": str((count, amount)), "sent": str(expected)})
    return result(exchange, len(work.measured))


def _proven(job: Job, exchange: Exchange) -> Result:
    workload, work = job.workload, streams(job.workload)
    stored = fingerprint(read_back(Path(job.directory) / LOG_NAME, ENGINE.events_sql))
    expected = fingerprint(totals(workload, [*work.warmup, *work.measured, work.measured[0]]))
    if stored != expected:
        raise DifferentWork(job.program, {"in the file": stored, "sent": expected})
    return result(exchange, len(work.measured), stored)


def _deposit(job: Job, server: Target, load: Load, *, is_open: bool = False) -> Exchange:
    """The warm-up, then what is measured."""
    work = streams(job.workload)
    if not is_open:
        _open(job, server, load)
    ends = _braces(server, _post(work.measured[0]))
    load.exchange(_bursts(work.warmup, ends))
    exchange = load.exchange(_bursts(work.measured, ends))
    good = sum(len(_GOOD.findall(heard)) for heard in exchange.heard)
    if good != len(work.measured):
        raise WrongReply(f"{good:,} of {len(work.measured):,} requests were answered with 200")
    return exchange


def _open(job: Job, server: Target, load: Load) -> None:
    opening = streams(job.workload).opening
    ends = _braces(server, _post(opening[0]))
    load.exchange(_bursts(opening[1:], ends))


def _braces(server: Target, request: bytes) -> int:
    """How many objects end in a reply of this server."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(request)
        heard, length = b"", None
        while length is None or len(heard.partition(b"\r\n\r\n")[2]) < length:
            more = connection.recv(1 << 16)
            if not more:
                raise WrongReply(f"the server has closed: {heard!r:.200}")
            heard += more
            found = _LENGTH.search(heard)
            length = int(found[1]) if found else None
    return heard.count(_END)


def _bursts(commands: Iterable[Command], ends: int) -> list[Burst]:
    return [Burst(_post(each), ends) for each in commands]


def _post(command: Command) -> bytes:
    fields = msgspec.to_builtins(command)
    del fields["type"]
    body = _encode(fields)
    head = (
        "POST /commands/{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    )
    return head.format(type(command).__name__, len(body)).encode() + body


@contextmanager
def _served(what: str, job: Job) -> Iterator[Target]:
    allow_connections(2 * job.workload.callers + _WATCHES)
    path = str(Path(job.directory) / LOG_NAME)
    command = [sys.executable, "-m", "millstream.bench.http.serve", what, path, job.loop]
    with running(what, command, "port ") as child:
        yield Target(int(child.line.removeprefix("port ")), child.pid)
