"""The ``-wal`` of a log that is written: whether it has become shorter than the writer left it.

A file that is cut while it is open is missed by SQLite no sooner than when it reads what is gone, and most of it
is in memory: commits would be acknowledged behind a gap, and be gone with it when the log is opened again.

The file is opened here, which is safe for a ``-wal``: SQLite has no locks on it that closing it could drop
(https://www.sqlite.org/walformat.html#wal_locks). Its size is asked for by seeking to its end, 0.7 µs. Looking at its
attributes would make the next sync dearer: see `files`.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from millstream.engine.stores.sqlite.connection import runs_no_trigger
from millstream.engine.stores.sqlite.errors import ERRORS, is_damage, text_of
from millstream.engine.stores.sqlite.schema import LAST

__all__ = ["WalSize", "missing_from"]

#: What a gap has in place of a frame's header.
_ZEROS = bytes(24)
#: Of the file, before its first frame.
_HEADER_BYTES = 32


class WalSize:
    """Notices when it has become shorter. That can be right: SQLite's shell may have moved it into the database."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._bytes = 0
        self._frame_bytes = 0
        #: What a crash left may end in zeros: then nothing is known from them.
        self._ends_in_a_frame = False

    def begin(self, database: Path, page_bytes: int) -> None:
        """The database is open, and will be written.

        Args:
            database: its file.
            page_bytes: the size of its pages.

        Raises:
            OSError: it has no ``-wal``, or it can't be read.
        """
        self._file = os.open(f"{os.path.realpath(database)}-wal", os.O_RDONLY)
        self._frame_bytes = len(_ZEROS) + page_bytes
        self.note()

    def note(self) -> None:
        """It is as it should be, as long as it is now. 2 µs.

        Raises:
            OSError: it can't be read.
        """
        if self._file is not None:
            self._bytes = os.lseek(self._file, 0, os.SEEK_END)
            self._ends_in_a_frame = self._last_header() not in (b"", _ZEROS)

    def is_shorter(self) -> bool:
        """Whether it is shorter than it was."""
        return self._file is not None and os.lseek(self._file, 0, os.SEEK_END) < self._bytes

    def has_gap(self) -> bool:
        """Whether it was cut since it was noted, and has been written behind the gap, which is all zeros then.

        The header of the last frame that was there is looked at: no frame's is zeros
        (https://www.sqlite.org/fileformat2.html#wal_file_format). 2 µs. Where it is shorter, which is rare and may be
        right, those of all frames are: 1 ms for 1,000.

        Raises:
            OSError: it can't be read.
        """
        if self.is_shorter():
            return self._has_holes()
        return self._ends_in_a_frame and self._last_header() == _ZEROS

    def _has_holes(self) -> bool:
        if self._file is None:
            return False
        size = os.lseek(self._file, 0, os.SEEK_END)
        return any(self._read(place) == _ZEROS for place in (0, *range(_HEADER_BYTES, size, self._frame_bytes)))

    def _read(self, place: int) -> bytes:
        if self._file is None:
            return b""
        os.lseek(self._file, place, os.SEEK_SET)
        return os.read(self._file, len(_ZEROS))

    def _last_header(self) -> bytes:
        """What lies where the last frame began when it was noted; nothing if it is shorter now."""
        last = self._bytes - self._frame_bytes
        return b"" if last < 0 else self._read(last)

    def end(self) -> None:
        """The database is not open any more."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def missing_from(database: Path, number: int, busy_seconds_max: float) -> str | None:
    """What a log lacks whose ``-wal`` has become shorter: nothing, if that was moved into the database and not cut.

    A cut takes the end, where the last commit was written, and a connection that has nothing in memory misses it.
    Blocks: for the store's thread.

    Args:
        database: its file.
        number: a commit that must be there; 0 where any will do.
        busy_seconds_max: how long to wait for another program's lock.

    Raises:
        sqlite3.Error: nothing can be read now, which says nothing of the file: another program has it locked, or this
            one has as many files open as it may.
    """
    try:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=busy_seconds_max)) as fresh:
            runs_no_trigger(fresh)
            last = fresh.execute(LAST).fetchall()
    except ERRORS as error:
        if not is_damage(error):
            raise
        return text_of(error)
    return None if number == 0 or (last and last[0][0] >= number) else f"commit {number:,} is not there"
