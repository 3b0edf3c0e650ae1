"""Connections to a PostgreSQL server: made when one is needed, again when one is lost, used by one statement at a time.

Here: that no cancellation reaches the driver, and that a server which says nothing is given up. Not here: statements.

A cancelled statement would be cancelled at the server, by a second connection; of an append that waits for its
synchronous standby the server then says that it has succeeded. So each piece of work has a task of its own, which is
waited for, by whichever task it was begun. That is a part of each append: of 0.45 ms it takes 15 µs, and 20 more with
`asyncio.shield`, a timer for each piece and a callback at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeAlias, TypeVar

import anyio
import asyncpg

from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.postgres.errors import ERRORS
from millstream.engine.stores.postgres.settings import Password, Settings

__all__ = ["Connection", "Session", "connector", "once_it_takes_sessions"]

T = TypeVar("T")

#: A text, as the class takes its parameter in its stubs only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_Connect: TypeAlias = Callable[[], Awaitable[Connection]]

#: What the driver says of a connection over which the server has ended the session while it was idle, and whose end it
#: has not seen yet: nothing of the statement was sent.
_ENDED_UNSEEN = "cannot switch to state"
#: How often a server that takes no sessions now is asked again.
_AGAIN_SECONDS = 0.05


def connector(settings: Settings, password: Password | None, *, writes: bool) -> _Connect:
    """What makes a connection.

    Args:
        settings: where to.
        password: is asked for each connection; the address or the environment says it otherwise.
        writes: a server is looked for that takes changes, where several are named.
    """
    more: dict[str, Any] = {}
    if writes and not settings.chooses_server:
        more["target_session_attrs"] = "read-write"
    if password is not None:
        more["password"] = _asked(password)
    if settings.pooled and not writes:
        more["statement_cache_size"] = 0

    async def connect() -> Connection:
        connection: Connection = await asyncpg.connect(settings.dsn, timeout=settings.answer_seconds_max, **more)
        return connection

    return connect


async def once_it_takes_sessions(work: Callable[[], Awaitable[T]], seconds_max: float) -> T:
    """Do the first thing at a server, which may be starting, or about to end and start anew: it is asked again.

    Args:
        work: makes a connection.
        seconds_max: how long a server that takes no sessions now is asked again.

    Raises:
        CannotConnectNowError: it takes none still.
    """
    until = elapsed() + seconds_max
    while True:
        try:
            return await work()
        except asyncpg.CannotConnectNowError:
            if elapsed() >= until:
                raise
        await anyio.sleep(_AGAIN_SECONDS)


def _asked(password: Password) -> Callable[[], Awaitable[str]]:
    """What gives the password; whatever it raises is a connection that can't be made now."""

    async def ask() -> str:
        try:
            found: object = password()
            if isawaitable(found):
                found = await found
            if not isinstance(found, str):
                raise TypeError(f"it is a {type(found).__name__}, and is to be a text")
            return found
        except Exception as error:
            raise OSError(f"no password could be had: {error!r}") from error

    return ask


class Session:
    """One connection at a time, made again when it was lost.

    Args:
        connect: makes one.
        prepare: is done with each new one before anything else is.
        seconds_max: how long a piece of work may take before the connection is given up.
    """

    def __init__(
        self,
        connect: _Connect,
        prepare: Callable[[Connection], Awaitable[object]] | None = None,
        *,
        seconds_max: float,
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._seconds_max = seconds_max
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._underway: set[asyncio.Task[None]] = set()
        self._is_closed = False
        #: What a piece of work is done with now, until when it may take, and the timer that looks then, or sooner.
        self._used: Connection | None = None
        self._used_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        #: The connection that was given up, as a piece of work took too long.
        self._given_up: Connection | None = None
        #: How often it has connected.
        self.generation = 0

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something with the connection, after all that was begun before. It goes on if the caller is cancelled.

        Of a connection that the server has ended unseen, it is done once more with a new one.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: as the driver does.
            TimeoutError: there was no answer in time.
        """
        if self._is_closed:
            raise ConnectionError("the connection is closed")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._underway.add(loop.create_task(self._in_turn(work, outcome)))
        return await outcome

    async def _in_turn(self, work: Callable[[Connection], Awaitable[T]], outcome: asyncio.Future[T]) -> None:
        """Do it when it is its turn. Its caller may be gone, and then it is not given to any."""
        try:
            async with self._turn:
                result = await self._done(work)
        except BaseException as error:
            if not outcome.done():
                outcome.set_exception(error)
                outcome.exception()  # its caller may be cancelled before it gets that
            if not isinstance(error, Exception):
                raise
        else:
            if not outcome.done():
                outcome.set_result(result)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._underway.discard(task)

    async def _done(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = await self._connected()
        try:
            return await self._in_time(work, connection)
        except asyncpg.InternalClientError as error:
            if not str(error).startswith(_ENDED_UNSEEN):
                raise
        connection.terminate()
        return await self._in_time(work, await self._connected())

    async def _in_time(self, work: Callable[[Connection], Awaitable[T]], connection: Connection) -> T:
        """Give the connection up if what is done takes too long, and say that it was that."""
        loop = asyncio.get_running_loop()
        self._used, self._used_until = connection, loop.time() + self._seconds_max
        if self._timer is None:
            self._timer = loop.call_at(self._used_until, self._look)
        try:
            return await work(connection)
        except ERRORS as error:
            if self._given_up is connection:
                raise TimeoutError(f"the server gave no answer within {self._seconds_max:g} s") from error
            raise
        finally:
            self._used = None

    def _look(self) -> None:
        """Whether what is done has taken too long. One timer serves all that is done while it runs."""
        self._timer = None
        if self._used is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._used_until:
            self._timer = loop.call_at(self._used_until, self._look)
            return
        self._given_up = self._used
        self._used.terminate()

    async def _connected(self) -> Connection:
        self._connection = None
        connection = await self._connect()
        if self._prepare is not None:
            try:
                await self._in_time(self._prepare, connection)
            except BaseException:
                connection.terminate()
                raise
        self._connection = connection
        self.generation += 1
        return connection

    def drop(self) -> None:
        """Give the connection up: what is under way fails, and the next piece of work gets a new one."""
        if self._connection is not None:
            self._connection.terminate()

    async def close(self) -> None:
        """Wait for what is under way, and close the connection."""
        self._is_closed = True
        # One that was cancelled before its first step, as the loop ended, has not taken itself out.
        while left := [task for task in self._underway if not task.done()]:
            await asyncio.wait(left)
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            timer = asyncio.get_running_loop().call_later(self._seconds_max, connection.terminate)
            try:
                await connection.close()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                connection.terminate()
            finally:
                timer.cancel()
