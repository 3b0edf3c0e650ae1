"""The bank's workload put to a peer, timed, and proven: by threads where the peer is synchronous, else by tasks.

Here: what is the same for all. Not here: any of them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from millstream.bench.bank import Deposit, fingerprint, streams, totals
from millstream.bench.job import DifferentWork, Job, Result
from millstream.engine.loop.clock import elapsed

__all__ = ["AsyncPeer", "NotOpen", "Peer", "Told", "by_tasks", "by_threads"]


class NotOpen(Exception):
    """The rule said no: there is no such account."""


class Told(NamedTuple):
    """What one event says: the account, and what it adds to its balance."""

    account: str
    amount: int


class Peer(Protocol):
    """A bank that is kept by a synchronous peer."""

    def open(self, accounts: Sequence[str]) -> None:
        """Open accounts."""

    def deposit(self, account: str, amount: int) -> None:
        """Return when the deposit is durable.

        Raises:
            NotOpen: the account is not.
        """

    def history(self) -> Iterable[Told]:
        """Every event since the first, in order, from where the peer keeps them."""


class AsyncPeer(Protocol):
    """A bank that is kept by an asynchronous peer; the same contracts."""

    async def open(self, accounts: Sequence[str]) -> None: ...

    async def deposit(self, account: str, amount: int) -> None: ...

    def history(self) -> AsyncIterator[Told]: ...


class _ReadBack(NamedTuple):
    events: int
    seconds: float
    balances: dict[str, int]


def by_threads(peer: Peer, job: Job, threads_max: int) -> Result:
    """Commands a second when each of the workload's callers is a thread, up to ``threads_max``."""
    work, callers = streams(job.workload), min(job.workload.callers, threads_max)

    def deposit_all(deposits: Sequence[Deposit]) -> None:
        for each in deposits:
            peer.deposit(each.account, each.amount)

    def send(deposits: Sequence[Deposit]) -> None:
        if callers == 1:
            deposit_all(deposits)
        else:
            list(pool.map(deposit_all, [deposits[number::callers] for number in range(callers)]))

    with ThreadPoolExecutor(callers) as pool:
        peer.open([each.account for each in work.opening])
        send(work.warmup)
        gc.collect()
        started = elapsed()
        send(work.measured)
        seconds = elapsed() - started
    started = elapsed()
    told = list(peer.history())
    return _result(job, callers, seconds, _read_back(told, started))


async def by_tasks(peer: AsyncPeer, job: Job) -> Result:
    """Commands a second when each of the workload's callers is a task."""
    work, callers = streams(job.workload), job.workload.callers

    async def deposit_all(deposits: Sequence[Deposit]) -> None:
        for each in deposits:
            await peer.deposit(each.account, each.amount)

    async def send(deposits: Sequence[Deposit]) -> None:
        await asyncio.gather(*(deposit_all(deposits[number::callers]) for number in range(callers)))

    await peer.open([each.account for each in work.opening])
    await send(work.warmup)
    gc.collect()
    started = elapsed()
    await send(work.measured)
    seconds = elapsed() - started
    started = elapsed()
    told = [each async for each in peer.history()]
    return _result(job, callers, seconds, _read_back(told, started))


def _read_back(told: Sequence[Told], started: float) -> _ReadBack:
    balances: dict[str, int] = {}
    for account, amount in told:
        balances[account] = balances.get(account, 0) + amount
    return _ReadBack(len(told), elapsed() - started, balances)


def _result(job: Job, callers: int, seconds: float, read: _ReadBack) -> Result:
    work = streams(job.workload)
    found, expected = fingerprint(read.balances), fingerprint(totals(job.workload, work.warmup + work.measured))
    events = len(work.opening) + len(work.warmup) + len(work.measured)
    if (found, read.events) != (expected, events):
        raise DifferentWork(
            job.program, {f"{read.events:,} events read": found, f"{events:,} events acknowledged": expected}
        )
    details = {"at once": float(callers), "read back/s": read.events / read.seconds}
    return Result(value=len(work.measured) / seconds, details=details, state=found)
