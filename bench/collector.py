"""What Python's cyclic garbage collector costs with a large state: the longest time that one collection held the loop.

The state is a dict of a million Structs, once with the collector's header (Python's and msgspec's default), once
without (``gc=False``), once with it and an engine that freezes what is alive when it has opened.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from millstream.bench.bank import Deposit, Deposited, Open, Opened, streams
from millstream.bench.drivers import require_receipts
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.engine import App, Engine, Event
from millstream.engine.loop.clock import elapsed
from millstream.handlers import WriteModel, applies, handles

__all__ = ["frozen", "tracked", "untracked"]

_CALL_COMMANDS = 20_000


class _Account(msgspec.Struct):
    """As users write it: the collector visits each one."""

    balance: int = 0
    history: tuple[int, ...] = ()


class _LeanAccount(msgspec.Struct, gc=False):
    """The same, and the collector doesn't know of it."""

    balance: int = 0
    history: tuple[int, ...] = ()


class _Accounts(WriteModel):
    accounts: dict[str, _Account] = {}

    @handles
    def open(self, command: Open) -> Iterator[Event]:
        yield Opened(command.account)

    @handles
    def deposit(self, command: Deposit) -> Iterator[Event]:
        yield Deposited(command.account, command.amount)

    @applies
    def opened(self, event: Opened) -> None:
        self.accounts[event.account] = _Account()

    @applies
    def deposited(self, event: Deposited) -> None:
        account = self.accounts[event.account]
        account.balance += event.amount
        account.history = (*account.history[-2:], event.amount)


class _LeanAccounts(WriteModel):
    accounts: dict[str, _LeanAccount] = {}

    @handles
    def open(self, command: Open) -> Iterator[Event]:
        yield Opened(command.account)

    @handles
    def deposit(self, command: Deposit) -> Iterator[Event]:
        yield Deposited(command.account, command.amount)

    @applies
    def opened(self, event: Opened) -> None:
        self.accounts[event.account] = _LeanAccount()

    @applies
    def deposited(self, event: Deposited) -> None:
        account = self.accounts[event.account]
        account.balance += event.amount
        account.history = (*account.history[-2:], event.amount)


async def tracked(job: Job) -> Result:
    """The longest pause in milliseconds, with Structs as they are by default."""
    return await _pauses(job, App(models=[_Accounts], name="collected"))


async def untracked(job: Job) -> Result:
    """The same with Structs that have ``gc=False``."""
    return await _pauses(job, App(models=[_LeanAccounts], name="collected"))


async def frozen(job: Job) -> Result:
    """The same with Structs as they are by default and ``Engine(freeze_gc=True)``."""
    return await _pauses(job, App(models=[_Accounts], name="collected"), freeze_gc=True)


async def _pauses(job: Job, app: App, **options: Any) -> Result:
    work, path = streams(job.workload), Path(job.directory) / LOG_NAME
    async with Engine(app, log=path) as engine:
        for start in range(0, len(work.opening), _CALL_COMMANDS):
            require_receipts(await engine.execute_many(work.opening[start : start + _CALL_COMMANDS]))
    shares = [work.measured[number :: job.workload.callers] for number in range(job.workload.callers)]
    del work  # a million commands in a list: the collector would walk over those, too
    gc.collect()
    async with Engine(app, log=path, **options) as engine:
        with _watched() as pauses:
            started = elapsed()
            await asyncio.gather(*(_caller(engine, share) for share in shares))
            gc.collect()  # the one that would come at some time, if none has
            seconds = elapsed() - started
    return Result(
        value=max(pauses) * 1e3,
        details={"collections": len(pauses), "share of time": sum(pauses) / seconds},
    )


async def _caller(engine: Engine, deposits: list[Deposit]) -> None:
    for deposit in deposits:
        await engine.execute(deposit)


@contextmanager
def _watched() -> Iterator[list[float]]:
    """The seconds that each collection took."""
    pauses: list[float] = []
    began = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = elapsed()
        else:
            pauses.append(elapsed() - began)

    gc.callbacks.append(note)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(note)
