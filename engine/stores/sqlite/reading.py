"""Reading a log in a SQLite file: beside the writer of the same handle, or attached beside another process.

Here: the connection that reads, and what its rows and errors become. Not here: anything that writes (`sqlite`).

Whatever is wrong with the files, a read returns commits in order without a gap, or raises; and never SQLite's errors.
What it returns is durable: see `sync_wal`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from millstream.engine.commits.chain import head_of
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import LogCorrupt, LogRefused
from millstream.engine.loop.threads import in_thread
from millstream.engine.stores.following import followed
from millstream.engine.stores.sqlite.connection import Database, connect, steps_of
from millstream.engine.stores.sqlite.errors import ERRORS, is_damage, text_of
from millstream.engine.stores.sqlite.files import NEXT_STEP, FileWatch
from millstream.engine.stores.sqlite.names import require_one_path
from millstream.engine.stores.sqlite.pulse import Pulse, look_connection, version_of
from millstream.engine.stores.sqlite.resting import QuietFiles, reading_address, sync_wal
from millstream.engine.stores.sqlite.schema import (
    LAST,
    READ,
    Meta,
    check_pages,
    commit_of,
    first_unreadable,
    meta_of,
)

__all__ = ["SqliteReader"]

_ROWS_MAX = 10_000


class SqliteReader:
    """The reading half of `SqliteLog`.

    Args:
        path: the database file, absolute once it is read.
        watch: of its files; begun here when the reader attaches beside a writer, else by opening the log.
        busy_seconds_max: how long to wait for another program's lock.
        checked_bytes_max: up to this size, attaching checks the pages.
        name: what errors call it.
    """

    def __init__(
        self, path: Path, watch: FileWatch, busy_seconds_max: float, checked_bytes_max: int, *, name: str
    ) -> None:
        self._path = path
        self._name = name
        self._watch = watch
        self._busy_seconds_max = busy_seconds_max
        self._checked_bytes_max = checked_bytes_max
        #: What `Log.id` promises, once it is attached.
        #: What the log says of itself; None before it is open.
        self.meta: Meta | None = None
        self._db: Database | None = None
        self._attached = False
        #: How the files looked when they were attached to, while no process has written them since.
        self._resting: QuietFiles | None = None
        #: Which file is read, by inode and device.
        self._file: tuple[int, int] | None = None
        self._pulse = Pulse(self._state)
        self._looking: sqlite3.Connection | None = None
        self._turn = anyio.Lock()
        #: How many rows the next read asks for: as many as fitted into the last one's bytes.
        self._rows = 64

    async def open(self) -> None:
        """Read beside the writer of the same handle."""
        self._db = await self._connect(str(self._path))
        await self._db.rows("PRAGMA query_only=1")
        await self._db.rows(LAST)  # opens the -wal now: later there might be another one in its place

    async def attach(self) -> str:
        """Read beside the writer; the application's name. Raises SQLite's errors, LogRefused, LogCorrupt."""
        owner = await self._connect_without_trace()
        self._attached, self._pulse = True, Pulse(self._state)
        return owner

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        try:
            rows = await self._fetch(READ, (after, self._rows))
        except ERRORS as error:
            raise await self._failure(after, error) from error
        page = [commit_of(self._name, number, row) for number, row in enumerate(rows, after + 1)]
        if page:
            mean = max(1, sum(len(commit.body) for commit in page) // len(page))
            self._rows = max(1, min(_ROWS_MAX, bytes_max // mean, 2 * self._rows))
        return page

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        """What `Log.follow` promises, beside the writer."""
        return followed(partial(self._read_on, self._file), self._pulse, after, bytes_max)

    def look_now(self) -> None:
        """Look now."""
        if self._attached:
            self._pulse.look()

    async def head(self) -> Head:
        try:
            rows = await self._fetch(LAST)
        except ERRORS as error:
            raise await self._failure(0, error) from error
        return head_of(self._name, commit_of(self._name, rows[0][0], rows[0])) if rows else Head()

    async def close(self) -> None:
        self._pulse.end()
        self._attached, self._resting = False, None
        await self._disconnect()

    async def _disconnect(self) -> None:
        looking, self._looking = self._looking, None
        db, self._db = self._db, None
        if looking is not None:
            looking.close()
        if db is not None:
            await db.close()

    # Following.

    async def _read_on(self, file: object, after: int, bytes_max: int) -> Sequence[Commit]:
        """The next page of this file; while it rests, another one may have taken its place."""
        page = await self.read(after, bytes_max)
        if self._file != file:
            raise LogRefused(self._name, f"{self._name} was replaced while it was followed", NEXT_STEP)
        return page

    def _state(self) -> object:
        """What differs when a process has written. Here on the loop's thread: see `pulse`."""
        if self._resting is not None:
            return QuietFiles.look(self._path)
        if self._db is None or self._watch.lost():
            return object()
        if self._looking is None:
            self._looking = look_connection(reading_address(self._path, None))
        return version_of(self._looking)

    # Attaching.

    async def _connect_without_trace(self) -> str:
        """Connect the way that leaves no trace as the files are now; again if they change meanwhile."""
        while True:
            try:
                resting = await in_thread(self._look)
            except OSError as error:
                raise LogRefused(self._name, f"it is not there: {error}", "name a log that is there") from error
            db = await self._connect(reading_address(self._path, resting), uri=True)
            try:
                meta = await meta_of(self._name, db)
                await check_pages(self._name, db, self._checked_bytes_max)
                if resting is None:
                    self._watch.begin()
                    await in_thread(sync_wal, self._path)
            except BaseException as error:
                await db.close()
                if isinstance(error, (*ERRORS, LogCorrupt)) and await self._moved_on(resting):
                    continue
                raise
            self._db, self._resting = db, resting
            self._file = self._watch.database if resting is None else resting.file
            self.meta = meta
            return meta.application

    async def _connect(self, address: str, *, uri: bool = False) -> Database:
        bound = steps_of(self._checked_bytes_max)
        return await connect(address, uri=uri, busy_seconds_max=self._busy_seconds_max, steps_max=bound)

    def _look(self) -> QuietFiles | None:
        require_one_path(self._name, self._path, tidy=False)
        return QuietFiles.look(self._path)

    async def _moved_on(self, resting: QuietFiles | None) -> bool:
        return resting is not None and not await in_thread(resting.holds, self._path)

    async def _fetch(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Sequence[Any]]:
        """Rows. Where the files rested, they must still rest afterwards: what was read while a process began to write
        them counts for nothing, and is read again beside that writer.
        """
        if not self._attached:
            return await self._opened().rows(sql, parameters)
        async with self._turn:
            while True:
                self._watch.require(self._name)
                if self._db is None:
                    await self._connect_without_trace()
                failure: Exception | None = None
                try:
                    rows = await self._opened().rows(sql, parameters)
                except ERRORS as error:
                    failure = error
                if not await self._moved_on(self._resting):
                    break
                await self._disconnect()
            if failure:
                raise failure
            return rows

    async def _failure(self, after: int, error: Exception) -> Exception:
        """What a read raises: damage only if a second look finds it, since SQLite calls a disk's error so, too."""
        if self._db is not None and is_damage(error):
            commit, still = await first_unreadable(self._db, after)
            if still:
                return LogCorrupt(self._name, commit, text_of(error))
        return OSError(f"log {self._name} can't be read now: {error}")

    def _opened(self) -> Database:
        if self._db is None:
            raise RuntimeError("this log is not open: Engine opens it, or call open()")
        return self._db
