"""The log in one SQLite file: the default store.

One commit is one row, written by one statement in its own transaction, with one fsync: ``journal_mode=WAL`` and
``synchronous=FULL`` (https://www.sqlite.org/pragma.html#pragma_synchronous). Row-at-a-time inserts from a worker
thread collapse a hundredfold under a busy event loop, because the interpreter lock changes hands at every row.

Three connections: one appends; one reads, so that a view that catches up never delays a commit; one holds the lock.
The lock is an exclusive transaction on an empty database beside the log (``bank.db-lock``): the operating system drops
it when the process ends, however it ends, and readers of the log itself are not disturbed.

What may not happen, whatever fails: a commit is acknowledged and gone later, or refused and there later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from penstock.engine.commit import Commit, Head
from penstock.engine.errors import CommitFailed, Fenced, LogCorrupt, LogLocked, LogRefused
from penstock.engine.log.sqlite_faults import (
    is_damage,
    no_room,
    nothing_written,
    primary_code,
    read_failure,
    refusal,
)
from penstock.engine.log.sqlite_files import FileWatch, Resting, reading_address
from penstock.engine.log.sqlite_schema import (
    APPEND,
    LAST,
    PROBE,
    READ,
    check_pages,
    commit_of,
    create,
    first_unreadable,
    head_of,
    is_empty,
    owner_of,
)
from penstock.engine.snapshots import SnapshotStore, SqliteSnapshots

__all__ = ["SqliteLog"]

_SQLITE_MIN = (3, 38, 0)  # RETURNING, and JSON functions that are always there
_CHECKPOINT_PAGES = 4_000
_WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024
_ROWS_MAX = 10_000

_NEXT_STEP = "put that file back, or close the log and open what is there now"

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "fullfsync=1",  # macOS, where fsync alone leaves it in the drive's cache; nothing elsewhere
    f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
    f"journal_size_limit={_WAL_BYTES_KEPT_MAX}",
)


T = TypeVar("T")


class SqliteLog:
    """The `Log` port on a SQLite file.

    Args:
        path: the file; made when it is not there. Beside it lie ``-wal`` and ``-shm`` while it is open, and ``-lock``.
        busy_seconds_max: how long a commit waits for another program that has the file locked before it fails.
        checked_bytes_max: up to this size of the file, opening also checks that its pages are whole, at 1 to 3 GB/s
            (`PRAGMA quick_check`). A larger one is to be verified now and then.
    """

    def __init__(
        self, path: str | Path, *, busy_seconds_max: float = 5.0, checked_bytes_max: int = 256 * 1024 * 1024
    ) -> None:
        self.path = Path(path)
        self._busy_seconds_max = busy_seconds_max
        self._checked_bytes_max = checked_bytes_max
        self._watch = FileWatch(self.path)
        self._snapshots = SqliteSnapshots(f"{self.path}-snapshots")
        self._lock: sqlite3.Connection | None = None
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        #: How the files looked when they were attached to, while nobody has written them since.
        self._resting: Resting | None = None
        self._attached = False
        self._attaching = anyio.Lock()
        #: How many rows the next read asks for: as many as fitted into the last one's bytes.
        self._rows = 64

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def snapshots(self) -> SnapshotStore:
        return self._snapshots

    async def open(self, application: str) -> None:
        self._check_version()
        if not self.path.parent.is_dir():
            raise LogRefused(self.name, f"there is no folder {str(self.path.parent)!r}", "make the folder first")
        self._lock = await anyio.to_thread.run_sync(self._take_lock)
        await self._or_close(lambda: self._open(application))

    async def attach(self) -> str:
        self._check_version()
        owner = await self._or_close(self._attach)
        self._attached = True
        return owner

    async def append(self, commit: Commit) -> None:
        row = (commit.number, commit.position, commit.recorded_at, commit.body, commit.digest)
        if self._writer is None:
            raise CommitFailed(commit.number, "this log is not open for writing")
        # Here and not in the store's thread: a call there gives up the interpreter's lock, and a busy loop takes 5 ms
        # to give it back.
        if lost := self._watch.lost():
            raise CommitFailed(commit.number, f"{lost}: {_NEXT_STEP}")
        try:
            written = await self._writer.execute_fetchall(APPEND, row)
        except (sqlite3.Error, ValueError) as error:
            await self._leave_transaction()
            if nothing_written(error):
                raise CommitFailed(commit.number, str(error)) from error
            raise
        if not written:
            raise Fenced(self.name, commit.number, (await self.head()).number)

    async def probe(self) -> None:
        writer = _opened(self._writer)
        self._require_files()
        try:
            await writer.execute_fetchall(PROBE)
        except sqlite3.Error:
            await self._leave_transaction()
            raise

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        try:
            rows = await self._fetch(READ, (after, self._rows))
        except sqlite3.Error as error:
            raise await self._read_failure(after, error) from error
        page = [commit_of(self.name, after + index, row) for index, row in enumerate(rows, 1)]
        if page:
            mean = max(1, sum(len(commit.body) for commit in page) // len(page))
            self._rows = max(1, min(_ROWS_MAX, bytes_max // mean, 2 * self._rows))
        return page

    async def head(self) -> Head:
        self._require_files()
        try:
            rows = await self._fetch(LAST)
        except sqlite3.Error as error:
            raise await self._read_failure(0, error) from error
        return head_of(self.name, commit_of(self.name, 1, rows[0])) if rows else Head()

    async def close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                await connection.close()
        self._reader = self._writer = self._resting = None
        self._attached = False
        self._watch.end()
        if self._lock is not None:
            await anyio.to_thread.run_sync(self._lock.close)
            self._lock = None

    # Opening.

    def _check_version(self) -> None:
        if sqlite3.sqlite_version_info < _SQLITE_MIN:
            wanted = ".".join(map(str, _SQLITE_MIN))
            raise LogRefused(
                self.name,
                f"this Python has SQLite {sqlite3.sqlite_version}",
                f"use a Python with SQLite {wanted} or later",
            )

    async def _or_close(self, opening: Callable[[], Awaitable[T]]) -> T:
        """What ``opening`` returns; if it fails, everything is closed and SQLite's errors are told as the log's."""
        try:
            return await opening()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self.close()
            if isinstance(error, sqlite3.Error):
                raise refusal(self.name, error) from error
            raise

    def _take_lock(self) -> sqlite3.Connection:
        try:
            lock = sqlite3.connect(f"{self.path}-lock", isolation_level=None, timeout=0, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise LogRefused(self.name, f"its lock can't be made: {error}", "the folder must be writable") from error
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            lock.close()
            if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise LogLocked(self.name) from error
            raise LogRefused(self.name, f"its lock can't be taken: {error}", "the folder must be writable") from error
        return lock

    async def _open(self, application: str) -> None:
        self._writer = db = await self._connect(str(self.path))
        if await is_empty(db):
            await create(db, application)
        elif (owner := await owner_of(self.name, db)) != application:
            raise LogRefused(
                self.name,
                f"it belongs to application {owner!r}, not to {application!r}",
                "give App(name=…) the name that the log has, or open another log",
            )
        for pragma in _PRAGMAS:
            await db.execute_fetchall(f"PRAGMA {pragma}")
        await self._settle(db)
        await check_pages(self.name, db, self._checked_bytes_max)
        self._reader = await self._connect(str(self.path))
        await self._reader.execute_fetchall("PRAGMA query_only=1")
        self._watch.begin()

    async def _settle(self, db: aiosqlite.Connection) -> None:
        """See that the file can be written, and make what a crash left in the ``-wal`` as durable as the rest.

        What can be read there need not be on the disk yet: the process that wrote it may have died before its fsync, or
        that one may have failed, and then the system takes for clean what it never wrote. A checkpoint syncs the
        ``-wal`` and writes its pages anew, into the database, and syncs that.
        """
        try:
            await db.execute_fetchall("BEGIN IMMEDIATE")
            await db.execute_fetchall("ROLLBACK")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:  # another program writes: commits will tell
                raise
        try:
            await db.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as error:
            if not no_room(error):  # the -wal is synced before the first page is written
                raise

    async def _attach(self) -> str:
        """Connect for reading, the way that leaves no trace as the files are now; again if they change meanwhile."""
        while True:
            try:
                resting = await anyio.to_thread.run_sync(Resting.look, self.path)
            except OSError as error:
                raise LogRefused(self.name, f"it is not there: {error}", "name a log that is there") from error
            db = await self._connect(reading_address(self.path, resting), uri=True)
            try:
                owner = await owner_of(self.name, db)
                await check_pages(self.name, db, self._checked_bytes_max)
            except BaseException as error:
                with anyio.CancelScope(shield=True):
                    await db.close()
                if isinstance(error, sqlite3.Error | LogCorrupt) and await self._moved_on(resting):
                    continue
                raise
            self._reader, self._resting = db, resting
            if resting is None:
                self._watch.begin()
            return owner

    async def _moved_on(self, resting: Resting | None) -> bool:
        return resting is not None and not await anyio.to_thread.run_sync(resting.holds, self.path)

    async def _connect(self, address: str, *, uri: bool = False) -> aiosqlite.Connection:
        return await aiosqlite.connect(address, uri=uri, isolation_level=None, timeout=self._busy_seconds_max)

    # Open.

    async def _fetch(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Sequence[Any]]:
        """Rows by the connection that reads. Where it reads files that rest, they must still rest afterwards: what was
        read while somebody began to write them counts for nothing, and is read again beside that writer.
        """
        if not self._attached:
            return list(await _opened(self._reader).execute_fetchall(sql, parameters))
        async with self._attaching:
            while True:
                if self._reader is None:
                    await self._attach()
                failure: sqlite3.Error | None = None
                try:
                    rows = list(await _opened(self._reader).execute_fetchall(sql, parameters))
                except sqlite3.Error as error:
                    failure = error
                if not await self._moved_on(self._resting):
                    break
                self._reader, behind = None, _opened(self._reader)
                await behind.close()
            if failure:
                raise failure
            return rows

    async def _read_failure(self, after: int, error: sqlite3.Error) -> Exception:
        if self._reader is None or not is_damage(error):
            return read_failure(self.name, after + 1, error)
        return read_failure(self.name, await first_unreadable(self._reader, after), error)

    def _require_files(self) -> None:
        if lost := self._watch.lost():
            raise LogRefused(self.name, lost, _NEXT_STEP)

    async def _leave_transaction(self) -> None:
        """After an error: SQLite has rolled back what failed, and nothing must keep a transaction open around it."""
        writer = self._writer
        if writer is not None and writer.in_transaction:
            await writer.execute_fetchall("ROLLBACK")


def _opened(connection: aiosqlite.Connection | None) -> aiosqlite.Connection:
    if connection is None:
        raise RuntimeError("this log is not open: Engine opens it, or call open()")
    return connection
