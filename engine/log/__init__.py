"""Where commits are kept: the port, its two stores, and the way from an address to a store."""

from millstream.engine.log.address import log_at
from millstream.engine.log.memory import MemoryLog, MemoryStore
from millstream.engine.log.news import News, followed
from millstream.engine.log.port import Log
from millstream.engine.log.sqlite import SqliteLog

__all__ = ["Log", "MemoryLog", "MemoryStore", "News", "SqliteLog", "followed", "log_at"]
