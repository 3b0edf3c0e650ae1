"""The ``-wal`` of a log that is written: whether it has become shorter than the writer left it.

A file that somebody cuts while it is open is missed by SQLite no sooner than when it reads what is gone, and most of it
is in memory: commits would be acknowledged behind a gap, and be gone with it when the log is opened again.

The file is opened here, which is safe for a ``-wal``: SQLite has no locks on it that closing it could drop
(https://www.sqlite.org/walformat.html#wal_locks). Its size is asked for by seeking to its end, 0.7 µs. Looking at its
attributes would make the next sync dearer: see `files`.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["WalSize"]


class WalSize:
    """Notices when it has become shorter. That can be right: SQLite's shell may have moved it into the database."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._bytes = 0

    def begin(self, database: Path) -> None:
        """The database is open, and will be written.

        Raises:
            OSError: it has no ``-wal``.
        """
        self._file = os.open(f"{os.path.realpath(database)}-wal", os.O_RDONLY)
        self.note()

    def note(self) -> None:
        """It is as it should be, as long as it is now."""
        if self._file is not None:
            self._bytes = os.lseek(self._file, 0, os.SEEK_END)

    def is_shorter(self) -> bool:
        """Whether it is shorter than it was."""
        return self._file is not None and os.lseek(self._file, 0, os.SEEK_END) < self._bytes

    def end(self) -> None:
        """The database is not open any more."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
