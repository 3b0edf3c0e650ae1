"""Where commits are kept: the port, its two stores, and the way from an address to a store."""

from penstock.engine.log.address import log_at
from penstock.engine.log.memory import MemoryLog, MemoryStore
from penstock.engine.log.news import News, followed
from penstock.engine.log.port import Log
from penstock.engine.log.sqlite import SqliteLog

__all__ = ["Log", "MemoryLog", "MemoryStore", "News", "SqliteLog", "followed", "log_at"]
