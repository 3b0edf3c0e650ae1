"""Reading a SQLite database beside whoever writes it, or may begin to, without leaving a trace.

Here: how its files look while nobody writes, what to open then, and what to do about the ``-wal`` before its content is
shown. Not here: whose database it is (`log`, `snapshots`).

No file that SQLite locks is opened here: when a process closes a file, the system drops all of its locks on it, also
those of SQLite (https://www.sqlite.org/howtocorrupt.html#posix_close_bug). It locks the database and the ``-shm``, and
never the ``-wal``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["QuietFiles", "reading_address", "stat_of", "sync_wal"]


class _File(NamedTuple):
    inode: int
    device: int
    size: int
    modified_ns: int


class QuietFiles(NamedTuple):
    """How the files looked when everything was in the database file and nobody wrote it."""

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
    a connection that only reads leaves them behind. Whoever reads so must see that it still rests after each read.
    """
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if resting else ''}"


def sync_wal(path: Path) -> None:
    """Make all that is in the ``-wal`` durable.

    A commit is shown by SQLite when its frames are synced: in ``walFrames`` the sync comes before the shared index is
    told of them (https://sqlite.org/src/file/src/wal.c). But that index goes with the last process that has the
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
