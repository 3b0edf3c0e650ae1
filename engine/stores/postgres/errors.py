"""What an error of asyncpg means for a log. Pure functions over SQLSTATE
(https://www.postgresql.org/docs/current/errcodes-appendix.html).

Here: whether a statement that failed may have happened, and what opening makes of an error. Not here: what is done.

    08…, 57P…, a broken or closed connection, a timeout      not known
    23505 at an append                                       another writer's commit has that number
    any other SQLSTATE                                       it has certainly not happened
"""

from __future__ import annotations

import asyncpg

from millstream.engine.errors import LogRefused

__all__ = ["ERRORS", "STATE_GONE", "STATE_READ_ONLY", "Doubtful", "is_unclear", "refusal", "state_of", "text_of"]

#: What the driver raises.
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

#: There is no such table, or no such schema.
STATE_GONE = ("42P01", "3F000")
#: The server is a standby, or was made one.
STATE_READ_ONLY = "25006"
_UNCLEAR = ("08", "57P", "40003")
_DENIED = "42501"


class Doubtful(OSError):
    """What was done is not certain to be durable, though the server said so."""


def state_of(error: BaseException) -> str:
    """The SQLSTATE of an error; empty for one that the server did not send."""
    return str(getattr(error, "sqlstate", None) or "")


def is_unclear(error: BaseException) -> bool:
    """Whether a statement that failed with this may have happened, or may happen yet."""
    state = state_of(error)
    return not state or state.startswith(_UNCLEAR)


def text_of(error: BaseException) -> str:
    """What the driver says, in one line; without the server's detail, which may show the row that it refused."""
    said = getattr(error, "message", None) or str(error)
    text = " ".join(f"{said} {getattr(error, 'hint', None) or ''}".split()) or repr(error)
    return f"{text} ({state})" if (state := state_of(error)) else text


def refusal(log: str, error: Exception) -> Exception:
    """What opening or attaching raises instead of the driver's error."""
    state = state_of(error)
    if state == _DENIED:
        return LogRefused(
            log,
            f"the role may not do this: {text_of(error)}",
            "let an administrator grant it what it lacks, or make the log by what `millstream log sql` shows",
        )
    if state == STATE_READ_ONLY:
        return LogRefused(log, "the server takes no changes: it is a standby", "name the primary, or attach to read it")
    if state in STATE_GONE:
        return LogRefused(log, "there is no log in this schema", "let an engine open it first")
    next_step = "see that it runs and lets this role in"
    if isinstance(error, TimeoutError):
        next_step = "see that it runs, and so does the synchronous standby that it waits for, if it has one"
    return LogRefused(log, f"the server can't be used: {text_of(error)}", next_step)
