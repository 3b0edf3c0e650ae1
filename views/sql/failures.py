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
#: rollback, resources, operator, system.
_SQLSTATE_AWAY = ("08", "40", "53", "57", "58")
#: And codes of other classes: a transaction that may only read, as on a standby, or was idle for too long; an object in
#: use, a lock that was not available. What else is in theirs, as a VACUUM in a transaction, never succeeds.
_SQLSTATES_AWAY = frozenset(("25006", "25P03", "25P04", "55006", "55P03"))


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
        is_away = has_no_state or (isinstance(state, str) and (state[:2] in _SQLSTATE_AWAY or state in _SQLSTATES_AWAY))
    return StorageAway(_said(cause or error)) if is_away or error.connection_invalidated else error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or repr(error)
