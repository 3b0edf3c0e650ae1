"""What an address of a log in PostgreSQL says: where the server is, which schema holds the log, and how to get there.

Pure: no connection. Not here: what is done with it (`connecting`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import nan
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

from millstream.engine.errors import LogRefused

__all__ = ["Password", "Settings", "settings_of"]

#: A password that expires: called for each connection.
Password: TypeAlias = Callable[[], str] | Callable[[], Awaitable[str]]

_SCHEMA = "millstream"
#: What PostgreSQL keeps of a name.
_SCHEMA_BYTES_MAX = 63
_LEASE_SECONDS = 3.0
_LEASE_SECONDS_MIN = 0.5
#: The first ends a text, the second a block of statements.
_NOT_IN_NAMES = ("\0", "$$")
_UNREAD = "a port is a number, a parameter NAME=VALUE, and #, & or @ in a password is written %23, %26 or %40"
#: A day.
_SECONDS_MAX = 86_400
_ANSWER_SECONDS_MAX = 10.0


class Settings(NamedTuple):
    """Where a log is, and how long its server is waited for."""

    #: What asyncpg takes.
    dsn: str
    #: What errors call it: without a user's name or a password.
    name: str
    schema: str = _SCHEMA
    #: How long a writer that says nothing keeps the log.
    lease_seconds: float = _LEASE_SECONDS
    #: How long a statement may take before its connection is given up.
    answer_seconds_max: float = _ANSWER_SECONDS_MAX
    #: Readers come through a pooler that gives each transaction another session: nothing is prepared or listened to.
    pooled: bool = False
    #: The address asks for a certain kind of server.
    chooses_server: bool = False

    @property
    def place(self) -> str:
        """The schema as it stands in a statement."""
        return '"' + self.schema.replace('"', '""') + '"'


def settings_of(address: str) -> Settings:
    """Read ``postgresql://USER@HOST:PORT/DATABASE?schema=NAME``.

    Of the query ``schema``, ``lease_seconds``, ``answer_seconds_max`` and ``pooled`` are ours; all else (``sslmode``,
    ``sslrootcert``, ``target_session_attrs`` …) is the driver's, and several hosts are apart by commas.

    Raises:
        LogRefused: it is no such address.
    """
    try:
        parts = urlsplit(address)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        query = dict(given)
        schema = query.pop("schema", _SCHEMA)
        lease = _seconds(query.pop("lease_seconds", _LEASE_SECONDS))
        answer = _seconds(query.pop("answer_seconds_max", _ANSWER_SECONDS_MAX))
        pooled = query.pop("pooled", "false")
    except ValueError:  # its text may hold a part of a password, which has a & or a bracket
        raise _refused("postgresql", _UNREAD) from None
    if parts.fragment or address[len(parts.scheme) :][:3] != "://":
        raise _refused("postgresql", _UNREAD)
    hosts = ",".join(host.rpartition("@")[2] for host in parts.netloc.split(","))
    name = f"postgresql://{hosts}{parts.path}?schema={schema}"
    try:
        _ = [urlsplit(f"//{host}").port for host in parts.netloc.split(",")]
    except ValueError:  # its text may hold a part of a password
        raise _refused("postgresql", _UNREAD) from None
    is_ours = 0 < len(schema.encode()) <= _SCHEMA_BYTES_MAX and not schema.startswith("pg_")
    if not is_ours or "\0" in schema or "$$" in schema:
        raise _refused(name, f"{schema!r} can't be the name of a schema")
    if len({parameter for parameter, _ in given}) < len(given):
        raise _refused(name, "a parameter is there twice")
    if pooled not in ("true", "false"):
        raise _refused(name, "pooled is true or false")
    if not (_LEASE_SECONDS_MIN <= lease <= _SECONDS_MAX and 0 < answer <= _SECONDS_MAX):
        problem = f"lease_seconds is {_LEASE_SECONDS_MIN:g} to {_SECONDS_MAX:,}, answer_seconds_max above 0 and no more"
        raise _refused(name, problem)
    dsn = f"postgresql://{parts.netloc}{parts.path}{'?' if query else ''}{urlencode(query)}"
    return Settings(dsn, name, schema, lease, answer, pooled == "true", "target_session_attrs" in query)


def _seconds(text: str | float) -> float:
    """A time; NaN, which is no time that is allowed, for a text that is none."""
    try:
        return float(text)
    except ValueError:
        return nan


def _refused(name: str, problem: str) -> LogRefused:
    where = name.rpartition("@")[2]
    return LogRefused(where, problem, "write postgresql://USER@HOST:PORT/DATABASE?schema=NAME")
