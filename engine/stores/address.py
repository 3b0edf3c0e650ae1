"""From what a user writes after ``log=`` to a store: a table of schemes, which other packages add to.

A package adds a store by an entry point in the group ``millstream.stores``. Its name is the scheme; its value is a
function that takes the whole address and returns a `Log`, not opened. It is looked for and imported when an address has
its scheme, and not before. A scheme that is ours can't be taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from millstream.engine.errors import LogRefused
from millstream.engine.stores.memory import MemoryLog
from millstream.engine.stores.port import Log
from millstream.engine.stores.sqlite.log import SqliteLog

__all__ = ["GROUP", "log_at", "shown_address"]

#: The group of entry points.
GROUP = "millstream.stores"


def _postgres(address: str) -> Log:
    try:
        from millstream.engine.stores.postgres.log import PostgresLog  # noqa: PLC0415 - where it is needed
    except ImportError as error:
        problem = f"logs in PostgreSQL need asyncpg: {error}"
        raise LogRefused(_shown(address), problem, "install the extra millstream[postgres]") from error
    return PostgresLog(address)


#: What a scheme makes of an address.
_SCHEMES: Mapping[str, Callable[[str], Log]] = {
    "memory": lambda address: MemoryLog() if address == "memory:" else _unknown(address),
    "postgres": _postgres,
    "postgresql": _postgres,
    "sqlite": lambda address: SqliteLog(address.removeprefix("sqlite:")),
}

#: Of one letter are the drives of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+]+):")


def log_at(address: str | Path | Log) -> Log:
    """The log that an address names, not opened yet.

    Args:
        address: a path, ``sqlite:PATH``, ``memory:``, ``postgresql://HOST/DATABASE?schema=NAME``, an address of a
            store that another package adds, or a `Log`, which is returned as it is.

    Raises:
        LogRefused: no store knows such an address, or the store that does can't be loaded.
    """
    if isinstance(address, Path):
        return SqliteLog(address)
    if not isinstance(address, str):
        return address
    if address == ":memory:":
        return MemoryLog()
    if found := _SCHEME.match(address):
        scheme = found[1].lower()
        return (_SCHEMES.get(scheme) or _added(scheme, address))(f"{scheme}{address[found.end(1) :]}")
    return SqliteLog(address) if address else _unknown(address)


def _added(scheme: str, address: str) -> Callable[[str], Log]:
    for entry in entry_points(group=GROUP, name=scheme):
        try:
            store: Callable[[str], Log] = entry.load()
        except (ImportError, AttributeError) as error:
            problem = f"the store of {scheme!r}, {entry.value}, can't be loaded: {error}"
            raise LogRefused(_shown(address), problem, "install what it needs") from error
        return store
    return _unknown


def _unknown(address: str) -> Log:
    next_step = "give a path, 'sqlite:PATH', 'postgresql://…' or 'memory:'"
    raise LogRefused(_shown(address), "no store knows this address", next_step)


#: What an address may have in its query that is not shown.
_SECRETS = frozenset({"user", "password", "passfile", "sslpassword"})


def shown_address(address: str) -> str:
    """An address for people to read: without the user's name and password that it may have."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        return address
    hosts, slash, path = rest.partition("/")
    where, question, query = path.partition("?")
    kept = "&".join(each for each in query.split("&") if each.partition("=")[0] not in _SECRETS)
    shown = ",".join(host.rpartition("@")[2] for host in hosts.split(","))
    return f"{scheme}{slashes}{shown}{slash}{where}{question if kept else ''}{kept}"


def _shown(address: str) -> str:
    return repr(shown_address(address))
