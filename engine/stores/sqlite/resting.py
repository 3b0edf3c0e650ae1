"""Reading a SQLite database beside its writer, or one that may begin to write, without leaving a trace.

Here: how its files look while no process writes, what to open then, and what to do about the ``-wal`` before it is
shown. Not here: whose database it is (`log`, `snapshots`).

No file that SQLite locks is opened here: when a process closes a file, the system drops all of its locks on it, also
those of SQLite (https://www.sqlite.org/howtocorrupt.html#posix_close_bug). It locks the database and the ``-shm``, and
never the ``-wal``.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from millstream.engine.stores.sqlite.permissions import OWNER_ONLY, make_like

__all__ = ["QuietFiles", "lacking_room", "reading_address", "stat_of", "sync_wal"]

#: What the ``-shm`` has for so many frames of a ``-wal`` whose pages have 4 kB
#: (https://www.sqlite.org/walformat.html#the_wal_index_file_format), and a page for the lock.
_INDEX_BYTES = 32 * 1024
_INDEXED_BYTES = 4_062 * (4_096 + 24)
_LOCK_BYTES = 4_096


class _File(NamedTuple):
    inode: int
    device: int
    size: int
    modified_ns: int


class QuietFiles(NamedTuple):
    """How the files looked when everything was in the database file and no process wrote it."""

    database: _File
    wal: _File | None

    @classmethod
    def look(cls, path: Path) -> QuietFiles | None:
        """None if the ``-wal`` holds something, so that the database file alone is not everything.

        Raises:
            OSError: there is no such file.
        """
        real = os.path.realpath(path)  # where SQLite puts the others, too
        database, wal, journal = os.stat(real), stat_of(f"{real}-wal"), stat_of(f"{real}-journal")
        if any(beside is not None and beside.st_size for beside in (wal, journal)):
            return None
        return cls(_file(database), None if wal is None else _file(wal))

    @property
    def file(self) -> tuple[int, int]:
        """Which file the database is, by inode and device."""
        return self.database[:2]

    def holds(self, path: Path) -> bool:
        """Whether nothing was written since."""
        try:
            return QuietFiles.look(path) == self
        except OSError:
            return False


def reading_address(path: Path, resting: QuietFiles | None) -> str:
    """What to open for reading so that no file is made (https://www.sqlite.org/uri.html#recognized_query_parameters).

    One that rests is opened as immutable, because SQLite makes a ``-wal`` and a ``-shm`` to read it otherwise, and
    a connection that only reads leaves them behind. Such a reader must see that it still rests after each read.

    On a full disk another process's ``-shm`` is used, and none is written: SQLite makes one in memory where no process
    has the database open (https://www.sqlite.org/wal.html#read_only_databases). Writing it ends the process (SIGBUS).
    """
    if resting is not None:
        return f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    if not lacking_room(path):
        return f"{path.absolute().as_uri()}?mode=ro"
    with suppress(OSError):  # its name takes no room; where even that can't be made, SQLite says so
        make_like(f"{os.path.realpath(path)}-shm", path, OWNER_ONLY)
    return f"{path.absolute().as_uri()}?mode=ro&readonly_shm=1"


def lacking_room(path: Path) -> str | None:
    """That the disk has no room for what opening the file takes, beside it, in words; None where it has."""
    real = os.path.realpath(path)
    wal = stat_of(f"{real}-wal")
    needed = _INDEX_BYTES * (1 + (0 if wal is None else wal.st_size // _INDEXED_BYTES)) + _LOCK_BYTES
    try:
        free = shutil.disk_usage(os.path.dirname(real)).free
    except OSError:
        return None
    if free >= needed:
        return None
    return f"the disk is full: it has {free:,} bytes left, and opening the log to write takes {needed:,} beside it"


def sync_wal(path: Path) -> None:
    """Make all that is in the ``-wal`` durable.

    A commit is shown by SQLite when its frames are synced: in ``walFrames`` the sync comes before the shared index
    names them (https://sqlite.org/src/file/src/wal.c). But that index goes with the last process that has the
    database open, and the next one makes it from all whole frames of the file, also those that a crash left unsynced.

    Raises:
        OSError: it is not there, or the disk failed.
    """
    wal = os.open(f"{os.path.realpath(path)}-wal", os.O_RDONLY)
    try:
        os.fsync(wal)
    finally:
        os.close(wal)


def stat_of(path: str) -> os.stat_result | None:
    """A file's attributes; None if it can't be found."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _file(found: os.stat_result) -> _File:
    return _File(found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns)
