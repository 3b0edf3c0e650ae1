"""What is measured of those who follow logs in PostgreSQL: what they cost writers, and how soon they get an append."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from millstream.bench.bank import bank
from millstream.bench.job import Job, Result
from millstream.bench.postgres.server import postgres_server
from millstream.engine import Log
from millstream.engine.commits.commit import Commit, Head, seal
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.address import log_at

__all__ = ["four_logs", "four_logs_followed", "hearing_by_looking", "hearing_of_appends"]

_LOGS = 4
_READ_BYTES = 1024 * 1024
#: Of some ten commands of a small application.
_BODY_BYTES = 1_000


async def four_logs(job: Job) -> Result:
    """Commits a second of four logs in one database together, each appended to by one task, without followers."""
    return await _four(job, followed=False)


async def four_logs_followed(job: Job) -> Result:
    """The same, with one follower of each log, which reads all that is appended."""
    return await _four(job, followed=True)


async def _four(job: Job, *, followed: bool) -> Result:
    made = _commits(job.workload.commands)
    with postgres_server() as server:
        addresses = [f"{server}?schema=log_{number}" for number in range(_LOGS)]
        async with AsyncExitStack() as stack:
            logs = [await stack.enter_async_context(_opened(address)) for address in addresses]
            followers = [
                asyncio.create_task(_follow(await stack.enter_async_context(_attached(address)), made[-1].number))
                for address in addresses
                if followed
            ]
            gc.collect()
            started = elapsed()
            await asyncio.gather(*(_append(log, made) for log in logs))
            seconds = elapsed() - started
            await asyncio.gather(*followers)
    return Result(value=_LOGS * len(made) / seconds)


async def hearing_of_appends(job: Job) -> Result:
    """The longest time in milliseconds from an append to a follower that has read it, which listens."""
    return await _hearing(job, "")


async def hearing_by_looking(job: Job) -> Result:
    """The same of one that does not listen, as behind a pooler or on a standby of the server."""
    return await _hearing(job, "&pooled=true")


async def _hearing(job: Job, more: str) -> Result:
    taken: list[float] = []
    with postgres_server() as server:
        address = f"{server}?schema=bank"
        async with (
            _opened(address) as log,
            _attached(f"{address}{more}") as follower,
            aclosing(follower.follow(0, _READ_BYTES)) as pages,
        ):
            for commit in _commits(job.workload.commands):
                waiting = asyncio.ensure_future(anext(pages))
                await asyncio.sleep(job.workload.ask_interval_ms / 1e3)  # it has begun to wait
                await log.append(commit)
                started = elapsed()
                await waiting
                taken.append(1e3 * (elapsed() - started))
    taken.sort()
    return Result(value=taken[-1], details={"p50 ms": taken[len(taken) // 2]})


@asynccontextmanager
async def _opened(address: str) -> AsyncGenerator[Log, None]:
    log = log_at(address)
    await log.open(bank.name)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def _attached(address: str) -> AsyncGenerator[Log, None]:
    log = log_at(address)
    await log.attach()
    try:
        yield log
    finally:
        await log.close()


async def _append(log: Log, commits: Sequence[Commit]) -> None:
    for commit in commits:
        await log.append(commit)


async def _follow(log: Log, last: int) -> None:
    async with aclosing(log.follow(0, _READ_BYTES)) as pages:
        async for page in pages:
            if page[-1].number == last:
                return


def _commits(count: int) -> list[Commit]:
    made: list[Commit] = []
    head = Head()
    for number in range(count):
        body = b'[{"type":"Note","text":"%b"}]' % (b"%06d" % number * (_BODY_BYTES // 6))
        made.append(seal(head, f"2026-01-01T00:00:00.{number % 1_000_000:06}Z", body))
        head = Head.after(made[-1], 0)
    return made
