"""What the program's exit codes mean, and which error gets which."""

from __future__ import annotations

import sqlite3
from enum import IntEnum

from millstream.engine.errors import (
    AuthorError,
    CallerError,
    CommandIdReused,
    CommitsLost,
    LogCorrupt,
    LogLocked,
    LogRefused,
    NotAuthenticated,
    NotPermitted,
    Rejected,
    RemoteError,
    StorageError,
    TryAgainLater,
    VersionConflict,
)
from millstream.engine.upkeep import BackupFailed

__all__ = ["MEANINGS", "ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """How the program ended. Scripts may rely on these."""

    FINE = 0
    DAMAGED = 1
    USAGE = 2
    NOT_OPENED = 3
    STORE_FAILED = 4
    APPLICATION = 5
    REFUSED = 6
    TRY_LATER = 7
    BUG = 70
    INTERRUPTED = 130
    READER_GONE = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.FINE: "it is done, and all was well",
    ExitCode.DAMAGED: "a log or an export is damaged, or a check found something",
    ExitCode.USAGE: "the arguments are wrong, or the extra cli is not installed",
    ExitCode.NOT_OPENED: "something can't be opened: it is not there, not ours, locked, or there already",
    ExitCode.STORE_FAILED: "the store or the file system failed",
    ExitCode.APPLICATION: "the application can't be loaded, contradicts itself, or failed",
    ExitCode.REFUSED: "the application's rules, or the server, said no",
    ExitCode.TRY_LATER: "not now: the server can't be reached, is not ready, or the time is over",
    ExitCode.BUG: "a bug in millstream; the traceback is on standard error",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.READER_GONE: "the reader of the output went away",
}

#: The first one that an error is an instance of counts.
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (LogCorrupt, ExitCode.DAMAGED),
    (CommitsLost, ExitCode.DAMAGED),
    (BackupFailed, ExitCode.STORE_FAILED),
    (LogRefused, ExitCode.NOT_OPENED),
    (LogLocked, ExitCode.NOT_OPENED),
    (StorageError, ExitCode.STORE_FAILED),
    (TryAgainLater, ExitCode.TRY_LATER),
    (Rejected, ExitCode.REFUSED),
    (VersionConflict, ExitCode.REFUSED),
    (CommandIdReused, ExitCode.REFUSED),
    (NotAuthenticated, ExitCode.REFUSED),
    (NotPermitted, ExitCode.REFUSED),
    (CallerError, ExitCode.USAGE),
    (AuthorError, ExitCode.APPLICATION),
    (RemoteError, ExitCode.APPLICATION),
    (BrokenPipeError, ExitCode.READER_GONE),
    (OSError, ExitCode.STORE_FAILED),
    (sqlite3.Error, ExitCode.STORE_FAILED),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def exit_code_of(error: BaseException) -> ExitCode | None:
    """The exit code for an error; None for an unexpected one."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)
