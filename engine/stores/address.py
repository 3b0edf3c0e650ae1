"""From what a user writes after ``log=`` to a store."""

from __future__ import annotations

import re
from pathlib import Path

from millstream.engine.errors import LogRefused
from millstream.engine.stores.memory import MemoryLog
from millstream.engine.stores.port import Log
from millstream.engine.stores.sqlite.log import SqliteLog

__all__ = ["log_at"]


def log_at(address: str | Path | Log) -> Log:
    """The log that an address names, not opened yet.

    Args:
        address: a path, ``sqlite:PATH``, ``memory:``, or a `Log`, which is returned as it is.

    Raises:
        LogRefused: no store knows such an address.
    """
    if isinstance(address, Path):
        return SqliteLog(address)
    if not isinstance(address, str):
        return address
    if address in ("memory:", ":memory:"):
        return MemoryLog()
    if address.startswith("sqlite:"):
        return SqliteLog(address.removeprefix("sqlite:"))
    if not address or re.match(r"[a-z][a-z0-9+]+:", address):
        raise LogRefused(repr(address), "no store knows this address", "give a path, 'sqlite:PATH' or 'memory:'")
    return SqliteLog(address)
