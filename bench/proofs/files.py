"""The files of a log, without the engine: copies as a crash could leave them, and rows as plain sqlite3 reads them."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from millstream.engine.commits.commit import Commit
from millstream.engine.loop.clock import elapsed

__all__ = ["DATABASE", "copy_log", "read_commits", "snapshots_of", "stalled", "wal_of"]

#: What a log is called, in every folder.
DATABASE = "bank.db"

#: The byte of the shared memory's file that is locked by who writes (https://www.sqlite.org/walformat.html#wal_locks).
_WRITE_LOCK = 120
_WRITE_SECONDS_MAX = 10.0

#: What a crash of the machine does not leave: shared memory, and who had the lock.
_FORGOTTEN = ("-shm", "-lock", "-lock-journal")


def wal_of(database: Path) -> Path:
    """The write-ahead log beside a database."""
    return database.with_name(f"{database.name}-wal")


def snapshots_of(log: Path) -> Path:
    """The database that holds a log's snapshots."""
    return log.with_name(f"{log.name}-snapshots")


def copy_log(log: Path, folder: Path) -> Path:
    """Copy a log and its snapshots, as they lie on disk now, to a new folder; its writer must be dead or stopped.

    Returns:
        The copy's path. There is no such file if there was none to copy.
    """
    folder.mkdir(parents=True)
    for original in log.parent.glob(f"{log.name}*"):
        if not original.name.endswith(_FORGOTTEN):
            shutil.copyfile(original, folder / original.name)
    return folder / log.name


@contextmanager
def stalled(log: Path) -> Iterator[None]:
    """Keep all other processes from writing the log meanwhile, as a disk does that has stopped to answer.

    Where no process has a WAL open there is nothing to lock, and nothing is locked. Not done by a connection: the last
    one that is closed would checkpoint the log, and so repair what a crash left.

    Raises:
        TimeoutError: another process has been writing for ten seconds.
    """
    until = elapsed() + _WRITE_SECONDS_MAX
    shared = log.with_name(f"{log.name}-shm")
    if not shared.exists():
        yield
        return
    with shared.open("rb+") as shared_memory:
        while not _locked(shared_memory.fileno()):
            if elapsed() > until:
                raise TimeoutError(f"another process has been writing {log.name} for {_WRITE_SECONDS_MAX:g} s")
        yield


def _locked(shared_memory: int) -> bool:
    try:
        fcntl.lockf(shared_memory, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _WRITE_LOCK)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


def read_commits(log: Path) -> list[Commit]:
    """The rows of a log that no process writes, in order. None where there is no file, or no table in it yet.

    Raises:
        sqlite3.DatabaseError: SQLite can't read it.
    """
    if not log.exists():
        return []
    with closing(sqlite3.connect(log)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'commits'").fetchall():
            return []
        columns = "number, position, recorded_at, CAST(body AS BLOB), digest"
        return [Commit(*row) for row in db.execute(f"SELECT {columns} FROM commits ORDER BY number")]
