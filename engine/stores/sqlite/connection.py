"""A connection to a SQLite database in a thread of its own.

Here: the thread, and that it gets to work beside a busy loop. Not here: which databases there are (`log`, `snapshots`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import aiosqlite
import anyio

from millstream.engine.errors import LogRefused
from millstream.engine.loop.threads import YieldingGil

__all__ = ["STEPS_MIN", "Database", "Steps", "connect", "require_version", "runs_no_trigger", "steps_of"]

_SQLITE_MIN = (3, 38, 0)  # RETURNING, and JSON functions that are always there

#: Steps of SQLite's virtual machine that any statement may take: a second, about.
STEPS_MIN = 20_000_000
#: How many more for each byte of the file. A row has 100 bytes, and checking it takes 150 steps.
_STEPS_PER_BYTE = 8
#: How often they are counted. A statement with fewer never calls Python for it.
_STEPS_COUNTED = 1_000_000


def require_version(log: str) -> None:
    """See that this Python's SQLite is one that logs can be kept in.

    Raises:
        LogRefused: it is older.
    """
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        wanted = ".".join(map(str, _SQLITE_MIN))
        raise LogRefused(
            log, f"this Python has SQLite {sqlite3.sqlite_version}", f"use a Python with SQLite {wanted} or later"
        )


def steps_of(size_bytes: int) -> int:
    """How many steps a statement may take that looks at all of a file of this size."""
    return STEPS_MIN + size_bytes * _STEPS_PER_BYTE


class Steps:
    """A bound on what a statement does: a crafted file can make one go on for years
    (https://www.sqlite.org/security.html).
    """

    def __init__(self, connection: sqlite3.Connection, steps_max: int) -> None:
        self._max = self._left = steps_max // _STEPS_COUNTED
        connection.set_progress_handler(self._spend, _STEPS_COUNTED)

    def renew(self) -> None:
        """The next statement begins."""
        self._left = self._max

    def _spend(self) -> bool:
        self._left -= 1
        return self._left < 0


def runs_no_trigger(connection: sqlite3.Connection) -> None:
    """Refuse (SQLITE_AUTH) each statement that would run a trigger, also one that was made while the file is open. It
    is looked at when a statement is compiled, and not when it runs.
    """
    connection.set_authorizer(_judge)


def _judge(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    # SQLite makes a RETURNING clause a trigger of its own.
    return sqlite3.SQLITE_OK if source is None or source == "sqlite_returning" else sqlite3.SQLITE_DENY


class Database:
    """A connection that `connect` made. Statements run one after another, each whole even if its caller is cancelled.

    Statements raise SQLite's errors, and ValueError once it is closed.
    """

    def __init__(self, connection: aiosqlite.Connection, steps: Steps) -> None:
        self._connection = connection
        self._steps = steps

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Sequence[Any]]:
        """Execute a statement; all rows that it yields."""
        self._steps.renew()
        with YieldingGil():
            return list(await self._connection.execute_fetchall(statement, parameters))

    async def script(self, statements: str) -> None:
        """Execute statements that yield nothing."""
        with YieldingGil():
            await self._connection.executescript(statements)

    async def close(self) -> None:
        """Close it, after all statements that were given to it, also if the caller's scope is cancelled meanwhile."""
        with YieldingGil(), anyio.CancelScope(shield=True):
            await self._connection.close()


async def connect(
    address: str | Path, *, uri: bool = False, busy_seconds_max: float = 5.0, steps_max: int = 1 << 62
) -> Database:
    """Open a database, or make it; outside of a transaction each statement is one.

    aiosqlite does not wait for the thread of a connection that fails, or that no task waits for any more, and it raises
    if the loop is closed before it is done. So one that fails is one to nothing, and is closed; and a caller whose
    cancel scope is cancelled meanwhile gets the connection first.

    Args:
        address: a path, or SQLite's URI of one (https://www.sqlite.org/uri.html).
        uri: which of them it is.
        busy_seconds_max: how long a statement waits for another program's lock.
        steps_max: how many steps a statement may take; one with more fails with ``SQLITE_INTERRUPT``.

    Raises:
        sqlite3.Error: it can't be opened.
    """
    failures: list[Exception] = []
    steps: list[Steps] = []

    def opening() -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(address, uri=uri, isolation_level=None, timeout=busy_seconds_max)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
            connection = sqlite3.connect(":memory:")
        steps.append(Steps(connection, steps_max))
        runs_no_trigger(connection)
        return connection

    connection = aiosqlite.Connection(opening, iter_chunk_size=1)
    _let_exit(connection)
    with YieldingGil(), anyio.CancelScope(shield=True):
        database = Database(await connection, steps[-1])
    if failures:
        await database.close()
        raise failures[0]
    return database


def _let_exit(connection: aiosqlite.Connection) -> None:
    """A program that ends without closing the connection does not wait for its thread, which would never end.

    What the thread is doing then is whole or did not happen: that is what SQLite is for.
    """
    thread = getattr(connection, "_thread", connection)  # until 0.21 the connection is the thread
    if isinstance(thread, Thread):
        thread.daemon = True
