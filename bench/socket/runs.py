"""The contenders: millstream behind its socket, Redis twice, and a server that does nothing, each on one workload."""

from __future__ import annotations

import os
from pathlib import Path

from millstream.bench.bank import fingerprint, queries, streams, totals
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import DifferentWork, Job, Result
from millstream.bench.socket import calls, redis
from millstream.bench.socket.children import cpu_seconds, spent
from millstream.bench.socket.contending import balances, cores, echo_server, load_on, opened, redis_server, result
from millstream.bench.socket.load import Burst
from millstream.bench.systems import ENGINE, read_back

__all__ = ["ask", "echo", "execute", "redis_get", "redis_get_by_load", "redis_set", "redis_set_by_load"]


def execute(job: Job, *, alone: bool = False) -> Result:
    """Commands a second, each durable before it is answered; with small commits on the server's loop, if asked for."""
    workload, work = job.workload, streams(job.workload)
    bursts = calls.executes(work.measured, workload.in_flight)
    with opened(job, alone=alone) as (_, load):
        exchange = load.exchange(bursts)
        position = max(receipt.position for receipt in calls.receipts(bursts, exchange))
        answered = fingerprint(balances(load, position))
    stored = fingerprint(read_back(Path(job.directory) / LOG_NAME, ENGINE.events_sql))
    expected = fingerprint(totals(workload, work.warmup + work.measured))
    if not answered == stored == expected:
        raise DifferentWork(job.program, {"answered": answered, "in the file": stored, "sent": expected})
    return result(exchange, len(work.measured), stored)


def ask(job: Job) -> Result:
    """Questions a second, on a view that is up to date."""
    workload, work, questions = job.workload, streams(job.workload), queries(job.workload)
    right = totals(workload, work.warmup)
    bursts = calls.asks(questions, workload.in_flight)
    with opened(job) as (_, load):
        state = fingerprint(balances(load, len(work.opening) + len(work.warmup)))
        load.exchange(bursts[: len(bursts) // 10])
        exchange = load.exchange(bursts)
        calls.require_answers(bursts, exchange, questions, right)
    return result(exchange, len(questions), state)


def echo(job: Job) -> Result:
    """Requests a second that are sent back as they are."""
    workload = job.workload
    if workload.asks:
        bursts = calls.asks(queries(workload), workload.in_flight)
    else:
        bursts = calls.executes(streams(workload).measured, workload.in_flight)
    with echo_server(job) as server, load_on([server], job) as load:
        load.exchange(bursts[: len(bursts) // 10])
        exchange = load.exchange(bursts)
    return result(exchange, workload.asks or workload.commands)


def redis_set(job: Job) -> Result:
    """``SET`` by Redis' own benchmark."""
    return _redis(job, "set", job.workload.commands)


def redis_get(job: Job) -> Result:
    """``GET`` by Redis' own benchmark, of keys that were set."""
    return _redis(job, "get", job.workload.asks)


def _redis(job: Job, test: str, requests: int) -> Result:
    workload = job.workload
    warmup, requests = (max(count, redis.REQUESTS_MIN) for count in (workload.warmup, requests))
    with redis_server(job) as server:

        def run(which: str, count: int) -> redis.Benchmark:
            return redis.benchmark(
                server.port,
                which,
                connections=workload.callers,
                in_flight=workload.in_flight,
                requests=count,
                keys=workload.accounts,
            )

        run("set", warmup)
        server_before, load_before = cpu_seconds(server.pid), _children_seconds()
        found = run(test, requests)
        server_after, load_after = cpu_seconds(server.pid), _children_seconds()
    seconds = requests / found.requests_per_second
    busy = cores(seconds, spent(server_before, server_after), load_after - load_before)
    return Result(value=found.requests_per_second, details={**found.latencies, **busy})


def redis_set_by_load(job: Job) -> Result:
    """``SET`` by the load that millstream gets."""
    deposits = streams(job.workload).measured
    bursts = redis.sets(((each.account, each.amount) for each in deposits), job.workload.in_flight)
    return _redis_by_load(job, bursts, redis.SET_REPLY, len(deposits))


def redis_get_by_load(job: Job) -> Result:
    """``GET`` by the load that millstream gets, of keys that were set."""
    questions = queries(job.workload)
    bursts = redis.gets((each.account for each in questions), job.workload.in_flight)
    return _redis_by_load(job, bursts, redis.GET_REPLY, len(questions))


def _redis_by_load(job: Job, bursts: list[Burst], reply: bytes, requests: int) -> Result:
    opening = redis.sets(((each.account, 0) for each in streams(job.workload).opening), job.workload.in_flight)
    with redis_server(job) as server, load_on([server], job) as load:
        load.exchange(opening)
        load.exchange(bursts[: len(bursts) // 10])
        exchange = load.exchange(bursts)
    redis.require_all(exchange, reply, requests)
    return result(exchange, requests)


def _children_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system
