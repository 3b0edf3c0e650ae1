"""The files of a log in SQLite: whether they are still those that were opened.

Only names and attributes are looked at. No file of a log is opened here: when a process closes a file, the system drops
all of its locks on it, also those of SQLite (https://www.sqlite.org/howtocorrupt.html#posix_close_bug).
"""

from __future__ import annotations

import os
from pathlib import Path

from millstream.engine.errors import LogRefused
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.sqlite.resting import stat_of

__all__ = ["NEXT_STEP", "FileWatch"]

#: What to do about a file that is lost.
NEXT_STEP = "put that file back, or close the log and open what is there now"

#: Two changes of a folder closer to each other than the file system's clock ticks, 1 to 16 ms, have one time. For so
#: long after a change the files themselves are looked at.
_SETTLE_SECONDS = 0.1


class FileWatch:
    """Notices when the database or its ``-wal`` is deleted, moved or replaced under a log that is open.

    SQLite does not: it writes on into files that no path names, and all of that is gone when they are closed
    (https://www.sqlite.org/howtocorrupt.html#unlink).

    What is looked at each time is the folder: whatever happens to names in it changes its time of modification. That
    costs 5 µs. Looking at the ``-wal`` itself would cost 60: a Linux since 6.13 gives each write after such a look a
    time of its own (https://docs.kernel.org/filesystems/multigrain-ts.html), and the fsync must then store it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = ""
        self._opened: list[tuple[str, int, int]] = []
        self._seen: tuple[int, int, int] | None = None
        self._settled_at = 0.0

    def begin(self) -> None:
        """The files are open: what is at their paths now is what they are.

        Raises:
            OSError: one is not there.
        """
        path = os.path.realpath(self._path)  # where SQLite puts the -wal, too
        found = [(name, os.stat(name)) for name in (path, f"{path}-wal")]
        self._opened = [(name, stat.st_ino, stat.st_dev) for name, stat in found]
        self._folder, self._seen = os.path.dirname(path), None

    @property
    def database(self) -> tuple[int, int] | None:
        """Which file the database is, by inode and device, wherever it is now; None while none is open."""
        return self._opened[0][1:] if self._opened else None

    def end(self) -> None:
        """The files are not open any more."""
        self._opened = []

    def lost(self) -> str | None:
        """What happened to a file; None while all are where they were, and while none is open."""
        if not self._opened:
            return None
        seen = self._look_at_folder()
        if seen != self._seen:
            self._seen, self._settled_at = seen, elapsed() + _SETTLE_SECONDS
        elif seen is not None and elapsed() > self._settled_at:
            return None
        lost = self._look_at_files()
        if lost:
            self._seen = None  # and look again next time, however the folder looks
        return lost

    def require(self, log: str) -> None:
        """That no file is lost.

        Raises:
            LogRefused: one is.
        """
        if lost := self.lost():
            raise LogRefused(log, lost, NEXT_STEP)

    def _look_at_folder(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._folder)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_dev

    def _look_at_files(self) -> str | None:
        for path, inode, device in self._opened:
            found = stat_of(path)
            if found is None or found.st_ino != inode or found.st_dev != device:
                return f"{path} was deleted, moved or replaced while it was open"
        return None
