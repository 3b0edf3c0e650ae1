"""The files of a log in SQLite: whether they are still those that were opened, and how to read them without a trace.

Only names and attributes are looked at. No file of a log is opened here: when a process closes a file, the system drops
all of its locks on it, also those of SQLite (https://www.sqlite.org/howtocorrupt.html#posix_close_bug).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["FileWatch", "Resting", "reading_address"]


class FileWatch:
    """Notices when the database or its ``-wal`` is deleted, moved or replaced under a log that is open.

    SQLite does not: it writes on into files that no path names, and all of that is gone when they are closed
    (https://www.sqlite.org/howtocorrupt.html#unlink). A look is two calls of ``stat``, together 4 µs.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [str(path), f"{path}-wal"]
        self._opened: list[tuple[str, int, int]] = []

    def begin(self) -> None:
        """The files are open: what is at their paths now is what they are.

        Raises:
            OSError: one is not there.
        """
        found = [(path, os.stat(path)) for path in self._paths]
        self._opened = [(path, stat.st_ino, stat.st_dev) for path, stat in found]

    def end(self) -> None:
        """The files are not open any more."""
        self._opened = []

    def lost(self) -> str | None:
        """What happened to a file; None while all are where they were, and while none is open."""
        for path, inode, device in self._opened:
            try:
                found = os.stat(path)
            except OSError:
                found = None
            if found is None or found.st_ino != inode or found.st_dev != device:
                return f"{path} was deleted, moved or replaced while it was open"
        return None


class _File(NamedTuple):
    inode: int
    device: int
    size: int
    modified_ns: int


class Resting(NamedTuple):
    """How the files looked when all of the log was in the database file and nobody wrote it."""

    database: _File
    wal: _File | None

    @classmethod
    def look(cls, path: Path) -> Resting | None:
        """None if the ``-wal`` holds something, so that the database file alone is not the log.

        Raises:
            OSError: there is no such file.
        """
        database, wal, journal = os.stat(path), _stat(f"{path}-wal"), _stat(f"{path}-journal")
        if any(beside is not None and beside.st_size for beside in (wal, journal)):
            return None
        return cls(_file(database), None if wal is None else _file(wal))

    def holds(self, path: Path) -> bool:
        """Whether nothing was written since."""
        try:
            return Resting.look(path) == self
        except OSError:
            return False


def reading_address(path: Path, resting: Resting | None) -> str:
    """What to open for reading so that no file is made (https://www.sqlite.org/uri.html#recognized_query_parameters).

    A log that rests is opened as immutable, because SQLite makes a ``-wal`` and a ``-shm`` to read it otherwise, and a
    connection that only reads leaves them behind. Whoever reads so must see that the log still rests after each read.
    """
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if resting else ''}"


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _file(found: os.stat_result) -> _File:
    return _File(found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns)
