"""Snapshots in a SQLite file beside the log: ``bank.db-snapshots``.

A file of its own, because what it holds can be made again: writing megabytes here takes no lock that a commit waits
for, damage here can't reach the log, and an operator who wants the room back deletes it while nothing has the log open.

Each attempt to take a snapshot has a number, and its pieces have ids that begin with it; a row in ``snapshots`` says
that the attempt was finished, so that one row makes a snapshot whole.

Several processes may have the file open, of which one at a time takes snapshots: who has the lock beside it
(``bank.db-snapshots-lock``). If it begins a new file in the place of a damaged one, the others go over to that.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import anyio
import msgspec

from millstream.engine.commits.marks import SNAPSHOTS_APPLICATION_ID
from millstream.engine.loop.threads import in_thread
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer, Observers
from millstream.engine.snapshots.part import Snapshot
from millstream.engine.stores.errors import SnapshotsLocked
from millstream.engine.stores.sqlite.connection import Database, connect
from millstream.engine.stores.sqlite.errors import with_path
from millstream.engine.stores.sqlite.locks import locked
from millstream.engine.stores.sqlite.permissions import OWNER_ONLY, make_like
from millstream.engine.stores.sqlite.resting import QuietFiles, reading_address, stat_of

__all__ = ["SqliteSnapshots"]

_FORMAT = 3
_PIECES_AT_ONCE = 16
_WAL_BYTES_KEPT_MAX = 4 * 1024 * 1024

_COLUMNS = """number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    digest BLOB NOT NULL,
    fingerprint TEXT NOT NULL,
    pieces INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    notes BLOB NOT NULL"""
_TABLES = {
    "pieces": "CREATE TABLE pieces (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "snapshots": f"""CREATE TABLE snapshots (
    attempt INTEGER PRIMARY KEY,
    part TEXT NOT NULL,
    {_COLUMNS}
)""",
}
_SCHEMA = f"""
{";".join(_TABLES.values())};
PRAGMA application_id={SNAPSHOTS_APPLICATION_ID};
PRAGMA user_version={_FORMAT};
"""
#: Two processes may find the file empty at once.
_MAKING = _SCHEMA.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
#: Format 2 kept one snapshot of each part.
_TABLES_OF_2 = {
    **_TABLES,
    "snapshots": f"""CREATE TABLE snapshots (
    part TEXT PRIMARY KEY,
    attempt INTEGER NOT NULL,
    {_COLUMNS}
) WITHOUT ROWID""",
}
_FROM_2 = f"""
BEGIN IMMEDIATE;
ALTER TABLE snapshots RENAME TO snapshots_of_2;
{_TABLES["snapshots"]};
INSERT INTO snapshots
SELECT attempt, part, number, position, recorded_at, digest, fingerprint, pieces, checksum, notes FROM snapshots_of_2;
DROP TABLE snapshots_of_2;
PRAGMA user_version={_FORMAT};
COMMIT;
"""
_AS_MADE = {
    version: {name: " ".join(sql.split()) for name, sql in tables.items()}
    for version, tables in ((2, _TABLES_OF_2), (_FORMAT, _TABLES))
}
_KEPT = """
SELECT part, number, position, recorded_at, digest, fingerprint, pieces, checksum, notes FROM snapshots
ORDER BY part, number DESC, attempt DESC
"""
_PIECES = """
SELECT data FROM pieces, (SELECT max(attempt) << 32 AS first FROM snapshots WHERE checksum = ?)
WHERE id >= first + ? AND id < first + ? ORDER BY id
"""
_LEFT_OVER = "DELETE FROM pieces WHERE id >> 32 NOT IN (SELECT attempt FROM snapshots)"
_LAST_ATTEMPT = """
SELECT max(coalesce((SELECT max(id) >> 32 FROM pieces), 0), coalesce((SELECT max(attempt) FROM snapshots), 0))
"""
_FORGET = "DELETE FROM snapshots WHERE checksum = ? AND attempt != ? RETURNING attempt"
_DROP = "DELETE FROM pieces WHERE id >= ?1 << 32 AND id < (?1 + 1) << 32"

#: What a failed statement raises when something other than the content of the file is at fault.
_NOT_ITS_CONTENT = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_AUTH,
}
_IO_BUT_ITS_CONTENT = {sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}


class SqliteSnapshots:
    """The `SnapshotStore` port on a SQLite file.

    A file that is damaged is renamed to ``…-damaged`` and made anew: when it is opened, and if it shows only later,
    when snapshots are asked for, or the next one is taken.

    Args:
        path: the file; made when it is opened and not there.
        like: the log, whose permissions a file that is made gets. Where there is none, only its owner may read it.
    """

    def __init__(self, path: str | Path, *, like: str | Path | None = None) -> None:
        self.path = Path(path)
        self._like = self.path if like is None else Path(like)
        self._db: Database | None = None
        #: It is open, and has no connection until one is needed.
        self._rests = False
        self._reopening = anyio.Lock()
        #: Statements that are under way, and whether snapshots are taken: then it does not rest.
        self._underway = 0
        self._is_taking = False
        #: Those that are begun and not finished, by part.
        self._attempts: dict[str, int] = {}
        self._last_attempt: int | None = None
        self._damage: Exception | None = None
        self._attached = False
        #: Which file is open, by inode and device.
        self._file: tuple[int, int] | None = None
        self._observer: Observer = Observers()

    def place(self, path: Path, like: Path) -> None:
        """Say by another path where the file is, before it is opened: an absolute one."""
        self.path, self._like = path, like

    async def open(self, observer: Observer | None = None) -> None:
        """Open or make the file.

        Raises:
            OSError, sqlite3.Error: the file can't be made or written, or is a database of something else.
        """
        self._observer = observer or self._observer
        try:
            self._db = await self._opened()
        except (sqlite3.Error, msgspec.ValidationError) as error:
            if not _is_damage(error):
                raise with_path(self.path, error) from error
            await self._start_anew(error)

    async def attach(self) -> None:
        """Read what is there now, also while snapshots are taken: all is read in one transaction, until `close`.

        Where a process begins to write a file that rested, what is read may be torn; its checksum shows that.

        Raises:
            OSError, sqlite3.Error, msgspec.ValidationError: there is no file, or it can't be read.
        """
        resting = await in_thread(QuietFiles.look, self.path)
        db = await connect(reading_address(self.path, resting), uri=True)
        try:
            await _require_ours(self.path, db)
            await db.rows("BEGIN")
            await db.rows(_KEPT)
        except BaseException:
            await db.close()
            raise
        self._db, self._attached = db, True

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        lock = await in_thread(self._take_lock)
        if lock is None:
            raise SnapshotsLocked(str(self._like))
        try:
            self._attempts.clear()
            self._last_attempt = None  # another process may have made some meanwhile
            self._is_taking = True
            yield
        finally:
            self._is_taking = False
            lock.close()

    def _take_lock(self) -> sqlite3.Connection | None:
        path = f"{os.path.realpath(self.path)}-lock"
        try:
            return locked(path, lambda: make_like(path, self._like, OWNER_ONLY))
        except sqlite3.Error as error:
            raise with_path(path, error) from error

    async def kept(self) -> Sequence[Snapshot]:
        try:
            await self._go_over()
            rows = await self._all(_KEPT)
            return [_snapshot(row) for row in rows]
        except (sqlite3.Error, msgspec.ValidationError) as error:
            if self._attached:
                raise
            if not _is_damage(error):
                raise with_path(self.path, error) from error
            await self._start_anew(error)
            return []

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        stop = min(start + _PIECES_AT_ONCE, snapshot.pieces)
        async with self._noticing_damage():
            rows = await self._all(_PIECES, snapshot.checksum, start, stop)
        return [data for (data,) in takewhile(lambda row: type(row[0]) is bytes, rows)]

    async def add(self, part: str, index: int, piece: bytes) -> None:
        if index == 0:
            await self._begin(part)
        async with self._noticing_damage():
            await self._all("INSERT INTO pieces VALUES (?, ?)", (self._attempts[part] << 32) + index, piece)

    async def finish(self, snapshot: Snapshot) -> None:
        part, head = snapshot.part, snapshot.head
        if not snapshot.pieces:
            await self._begin(part)
        attempt = self._attempts.pop(part)
        if _file_at(self.path) != self._file:
            raise FileNotFoundError(f"{self.path} was deleted or replaced while it was written")
        row = (attempt, part, head.number, head.position, head.recorded_at, head.digest, snapshot.fingerprint)
        async with self._noticing_damage():
            await self._all(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(*row, snapshot.pieces, snapshot.checksum, snapshot.notes),
            )
            await self._drop(snapshot, but=attempt)
            await self._all("PRAGMA wal_checkpoint(PASSIVE)")

    async def drop(self, snapshots: Iterable[Snapshot]) -> None:
        async with self._noticing_damage():
            for each in snapshots:
                await self._drop(each)

    async def _drop(self, snapshot: Snapshot, but: int = 0) -> None:
        for (attempt,) in await self._all(_FORGET, snapshot.checksum, but):
            await self._all(_DROP, attempt)

    async def rest(self) -> None:
        if self._db is not None and not (self._attached or self._is_taking or self._underway):
            db, self._db, self._rests = self._db, None, True
            await to_the_end(db.close())

    def doubt(self, problem: str) -> None:
        self._damage = ValueError(problem)

    async def close(self) -> None:
        db, self._db, self._rests = self._db, None, False
        self._attempts.clear()
        self._damage = self._last_attempt = None
        self._attached = False
        if db is not None:
            await db.close()

    async def _go_over(self) -> None:
        """If another process that took snapshots has begun a new file, use that."""
        if self._db is not None and not self._attached and _file_at(self.path) != self._file:
            with anyio.CancelScope(shield=True):
                await self.close()
                self._db = await self._opened()

    async def _begin(self, part: str) -> None:
        if self._damage is not None:
            await self._start_anew(self._damage)
        left = self._attempts.pop(part, None)
        async with self._noticing_damage():
            if self._last_attempt is None:
                await self._all(_LEFT_OVER)  # of a crash, also of parts that are no more
                ((self._last_attempt,),) = await self._all(_LAST_ATTEMPT)
            elif left is not None:
                await self._all(_DROP, left)
        self._last_attempt += 1
        self._attempts[part] = self._last_attempt

    async def _all(self, statement: str, *values: Any) -> list[Any]:
        self._underway += 1
        try:
            if self._rests:
                async with self._reopening:
                    await self._wake()
            if self._db is None:
                raise RuntimeError(f"snapshots {self.path} are not open")
            return await self._db.rows(statement, values)
        finally:
            self._underway -= 1

    async def _wake(self) -> None:
        if self._rests:
            with anyio.CancelScope(shield=True):
                self._db = await self._opened()
                self._rests = False

    @asynccontextmanager
    async def _noticing_damage(self) -> AsyncIterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_damage(error):
                self._damage = error
                raise
            raise with_path(self.path, error) from error

    async def _start_anew(self, error: Exception) -> None:
        """Set the file aside and go on with an empty one."""
        with anyio.CancelScope(shield=True):
            await self.close()
            await in_thread(self._set_aside)
            self._observer.snapshots_damaged(file=str(self.path), error=error)
            self._db = await self._opened()

    async def _opened(self) -> Database:
        await in_thread(make_like, self.path, self._like, OWNER_ONLY)
        db = await connect(self.path)
        try:
            if await _is_empty(db):
                await db.script(f"PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; {_MAKING} COMMIT;")
            elif await _require_ours(self.path, db) != _FORMAT:
                await db.script(_FROM_2)
            # A snapshot that is lost with the machine is only a slower opening: no fsync but at checkpoints.
            await db.rows("PRAGMA synchronous=NORMAL")
            await db.rows(f"PRAGMA journal_size_limit={_WAL_BYTES_KEPT_MAX}")
            await db.rows(_KEPT)
        except BaseException:
            await db.close()
            raise
        self._file = _file_at(self.path)
        return db

    def _set_aside(self) -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.path.replace(f"{self.path}-damaged")


def _file_at(path: Path) -> tuple[int, int] | None:
    found = stat_of(str(path))
    return None if found is None else (found.st_ino, found.st_dev)


async def _is_empty(db: Database) -> bool:
    ((owner,),) = await db.rows("PRAGMA application_id")
    return bool(owner == 0 and not await db.rows("SELECT 1 FROM sqlite_master LIMIT 1"))


async def _require_ours(path: Path, db: Database) -> int:
    """The format of a file."""
    ((owner,),) = await db.rows("PRAGMA application_id")
    ((version,),) = await db.rows("PRAGMA user_version")
    if owner != SNAPSHOTS_APPLICATION_ID:
        raise FileExistsError(f"{path} is a database of something else: move it away to have snapshots")
    if version not in _AS_MADE:
        raise msgspec.ValidationError(f"it has format {version}, and not {_FORMAT}")
    schema = await db.rows("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat_' LIMIT 100")
    if {name: " ".join(str(sql).split()) for name, sql in schema} != _AS_MADE[version]:
        raise msgspec.ValidationError("its schema is not what millstream made")
    return int(version)


def _snapshot(row: Sequence[Any]) -> Snapshot:
    """The snapshot in a row, its values checked: in a damaged file a column may hold anything."""
    part, number, position, recorded_at, digest, *rest = row
    head = {"number": number, "position": position, "recorded_at": recorded_at, "digest": digest}
    values = dict(zip(("fingerprint", "pieces", "checksum", "notes"), rest, strict=True))
    return msgspec.convert({"part": part, "head": head, **values}, Snapshot)


def _is_damage(error: Exception) -> bool:
    """Whether the content of the file is at fault: it will be so tomorrow."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.NotSupportedError):
        return False
    code = getattr(error, "sqlite_errorcode", None) or 0
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return code in _IO_BUT_ITS_CONTENT
    return code & 0xFF not in _NOT_ITS_CONTENT
