"""The connection that appends, in a thread of its own: nothing between it and the loop but a queue.

Here: the thread, its statements one after another, and that it gets to work beside a busy loop. Not here: what an error
means for a commit (`log`).

A commit is handed over and its landing told by one call each. aiosqlite, which does all else, needs a coroutine, a
future and two turns of the loop for that, and a task to wait in.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias

from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.threads import in_thread, release_gil
from millstream.engine.stores.sqlite.connection import Steps

__all__ = ["Appender", "Landed"]

#: Is called on the loop, once: with what the work returned, or with what it raised.
Landed: TypeAlias = Callable[[Any, BaseException | None], None]
_Work: TypeAlias = Callable[[sqlite3.Connection], Any]

#: How long the loop holds still for the thread, if a statement takes long.
_HOLD_SECONDS = 150e-6
#: What is done sooner needs no help: the thread gets the lock when the loop looks for events.
_FIRST_SECONDS = 3e-3


class Appender:
    """A connection whose statements are executed one after another in its thread; see `opened`.

    What was handed over is done, whoever still waits for it. Statements raise SQLite's errors, and ValueError once it
    is closed.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[_Work, Landed] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection: sqlite3.Connection | None = None
        self._steps: Steps | None = None
        self._is_closing = False
        #: Since when the thread has been at what it does; None while it has nothing to do.
        self._since: float | None = None
        self._underway = 0
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._run, name="millstream-append", daemon=True)

    @classmethod
    async def opened(cls, connect: Callable[[], sqlite3.Connection], steps_max: int) -> Appender:
        """One whose connection is open.

        Args:
            connect: makes the connection, in the thread.
            steps_max: how many steps of SQLite's virtual machine a statement may take.

        Raises:
            sqlite3.Error: it can't be opened.
        """
        appender = cls()
        appender._thread.start()
        try:
            await appender._waited(lambda _: appender._open(connect, steps_max))
        except BaseException:
            await appender.close()
            raise
        return appender

    @property
    def in_transaction(self) -> bool:
        return self._connection is not None and self._connection.in_transaction

    def launch(self, work: _Work, landed: Landed) -> None:
        """Let the thread do something; ``landed`` hears what came of it.

        If it raises, and leaves a transaction open, that is rolled back before ``landed`` hears of it.

        Args:
            work: is given the connection.
            landed: is called on the loop, once. What it raises is the loop's own to report.

        Raises:
            ValueError: it is closed.
        """
        if self._is_closing:
            raise ValueError("no active connection")
        self._underway += 1
        if self._since is None:
            self._since = elapsed()
        self._jobs.put((work, landed))
        if self._timer is None:
            self._timer = self._loop.call_later(_FIRST_SECONDS, self._beat)

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Sequence[Any]]:
        """Execute a statement; all rows that it yields."""
        found: list[Sequence[Any]] = await self._waited(
            lambda connection: connection.execute(statement, parameters).fetchall()
        )
        return found

    async def close(self) -> None:
        """Close it, after all that was handed over to it. Closing twice is allowed."""
        if not self._is_closing:
            self._is_closing = True
            self._jobs.put(None)
        if self._thread.is_alive():
            await in_thread(self._thread.join)
        if self._timer is not None:
            self._timer.cancel()

    async def _waited(self, work: _Work) -> Any:
        promise: asyncio.Future[Any] = self._loop.create_future()
        self.launch(work, partial(_settle, promise))
        return await promise

    def _open(self, connect: Callable[[], sqlite3.Connection], steps_max: int) -> None:
        self._connection = connect()
        self._steps = Steps(self._connection, steps_max)

    def _beat(self) -> None:
        """One timer for all that is written. Beside callbacks that never end the thread would wait for the lock."""
        self._timer = None
        if self._since is None:
            return
        if elapsed() - self._since >= _FIRST_SECONDS:
            release_gil(_HOLD_SECONDS)
        self._timer = self._loop.call_later(_FIRST_SECONDS, self._beat)

    def _tell(self, landed: Landed, result: Any, error: BaseException | None) -> None:
        self._underway -= 1
        self._since = elapsed() if self._underway else None
        landed(result, error)

    # In the thread.

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, landed = job
            result, error = None, None
            try:
                if self._steps is not None:
                    self._steps.renew()
                result = work(self._connection)  # type: ignore[arg-type]  # none before the first job, which makes it
            except BaseException as failure:  # noqa: BLE001 - told to whoever waits
                error = failure
                if self.in_transaction:
                    with suppress(sqlite3.Error):
                        self._connection.rollback()  # type: ignore[union-attr]
            try:
                self._loop.call_soon_threadsafe(self._tell, landed, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                break
            del job, work, landed, result, error
        if self._connection is not None:
            self._connection.close()


def _settle(promise: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if promise.done():
        return
    if error is None:
        promise.set_result(result)
    else:
        promise.set_exception(error)
