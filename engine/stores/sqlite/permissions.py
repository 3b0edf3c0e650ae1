"""Who may read what a log leaves on the disk: its owner, unless its permissions say otherwise.

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


def make_with(path: str | Path, permissions: int, owner: tuple[int, int] | None = None) -> None:
    """Make an empty file, and give it these permissions. One that is there already keeps its own.

    Args:
        path: the file.
        permissions: its mode.
        owner: the user and the group that it is to be of, where this process may give files away: root's.

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
        if owner is not None and hasattr(os, "geteuid") and os.geteuid() == 0:
            os.fchown(handle, *owner)
    finally:
        os.close(handle)


def make_like(path: str | Path, log: Path, permissions: int) -> None:
    """Make an empty file beside a log, with the log's permissions; with ``permissions`` where there is no log yet.

    Made by root it is the log's owner's, as SQLite does it with its own files: what may write the log may open it.

    Raises:
        OSError: it can't be made.
    """
    owner = None
    try:
        there = os.stat(log)
    except FileNotFoundError:
        found = permissions
    else:
        found, owner = stat.S_IMODE(there.st_mode), (there.st_uid, there.st_gid)
    make_with(path, found & 0o666 | OWNER_ONLY, owner)
