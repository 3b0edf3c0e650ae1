"""Who may read what a log leaves on the disk: its owner, unless somebody said otherwise.

Here: making files with permissions of their own, whatever the umask. SQLite gives ``-wal``, ``-shm`` and ``-journal``
those of their database. Not here: what is in the files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["OWNER_ONLY", "make_like", "make_with"]

#: What a new log gets.
OWNER_ONLY = 0o600


def make_with(path: str | Path, permissions: int) -> None:
    """Make an empty file, and give it these permissions. One that is there already keeps its own.

    Nothing of this process may have a file at this path open with a lock of SQLite's: see `resting`.

    Raises:
        OSError: it can't be made.
    """
    real = os.path.realpath(path)
    try:
        handle = os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions & OWNER_ONLY)
    except FileExistsError:
        return
    try:
        if hasattr(os, "fchmod"):  # not on every Windows, where only its owner reads it anyway
            os.fchmod(handle, permissions)
    finally:
        os.close(handle)


def make_like(path: str | Path, log: Path, permissions: int) -> None:
    """Make an empty file beside a log, with the log's permissions; with ``permissions`` where there is no log yet.

    Raises:
        OSError: it can't be made.
    """
    try:
        found = stat.S_IMODE(os.stat(log).st_mode)
    except FileNotFoundError:
        found = permissions
    make_with(path, found & 0o666 | OWNER_ONLY)
