"""What an error of SQLite means for a log. Pure functions over result codes (https://www.sqlite.org/rescode.html).

Here: whether a failed statement may yet come back, and what a failed read says about the file. Not here: what is done
about it.

How a commit reaches the disk in WAL mode decides it (https://www.sqlite.org/fileformat2.html#the_write_ahead_log):

    1. locks are taken, pages are read and changed in memory
    2. each changed page is written to the ``-wal`` file, the last one marked as the commit
    3. the ``-wal`` file is synced
    4. the pages are entered in the shared index, the ``-shm`` file, from which connections learn of the commit

A failure in 1 or 2 leaves no commit: the mark comes last, and a frame counts only if it is whole by its checksum.
After a failure in 3 or 4 the file holds the whole commit although no connection shows it. When the index is made anew
from the file, after a crash, it would be there; so its outcome is not known until something is written over it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TypeVar

from millstream.engine.errors import LogCorrupt, LogRefused

__all__ = [
    "ERRORS",
    "MAKE_ROOM",
    "WRITABLE",
    "is_damage",
    "no_room",
    "nothing_written",
    "primary_code",
    "refusal",
    "text_of",
    "with_path",
]

E = TypeVar("E", bound=Exception)

#: What to do about a file that is read-only.
WRITABLE = "make the file, and its -wal if there is one, writable; or attach to read it"

#: What to do about a full disk.
MAKE_ROOM = "make room, or attach to read it, which takes none"

_FULL = "the disk is full, or a quota or a limit on the size of files is reached"

#: What the driver raises: its own errors, and this one in place of them where SQLite's text quotes damaged bytes.
ERRORS = (sqlite3.Error, UnicodeDecodeError)

#: Whatever their extended code: raised in 1 or 2. Disk full is one of them, because 3 reports it as ``IOERR_FSYNC``
#: and 4, where the index must grow, as ``IOERR_SHMSIZE``.
_BEFORE_THE_COMMIT = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,  # our own refusal to run a trigger: see `connection`
}
#: Of the I/O errors, those of reading, writing and locking belong to 1 and 2. Not among them, besides ``FSYNC``: the
#: index's ``SHMMAP`` and ``SHMSIZE`` and ``NOMEM``, which come in 4, and ``SQLITE_IOERR`` without more.
_IO_BEFORE_THE_COMMIT = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSTAT,
    sqlite3.SQLITE_IOERR_ACCESS,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMLOCK,
}
#: What a read raises when the file is at fault: it will raise the same tomorrow. 0 is the driver's own, for text that
#: is not UTF-8; SQLITE_ERROR is a table or column that is gone; SQLITE_INTERRUPT is our own bound: see `connection`.
_DAMAGED = {
    0,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_INTERRUPT,
}
_IO_DAMAGED = {sqlite3.SQLITE_IOERR_SHORT_READ}


def nothing_written(error: Exception) -> bool:
    """Whether a statement that failed with this has certainly changed nothing, now and after a crash.

    What the driver raises by itself, without a code, it raises before SQLite sees the statement: a connection that is
    closed, a value that can't be bound.
    """
    if isinstance(error, ValueError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return not isinstance(error, UnicodeDecodeError)
    return primary_code(error) in _BEFORE_THE_COMMIT or _extended_code(error) in _IO_BEFORE_THE_COMMIT


def no_room(error: Exception) -> bool:
    """Whether the file system would take no more: it is full, or a quota or a limit on the file's size is reached."""
    return primary_code(error) == sqlite3.SQLITE_FULL or _extended_code(error) == sqlite3.SQLITE_IOERR_WRITE


def is_damage(error: Exception) -> bool:
    """Whether a read that failed with this found the file itself at fault."""
    return primary_code(error) in _DAMAGED or _extended_code(error) in _IO_DAMAGED


def refusal(log: str, error: Exception) -> Exception:
    """What opening or attaching raises instead of SQLite's error."""
    code = primary_code(error)
    if _extended_code(error) == sqlite3.SQLITE_READONLY_ROLLBACK:
        return LogRefused(
            log, "a crash left a change half done, which only a writer can undo", "open it with its engine"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return LogRefused(log, "it is not a database", "name another file")
    if code == sqlite3.SQLITE_READONLY:
        return LogRefused(log, f"it can't be written: {error}", WRITABLE)
    if _no_room_to_open(error):
        problem = f"{_FULL}: {error}"
        return LogRefused(log, problem, MAKE_ROOM)
    if is_damage(error):
        return LogCorrupt(log, 1, text_of(error))
    return LogRefused(log, f"SQLite can't open it: {error}", "see that file and folder can be written")


def with_path(path: str | Path, error: E) -> E:
    """The same error of SQLite, or of a check, with the file that it is about: theirs name none."""
    why = f": {_FULL}" if _no_room_to_open(error) else ""
    named = type(error)(f"{path}: {error}{why}")
    if isinstance(named, sqlite3.Error):
        named.sqlite_errorcode = _extended_code(error)
    return named


def text_of(error: BaseException) -> str:
    """What SQLite says, or what our own bounds on it mean."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_INTERRUPT:
        return "reading it takes more steps than a log of its size can need"
    if code == sqlite3.SQLITE_AUTH:
        return "its schema holds a trigger, which millstream did not make and does not run"
    return str(error)


def primary_code(error: BaseException) -> int:
    """SQLite's primary result code: the low byte of the extended one. 0 where the driver itself raised."""
    return _extended_code(error) & 0xFF


def _no_room_to_open(error: Exception) -> bool:
    return no_room(error) or _extended_code(error) == sqlite3.SQLITE_IOERR_SHMSIZE


def _extended_code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", None) or 0
