"""Locks between processes that the operating system drops when their holder ends, however it ends.

A lock is an exclusive transaction on an empty database of its own, so that readers of what it guards are not disturbed.
Here: taking one. Not here: what each guards (`log`, `snapshots`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import anyio

from millstream.engine.loop.threads import in_thread
from millstream.engine.stores.sqlite.errors import primary_code

__all__ = ["free", "locked"]

#: When a file is closed that was just made, the process loses all of its locks on it, also one taken by another thread.
_MAKING_A_LOCK = threading.Lock()


def locked(path: str, make: Callable[[], None]) -> sqlite3.Connection | None:
    """Take the lock in a file. Closing the connection releases it. None: another one has it. Blocks: in a thread.

    Args:
        path: the file: one for all names that what it guards may have.
        make: makes an empty file there, if there is none.

    Raises:
        sqlite3.Error: it can't be taken.
        Exception: what ``make`` raises.
    """
    with _MAKING_A_LOCK:
        make()
        lock = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            lock.close()
            if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return None
            raise
    return lock


async def free(log: Path, seconds: float) -> None:
    """Wait until no process has a log's lock; it is looked at every so many seconds."""
    while True:
        if await in_thread(lambda: _is_free(f"{os.path.realpath(log)}-lock")):
            return
        await anyio.sleep(seconds)


def _is_free(path: str) -> bool:
    """Whether no process has the lock in a file; it is had for a moment to find out. Blocks: in a thread."""
    if not os.path.exists(path):
        return True
    try:
        lock = locked(path, lambda: None)
    except sqlite3.Error:  # opening the log finds out what it is
        return False
    if lock is None:
        return False
    lock.close()
    return True
