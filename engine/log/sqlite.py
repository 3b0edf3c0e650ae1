"""The log in one SQLite file: the default store.

One commit is one row, written by one statement in its own transaction, with one fsync: ``journal_mode=WAL`` and
``synchronous=FULL`` (https://www.sqlite.org/pragma.html#pragma_synchronous). Row-at-a-time inserts from a worker
thread collapse a hundredfold under a busy event loop, because the interpreter lock changes hands at every row.

Three connections: one appends; one reads, so that a view that catches up never delays a commit; one holds the lock.
The lock is an exclusive transaction on an empty database beside the log (``bank.db-lock``): the operating system drops
it when the process ends, however it ends, and readers of the log itself are not disturbed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import aiosqlite
import anyio.to_thread

from penstock.engine.commit import FORMAT, Commit, Head, events_in
from penstock.engine.errors import CommitFailed, Fenced, LogCorrupt, LogLocked, LogRefused

__all__ = ["APPLICATION_ID", "SqliteLog"]

#: Written into the file's header, so that ``file bank.db`` and we can tell whose it is: "PSTK".
APPLICATION_ID = 0x5053544B

_SQLITE_MIN = (3, 38, 0)  # RETURNING, and JSON functions that are always there
_CHECKPOINT_PAGES = 4_000
_WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024
_BUSY_SECONDS_MAX = 5.0
_ROWS_MAX = 10_000

#: Errors after which SQLite has certainly rolled the statement back (https://www.sqlite.org/rescode.html).
_NOTHING_WRITTEN = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CANTOPEN,
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE commits (
    number INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    body TEXT NOT NULL,
    digest BLOB NOT NULL
);
CREATE VIEW events AS
SELECT
    commits.position + coalesce(json_extract(command.value, '$.offset'), 0) + event.key AS position,
    commits.number AS number,
    commits.recorded_at AS recorded_at,
    json_extract(event.value, '$.type') AS type,
    CASE
        WHEN json_type(command.value, '$.keys') IS NULL THEN json_extract(command.value, '$.key')
        ELSE json_extract(command.value, '$.keys[' || event.key || ']')
    END AS key,
    event.value AS data,
    json_extract(command.value, '$.id') AS command_id
FROM commits, json_each(commits.body) AS command, json_each(command.value, '$.events') AS event;
"""

_APPEND = """
INSERT INTO commits (number, position, recorded_at, body, digest)
SELECT ?1, ?2, ?3, CAST(?4 AS TEXT), ?5
WHERE ?1 = (SELECT coalesce(max(number), 0) + 1 FROM commits)
RETURNING number
"""

_COLUMNS = "number, position, recorded_at, CAST(body AS BLOB), digest"
_READ = f"SELECT {_COLUMNS} FROM commits WHERE number > ? ORDER BY number LIMIT ?"
_LAST = f"SELECT {_COLUMNS} FROM commits ORDER BY number DESC LIMIT 1"


class SqliteLog:
    """The `Log` port on a SQLite file.

    Args:
        path: the file; made when it is not there. Beside it lie ``-wal`` and ``-shm`` while it is open, and ``-lock``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: sqlite3.Connection | None = None
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        #: How many rows the next read asks for: as many as fitted into the last one's bytes.
        self._rows = 64

    @property
    def name(self) -> str:
        return str(self.path)

    async def open(self, application: str) -> None:
        if sqlite3.sqlite_version_info < _SQLITE_MIN:
            wanted = ".".join(map(str, _SQLITE_MIN))
            raise LogRefused(
                self.name,
                f"this Python has SQLite {sqlite3.sqlite_version}",
                f"use a Python with SQLite {wanted} or later",
            )
        if not self.path.parent.is_dir():
            raise LogRefused(self.name, f"there is no folder {str(self.path.parent)!r}", "make the folder first")
        self._lock = await anyio.to_thread.run_sync(self._take_lock)
        try:
            self._writer = await aiosqlite.connect(self.path, isolation_level=None, timeout=_BUSY_SECONDS_MAX)
            await self._recognise(self._writer, application)
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
                f"journal_size_limit={_WAL_BYTES_KEPT_MAX}",
            ):
                await self._writer.execute_fetchall(f"PRAGMA {pragma}")
            self._reader = await aiosqlite.connect(self.path, isolation_level=None, timeout=_BUSY_SECONDS_MAX)
            await self._reader.execute_fetchall("PRAGMA query_only=1")
        except sqlite3.DatabaseError as error:
            await self.close()
            raise self._refusal(error) from error
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.close()
            raise

    async def append(self, commit: Commit) -> None:
        row = (commit.number, commit.position, commit.recorded_at, commit.body, commit.digest)
        try:
            written = await _open(self._writer).execute_fetchall(_APPEND, row)
        except sqlite3.Error as error:
            if _primary_code(error) in _NOTHING_WRITTEN:
                raise CommitFailed(commit.number, str(error)) from error
            raise
        if not written:
            raise Fenced(self.name, commit.number, (await self.head()).number)

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        try:
            rows = await _open(self._reader).execute_fetchall(_READ, (after, self._rows))
        except sqlite3.DatabaseError as error:
            if _primary_code(error) in _DAMAGED:
                raise LogCorrupt(self.name, await self._first_unreadable(after), str(error)) from error
            raise
        page = [Commit(*row) for row in rows]
        if page:
            mean = max(1, sum(len(commit.body) for commit in page) // len(page))
            self._rows = max(1, min(_ROWS_MAX, bytes_max // mean, 2 * self._rows))
        return page

    async def head(self) -> Head:
        rows = list(await _open(self._reader).execute_fetchall(_LAST))
        if not rows:
            return Head()
        number, position, recorded_at, body, digest = rows[0]
        return Head(number, position - 1 + events_in(body), recorded_at, digest)

    async def close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                await connection.close()
        self._reader = self._writer = None
        if self._lock is not None:
            await anyio.to_thread.run_sync(self._lock.close)
            self._lock = None

    def _take_lock(self) -> sqlite3.Connection:
        try:
            lock = sqlite3.connect(f"{self.path}-lock", isolation_level=None, timeout=0, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise LogRefused(self.name, f"its lock can't be made: {error}", "the folder must be writable") from error
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise LogLocked(self.name) from error
            raise LogRefused(self.name, f"its lock can't be taken: {error}", "the folder must be writable") from error
        return lock

    async def _recognise(self, db: aiosqlite.Connection, application: str) -> None:
        """Make a new log, or see that the file is a log of ours, of this application, in a format that we read."""
        ((owner,),) = await db.execute_fetchall("PRAGMA application_id")
        ((version,),) = await db.execute_fetchall("PRAGMA user_version")
        ((objects,),) = await db.execute_fetchall("SELECT count(*) FROM sqlite_master")
        if owner == 0 and objects == 0:
            await self._create(db, application)
            return
        if owner != APPLICATION_ID:
            raise LogRefused(self.name, "it is a database of something else", "name another file")
        if version > FORMAT:
            raise LogRefused(
                self.name, f"it has format {version}, this penstock reads up to {FORMAT}", "update penstock to open it"
            )
        rows = list(await db.execute_fetchall("SELECT value FROM meta WHERE name = 'application'"))
        if not rows:
            raise LogCorrupt(self.name, 1, "its meta table names no application")
        if rows[0][0] != application:
            raise LogRefused(
                self.name,
                f"it belongs to application {rows[0][0]!r}, not to {application!r}",
                "give App(name=…) the name that the log has, or open another log",
            )

    async def _create(self, db: aiosqlite.Connection, application: str) -> None:
        """One transaction, so that a crash leaves an empty file or a whole log."""
        await db.execute_fetchall("PRAGMA synchronous=EXTRA")
        await db.execute_fetchall("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            await db.execute_fetchall(statement)
        await db.execute_fetchall(
            "INSERT INTO meta VALUES ('application', ?), ('format', ?)", (application, str(FORMAT))
        )
        await db.execute_fetchall(f"PRAGMA application_id={APPLICATION_ID}")
        await db.execute_fetchall(f"PRAGMA user_version={FORMAT}")
        await db.execute_fetchall("COMMIT")

    async def _first_unreadable(self, after: int) -> int:
        """The number of the first commit after ``after`` that can't be read, found one row at a time."""
        while True:
            try:
                rows = list(await _open(self._reader).execute_fetchall(_READ, (after, 1)))
            except sqlite3.DatabaseError:
                return after + 1
            if not rows:
                return after + 1
            after = rows[0][0]

    def _refusal(self, error: sqlite3.DatabaseError) -> Exception:
        code = _primary_code(error)
        if code == sqlite3.SQLITE_NOTADB:
            return LogRefused(self.name, "it is not a database", "name another file")
        if code == sqlite3.SQLITE_CORRUPT:
            return LogCorrupt(self.name, 1, str(error))
        return LogRefused(self.name, f"SQLite can't open it: {error}", "see that file and folder can be written")


def _open(connection: aiosqlite.Connection | None) -> aiosqlite.Connection:
    if connection is None:
        raise RuntimeError("this log is not open: Engine opens it, or call open()")
    return connection


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the low byte of the extended one. 0 where the driver itself raised."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
