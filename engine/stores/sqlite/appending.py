"""The connection that appends, in a thread of its own: nothing between it and the loop but a queue.

Here: the thread, its statements one after another, and that it gets to work beside a busy loop. Not here: what an error
means for a commit (`log`).

A commit is handed over, and its landing reported, by one call each. aiosqlite, which does all else, needs a coroutine,
a future and two turns of the loop for that, and a task to wait in.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import Any, TypeAlias

from millstream.engine.errors import DefinitionError
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.threads import in_thread, release_gil
from millstream.engine.stores.sqlite.connection import Steps

__all__ = ["Appender", "Landed", "checked_alone", "settle_promise"]

#: Is called on the loop, once: with what the work returned, or with what it raised.
Landed: TypeAlias = Callable[[Any, BaseException | None], None]
_Work: TypeAlias = Callable[[sqlite3.Connection], Any]

#: How long the loop holds still for the thread, if a statement takes long.
_HOLD_SECONDS = 150e-6
#: What is done sooner needs no help: the thread gets the lock when the loop looks for events.
_FIRST_SECONDS = 3e-3
#: For how long nothing is done on the loop's thread after something took too long there.
_APART_SECONDS = 1.0
#: Of the last ones, how many count for what is usual.
_USUAL_OF = 16


def checked_alone(alone_ms_max: float | None) -> float | None:
    """A time that a caller has given.

    Raises:
        DefinitionError: it is none.
    """
    if alone_ms_max is not None and not (type(alone_ms_max) in (int, float) and 0 < alone_ms_max < inf):
        raise DefinitionError(f"milliseconds above 0, or None, not {alone_ms_max!r:.80}", "alone_ms_max")
    return alone_ms_max


class Appender:
    """A connection whose statements are executed one after another in its thread; see `opened`.

    What was handed over is done, also if its caller waits no more. Statements raise SQLite's errors, and ValueError
    once it is closed.

    Args:
        busy_seconds_max: how long a statement waits for another program's lock.
        here_ms_max: up to how long a statement may usually take to be executed on the loop's thread, where its caller
            asks for that. None: never.
    """

    def __init__(self, busy_seconds_max: float, here_ms_max: float | None = None) -> None:
        self._busy_ms_max = round(busy_seconds_max * 1e3)
        self._here_seconds_max = None if here_ms_max is None else here_ms_max / 1e3
        #: How long the last statements took. The first ones go to the thread, which finds out.
        self._usual_seconds = float("inf") if here_ms_max is None else 2 * here_ms_max / 1e3
        self._apart_until = 0.0
        #: Whether the connection waits for another program's lock now.
        self._waits_for_locks = True
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
    async def opened(
        cls,
        connect: Callable[[], sqlite3.Connection],
        *,
        steps_max: int,
        busy_seconds_max: float,
        here_ms_max: float | None = None,
    ) -> Appender:
        """One whose connection is open.

        Args:
            connect: makes the connection, in the thread.
            steps_max: how many steps of SQLite's virtual machine a statement may take.
            busy_seconds_max, here_ms_max: as the class says.

        Raises:
            sqlite3.Error: it can't be opened.
        """
        appender = cls(busy_seconds_max, here_ms_max)
        appender._thread.start()
        try:
            await appender.done(lambda _: appender._open(connect, steps_max))
        except BaseException:
            await appender.close()
            raise
        return appender

    @property
    def in_transaction(self) -> bool:
        return self._connection is not None and self._connection.in_transaction

    def launch(self, work: _Work, landed: Landed, *, alone: bool = False) -> None:
        """Let the thread do something; ``landed`` gets what came of it.

        If it raises, and leaves a transaction open, that is rolled back before ``landed`` is called.

        Args:
            work: is given the connection.
            landed: is called on the loop, once. What it raises is the loop's own to report.
            alone: no other task needs the loop. It is done here and now if ``here_ms_max`` allows it, and ``landed``
                is called before this returns.

        Raises:
            ValueError: it is closed.
        """
        if self._is_closing:
            raise ValueError("no active connection")
        if alone and not self._underway and self._is_quick and self._done_here(work, landed):
            return
        self._underway += 1
        if self._since is None:
            self._since = elapsed()
        self._jobs.put((work, landed))
        if self._timer is None:
            self._timer = self._loop.call_later(_FIRST_SECONDS, self._beat)

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Sequence[Any]]:
        """Execute a statement; all rows that it yields."""
        found: list[Sequence[Any]] = await self.done(
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

    async def done(self, work: _Work) -> Any:
        """What the thread makes of the connection."""
        promise: asyncio.Future[Any] = self._loop.create_future()
        self.launch(work, partial(settle_promise, promise))
        return await promise

    def _open(self, connect: Callable[[], sqlite3.Connection], steps_max: int) -> None:
        self._connection = connect()
        self._connection.execute(f"PRAGMA busy_timeout={self._busy_ms_max}")
        self._steps = Steps(self._connection, steps_max)

    @property
    def _is_quick(self) -> bool:
        """Whether a statement is likely to hold the loop no longer than it may."""
        most = self._here_seconds_max
        return most is not None and self._usual_seconds < most and elapsed() > self._apart_until

    def _done_here(self, work: _Work, landed: Landed) -> bool:
        """Do it on the loop's thread; False if another program holds a lock, for which the thread is to wait."""
        since = elapsed()
        result, error = self._do(work, waits_for_locks=False)
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        self._took(elapsed() - since)
        landed(result, error)
        return True

    def _took(self, seconds: float) -> None:
        """Note how long a statement took. After one that took long the thread does it for a while."""
        if self._here_seconds_max is not None:
            self._usual_seconds += (seconds - self._usual_seconds) / _USUAL_OF
            if seconds > 4 * self._here_seconds_max:
                self._apart_until = elapsed() + _APART_SECONDS

    def _do(self, work: _Work, *, waits_for_locks: bool) -> tuple[Any, BaseException | None]:
        """What came of it: in the thread, or on the loop's while the thread has nothing to do."""
        connection = self._connection
        try:
            if self._steps is not None:
                self._steps.renew()
            if waits_for_locks != self._waits_for_locks and connection is not None:
                connection.execute(f"PRAGMA busy_timeout={self._busy_ms_max if waits_for_locks else 0}")
                self._waits_for_locks = waits_for_locks
            return work(connection), None  # type: ignore[arg-type]  # none before the first one, which makes it
        except BaseException as failure:  # noqa: BLE001 - handed to ``landed``
            if self.in_transaction:
                with suppress(sqlite3.Error):
                    connection.rollback()  # type: ignore[union-attr]
            return None, failure

    def _beat(self) -> None:
        """One timer for all that is written. Beside callbacks that never end the thread would wait for the lock."""
        self._timer = None
        if self._since is None:
            return
        if elapsed() - self._since >= _FIRST_SECONDS:
            release_gil(_HOLD_SECONDS)
        self._timer = self._loop.call_later(_FIRST_SECONDS, self._beat)

    def _tell(self, landed: Landed, result: Any, error: BaseException | None, seconds: float) -> None:
        self._took(seconds)
        self._underway -= 1
        self._since = elapsed() if self._underway else None
        landed(result, error)

    # In the thread.

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, landed = job
            since = elapsed()
            result, error = self._do(work, waits_for_locks=True)
            try:
                self._loop.call_soon_threadsafe(self._tell, landed, result, error, elapsed() - since)
            except RuntimeError:  # the loop is closed: no task waits any more
                break
            del job, work, landed, result, error
        if self._connection is not None:
            self._connection.close()


def settle_promise(promise: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a future what came of something, if anybody waits still."""
    if promise.done():
        return
    if error is None:
        promise.set_result(result)
    else:
        promise.set_exception(error)
