"""Snapshots in a SQLite file beside the log: ``bank.db-snapshots``.

A file of its own, because what it holds can be made again: writing megabytes here takes no lock that a commit waits
for, damage here can't reach the log, and whoever wants the room back deletes it while nothing has the log open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import aiosqlite
import anyio.to_thread
import structlog

from penstock.engine.commit import Head
from penstock.engine.snapshots.port import Snapshot

__all__ = ["SqliteSnapshots"]

_log = structlog.get_logger("penstock")

#: "PSTS", so that a file that is not ours is left alone.
_APPLICATION_ID = 0x50535453
_PIECES_AT_ONCE = 16

_SCHEMA = f"""
CREATE TABLE pieces (part TEXT, number INTEGER, at INTEGER, data BLOB NOT NULL, PRIMARY KEY (part, number, at));
CREATE TABLE snapshots (
    part TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    digest BLOB NOT NULL,
    fingerprint TEXT NOT NULL,
    pieces INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    notes BLOB NOT NULL
);
PRAGMA application_id={_APPLICATION_ID};
"""
_COLUMNS = "part, number, position, recorded_at, digest, fingerprint, pieces, checksum, notes"


class SqliteSnapshots:
    """The `SnapshotStore` port on a SQLite file.

    Args:
        path: the file; made when it is opened and not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._db: aiosqlite.Connection | None = None

    async def open(self) -> None:
        """Open or make the file. One that is damaged is renamed to ``…-damaged`` and made anew.

        Raises:
            OSError, sqlite3.Error: the file can't be made, or is a database of something else.
        """
        try:
            self._db = await self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError | sqlite3.NotSupportedError):
                raise  # the folder, the disk: not the file's content
            await anyio.to_thread.run_sync(self._set_aside)
            _log.warning("snapshots_damaged", file=str(self.path), error=repr(error))
            self._db = await self._opened()

    async def latest(self) -> Sequence[Snapshot]:
        rows = await self._open.execute_fetchall(f"SELECT {_COLUMNS} FROM snapshots ORDER BY part")
        return [
            Snapshot(part, Head(number, position, recorded_at, digest), fingerprint, pieces, checksum, notes)
            for part, number, position, recorded_at, digest, fingerprint, pieces, checksum, notes in rows
        ]

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        stop = min(start + _PIECES_AT_ONCE, snapshot.pieces)
        rows = await self._open.execute_fetchall(
            "SELECT data FROM pieces WHERE part = ? AND number = ? AND at >= ? AND at < ? ORDER BY at",
            (snapshot.part, snapshot.head.number, start, stop),
        )
        return [data for (data,) in rows]

    async def add(self, part: str, number: int, index: int, piece: bytes) -> None:
        await self._open.execute_fetchall(
            "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?)", (part, number, index, piece)
        )

    async def finish(self, snapshot: Snapshot) -> None:
        part, head = snapshot.part, snapshot.head
        row = (part, head.number, head.position, head.recorded_at, head.digest, snapshot.fingerprint)
        await self._open.execute_fetchall(
            f"INSERT OR REPLACE INTO snapshots ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, snapshot.pieces, snapshot.checksum, snapshot.notes),
        )
        await self._open.execute_fetchall("DELETE FROM pieces WHERE part = ? AND number <> ?", (part, head.number))
        await self._open.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")

    async def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await db.close()

    @property
    def _open(self) -> aiosqlite.Connection:
        if self._db is None:
            raise RuntimeError(f"snapshots {self.path} are not open")
        return self._db

    async def _opened(self) -> aiosqlite.Connection:
        db = await aiosqlite.connect(self.path, isolation_level=None)
        try:
            ((owner,),) = await db.execute_fetchall("PRAGMA application_id")
            ((objects,),) = await db.execute_fetchall("SELECT count(*) FROM sqlite_master")
            if owner == 0 and objects == 0:
                await db.executescript(f"PRAGMA journal_mode=WAL; BEGIN; {_SCHEMA} COMMIT;")
            elif owner != _APPLICATION_ID:
                raise sqlite3.NotSupportedError(f"{self.path} is not ours, so no snapshots are kept: move it away")
            # A snapshot that is lost with the machine is only a slower opening: no fsync but at checkpoints.
            await db.execute_fetchall("PRAGMA synchronous=NORMAL")
            await db.execute_fetchall(f"SELECT {_COLUMNS} FROM snapshots LIMIT 0")
        except BaseException:
            with anyio.CancelScope(shield=True):
                await db.close()
            raise
        return db

    def _set_aside(self) -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.path.replace(f"{self.path}-damaged")
