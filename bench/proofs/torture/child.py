"""The process that is killed: ``python -m millstream.bench.proofs.torture.child ORDER``, the order being JSON.

It opens the bank on a log, lets callers loose on it, and says on standard output what became of their commands, each
after it knows it: `reports` has the lines. SIGTERM makes it close the engine under its callers and end. Exit code 0
when every command was answered, 3 when another process has the log, 4 when its parent is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import structlog

from millstream.bench import loops
from millstream.bench.bank import BalanceOf, Deposit
from millstream.bench.proofs.torture import reports
from millstream.bench.proofs.torture.application import PLANNED_FAILURES, Courier, EventsSeen, limits, till
from millstream.bench.proofs.torture.service import Service, service_of
from millstream.bench.proofs.torture.work import (
    Role,
    accounts,
    batch,
    command,
    has_id,
    opening,
    own_account,
    role_of,
)
from millstream.engine import (
    DeadlineExceeded,
    Engine,
    EngineClosed,
    LogLocked,
    Metadata,
    MillstreamError,
    Receipt,
    Rejected,
)

__all__ = ["EXIT_LOCKED", "Order", "main"]

EXIT_LOCKED = 3
_EXIT_UNHEARD = 4

#: One in so many deposits is given so little time that the time may be over before it is decided, or after.
_HURRIED = 16
_HURRY_SECONDS = 0.003
_CHECKPOINT_PAUSE_SECONDS = 0.005
_WATCH_PAUSE_SECONDS = 0.0005


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a child is to do."""

    log: str
    #: Which process this is, of all in the run: the first part of the names of its commands.
    generation: int
    callers: int
    loop: str = "asyncio"
    #: Whether a thread checkpoints the WAL all the time.
    checkpoints: bool = False
    #: Names of commands that an earlier process may have sent, to be sent again first.
    again: list[str] = []


class _Reporter:
    """Writes reports to a pipe: once in a turn of the loop, whole lines only."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lines: list[bytes] = []

    def mark(self, name: str) -> None:
        """Say at once how far the process is."""
        self.say(reports.mark(name))
        self.flush()

    def called(self, effect: str) -> None:
        """Say at once that the service was called, so that a kill can come before that is settled."""
        self.say(reports.called(effect))
        self.flush()

    def say(self, line: bytes) -> None:
        """Say something before long."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Say what is left to say."""
        left = b"".join(self._lines)
        self._lines.clear()
        try:
            while left:
                left = left[os.write(self._pipe, left) :]
        except BrokenPipeError:
            os._exit(_EXIT_UNHEARD)  # the parent was killed: this load would never end


class _Crowd:
    """The callers of one engine. They go on until it is closed."""

    def __init__(self, engine: Engine, order: Order, reporter: _Reporter) -> None:
        self._engine = engine
        self._order = order
        self._say = reporter.say

    async def run(self) -> None:
        """Open the accounts, send again what is to be sent again, then let all callers loose."""
        generation, callers = self._order.generation, self._order.callers
        names = [*(opening(generation, account) for account in accounts(callers)), *self._order.again]
        await _together(partial(self._send, name) for name in names)
        lives = {Role.ASK: self._ask_often, Role.BATCH: self._send_batches}
        starts = [partial(lives.get(role_of(caller), self._send_often), caller) for caller in range(callers)]
        await _together([self._watch, *starts])

    async def _send_often(self, caller: int) -> None:
        for number in count():
            hurried = number % _HURRIED == _HURRIED - 1 and role_of(caller) is Role.DEPOSIT
            await self._send(self._name(caller, number), _HURRY_SECONDS if hurried else None)

    async def _send_batches(self, caller: int) -> None:
        for number in count():
            call = self._name(caller, number)
            names = batch(call)
            ids, told = (names, None) if has_id(names[0]) else (None, Metadata(correlation=call))
            outcomes = await self._engine.execute_many(map(command, names), command_ids=ids, metadata=told)
            for name, outcome in zip(names, outcomes, strict=True):
                self._tell(name, outcome)
            if isinstance(outcomes[-1], EngineClosed):
                raise outcomes[-1]

    async def _ask_often(self, caller: int) -> None:
        query = BalanceOf(own_account(caller))
        mine = await self._engine.ask(query, after=self._engine.stats().writer.position) or 0
        for number in count():
            name = self._name(caller, number)
            deposit, receipt = command(name), await self._send(name)
            if not isinstance(deposit, Deposit) or receipt is None:
                raise TypeError(f"{name} is no deposit that was accepted")
            mine += deposit.amount
            balance = await self._engine.ask(query, after=receipt)
            if balance != mine:
                self._say(reports.trouble(f"after {name} its account has {mine}, and the answer was {balance}"))

    async def _watch(self) -> None:
        """Tell how far answers go that wait for nothing."""
        position = 0
        while True:
            before, position = position, await self._engine.ask(EventsSeen())
            if position != before:
                self._say(reports.seen(position))
            await asyncio.sleep(_WATCH_PAUSE_SECONDS)

    async def _send(self, name: str, timeout: float | None = None) -> Receipt | None:
        try:
            receipt = await self._engine.execute(command(name), command_id=name, timeout=timeout)
        except MillstreamError as error:
            self._tell(name, error)
            if isinstance(error, EngineClosed):
                raise
            return None
        self._tell(name, receipt)
        return receipt

    def _tell(self, name: str, outcome: Receipt | MillstreamError) -> None:
        match outcome:
            case Receipt():
                self._say(reports.ack(name, outcome))
            case Rejected() | EngineClosed() | DeadlineExceeded(decided=False):
                self._say(reports.refusal(name, outcome))
            case DeadlineExceeded():
                pass  # it may be in the log or not, and no caller was answered
            case _:
                raise outcome

    def _name(self, caller: int, number: int) -> str:
        return f"{self._order.generation}.{caller}.{number}"


async def _together(lives: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Live all of them at the same time; the engine's closing ends them, any other error ends the process."""
    async with asyncio.TaskGroup() as group:
        for live in lives:
            group.create_task(_until_closed(live))


async def _until_closed(live: Callable[[], Awaitable[object]]) -> None:
    try:
        await live()
    except EngineClosed:
        return


def _checkpoint(log: str, stop: threading.Event) -> None:
    """What SQLite does by itself once in thousands of pages, over and over."""
    with closing(sqlite3.connect(log, isolation_level=None)) as db:
        while not stop.wait(_CHECKPOINT_PAUSE_SECONDS):
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


async def _live(order: Order) -> int:
    reporter, stop, end = _Reporter(sys.stdout.fileno()), asyncio.Event(), threading.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    checkpointer = threading.Thread(target=_checkpoint, args=(order.log, end), daemon=True)
    service = Service(service_of(Path(order.log)), order.generation, reporter.called)
    reporter.mark("opening")
    try:
        async with Engine(till, log=order.log, limits=limits(), effects=[Courier(service)]) as engine:
            reporter.mark("open")
            if order.checkpoints:
                checkpointer.start()
            crowd = asyncio.create_task(_Crowd(engine, order, reporter).run())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({crowd, stopped}, return_when=asyncio.FIRST_COMPLETED)
            reporter.mark("closing")
            end.set()
    except LogLocked:
        reporter.mark("locked")
        return EXIT_LOCKED
    await crowd
    stopped.cancel()
    reporter.mark("closed")
    return 0


def _unplanned(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Lines that tell of something; methods that fail by plan do not."""
    if line["event"] == "application_failed" and line.get("place", "").endswith(PLANNED_FAILURES):
        raise structlog.DropEvent
    return line


def main(arguments: list[str]) -> int:
    """Do what the first argument orders, and return the exit code."""
    structlog.configure(
        processors=[_unplanned, *structlog.get_config()["processors"]],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    order = msgspec.json.decode(arguments[0], type=Order)
    return loops.run(partial(_live, order), order.loop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
