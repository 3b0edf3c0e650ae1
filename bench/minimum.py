"""The least that takes commands durably, written by hand: what an engine costs at best.

Futures in a deque, one task that decides, one row per commit written by aiosqlite's thread, and the next batch decided
while it is written. Nothing else: no checks, no views, no limits but one, no metadata, no digest, no way back after a
failed write. One event per command, the bank's rules wired in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import msgspec

from millstream.bench.bank import Deposit, Deposited, Open, Opened, Remit, Remitted, Transfer, Transferred
from millstream.engine import Command, Event
from millstream.engine.stores.sqlite.log import CHECKPOINT_PAGES

__all__ = ["Minimum", "Refused", "minimum"]

#: So that of 1,000 callers half are decided while the other half are written.
_BATCH_COMMANDS_MAX = 500
_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The rule said no."""


class Minimum:
    """The engine; `minimum` opens and closes it."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self.balances: dict[str, int] = {}
        self.commits = self.commands = 0
        self._db = db
        self._queue: deque[tuple[asyncio.Future[int], Command]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._decide: dict[type[Command], Callable[..., Event]] = {
            Open: self._open,
            Deposit: self._deposit,
            Transfer: self._transfer,
            Remit: self._remit,
        }

    def execute(self, command: Command) -> asyncio.Future[int]:
        """The future of the number of the commit that makes the command durable, or of `Refused`."""
        promise: asyncio.Future[int] = self._loop.create_future()
        self._queue.append((promise, command))
        self._signal()
        return promise

    async def execute_many(self, commands: Sequence[Command]) -> list[int]:
        """The numbers of the commits; raises the first error."""
        return [await promise for promise in [self.execute(command) for command in commands]]

    async def run(self) -> None:
        """Decide and write until `stop`, and then until nothing is left."""
        flight: asyncio.Task[None] | None = None
        while self._queue or not self._closing:
            if not self._queue:
                self._wake = self._loop.create_future()
                await self._wake
            promises, events = self._take()
            if flight is not None:
                await flight
            flight = asyncio.create_task(self._write(_encode(events), promises)) if events else None
        if flight is not None:
            await flight

    def stop(self) -> None:
        self._closing = True
        self._signal()

    def _signal(self) -> None:
        if self._wake is not None:
            self._wake.set_result(None)
            self._wake = None

    def _take(self) -> tuple[list[asyncio.Future[int]], list[Event]]:
        queue, decide = self._queue, self._decide
        promises: list[asyncio.Future[int]] = []
        events: list[Event] = []
        for _ in range(min(len(queue), _BATCH_COMMANDS_MAX)):
            promise, command = queue.popleft()
            try:
                events.append(decide[type(command)](command))
                promises.append(promise)
            except Refused as refusal:
                promise.set_exception(refusal)
        return promises, events

    async def _write(self, body: bytes, promises: list[asyncio.Future[int]]) -> None:
        await self._db.execute_fetchall("INSERT INTO commits (body) VALUES (CAST(? AS TEXT))", (body,))
        self.commits += 1
        self.commands += len(promises)
        for promise in promises:
            promise.set_result(self.commits)

    def _open(self, command: Open) -> Opened:
        if command.account in self.balances:
            raise Refused(f"account {command.account!r} is open already")
        self.balances[command.account] = 0
        return Opened(command.account)

    def _deposit(self, command: Deposit) -> Deposited:
        if command.account not in self.balances:
            raise Refused(f"no account {command.account!r}")
        self.balances[command.account] += command.amount
        return Deposited(command.account, command.amount)

    def _transfer(self, command: Transfer) -> Transferred:
        for account in (command.account, command.to):
            if account not in self.balances:
                raise Refused(f"no account {account!r}")
        self.balances[command.account] -= command.amount
        self.balances[command.to] += command.amount
        return Transferred(command.account, command.to, command.amount)

    def _remit(self, command: Remit) -> Remitted:
        if command.account not in self.balances:
            raise Refused(f"no account {command.account!r}")
        self.balances[command.account] += command.amount
        return Remitted(command.account, command.amount, command.memo)


@asynccontextmanager
async def minimum(path: Path) -> AsyncIterator[Minimum]:
    """The engine on a new file; when it is left, everything that was put in is durable and answered."""
    async with aiosqlite.connect(path, isolation_level=None) as db:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"wal_autocheckpoint={CHECKPOINT_PAGES}"):
            await db.execute_fetchall(f"PRAGMA {pragma}")
        await db.execute_fetchall("CREATE TABLE commits (number INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        engine = Minimum(db)
        task = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            engine.stop()
            await task
