"""What went wrong at a database: is it the application's, or may it be over later?"""

from __future__ import annotations

import sqlite3

from sqlalchemy import exc

from millstream.engine.read.storage import StorageAway

__all__ = ["judged"]

_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
#: Classes of PostgreSQL's SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html): connection,
#: invalid state as in a read-only transaction, rollback, resources, not in the state for it, operator.
_SQLSTATE_AWAY = ("08", "25", "40", "53", "55", "57")


def judged(error: Exception) -> Exception:
    """The same error; or `StorageAway`, if the same statement may succeed later."""
    if isinstance(error, OSError | exc.TimeoutError):
        return StorageAway(_said(error))
    if not isinstance(error, exc.DBAPIError):
        return error
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        is_away = (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_AWAY
    else:
        state = getattr(cause, "sqlstate", None)
        has_no_state = state is None and isinstance(error, exc.OperationalError | exc.InterfaceError)
        is_away = has_no_state or (isinstance(state, str) and state[:2] in _SQLSTATE_AWAY)
    return StorageAway(_said(cause or error)) if is_away or error.connection_invalidated else error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or repr(error)
