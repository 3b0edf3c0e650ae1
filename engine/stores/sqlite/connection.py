"""A connection to a SQLite database in a thread of its own.

Here: the thread, and that it gets to work beside a busy loop. Not here: which databases there are (`log`, `snapshots`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from millstream.engine.loop.threads import YieldingGil

__all__ = ["Database", "connect"]


class Database:
    """A connection that `connect` made. Statements run one after another, each whole even if its caller is cancelled.

    Statements raise SQLite's errors, and ValueError once it is closed.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Sequence[Any]]:
        """Execute a statement; all rows that it yields."""
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


async def connect(address: str | Path, *, uri: bool = False, busy_seconds_max: float = 5.0) -> Database:
    """Open a database, or make it; outside of a transaction each statement is one.

    aiosqlite does not wait for the thread of a connection that fails, or that nobody waits for any more, and it raises
    if the loop is closed before it is done. So one that fails is one to nothing, and is closed; and a caller whose
    cancel scope is cancelled meanwhile gets the connection first.

    Args:
        address: a path, or SQLite's URI of one (https://www.sqlite.org/uri.html).
        uri: which of them it is.
        busy_seconds_max: how long a statement waits for somebody else's lock.

    Raises:
        sqlite3.Error: it can't be opened.
    """
    failures: list[Exception] = []

    def opening() -> sqlite3.Connection:
        try:
            return sqlite3.connect(address, uri=uri, isolation_level=None, timeout=busy_seconds_max)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
            return sqlite3.connect(":memory:")

    with YieldingGil(), anyio.CancelScope(shield=True):
        database = Database(await aiosqlite.Connection(opening, iter_chunk_size=1))
    if failures:
        await database.close()
        raise failures[0]
    return database
