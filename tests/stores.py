"""Stores that survive their engine: closed in good order, or left as a crash leaves them."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Protocol

from millstream.engine import Log, MemoryLog, SqliteLog
from millstream.engine.stores.memory import MemoryStore

__all__ = ["MemoryPlace", "Place", "SqlitePlace"]


class Place(Protocol):
    """Where a log and its snapshots are kept."""

    def log(self) -> Log:
        """The log, for the next engine."""
        ...

    def crash(self) -> None:
        """Whoever has the log open now goes on with files that nobody will look at again: what is there now is kept."""
        ...


class MemoryPlace:
    """The same store again and again; after a crash a copy of it, whose lock nobody holds."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def log(self) -> Log:
        return MemoryLog(self.store)

    def crash(self) -> None:
        store = self.store
        self.store = MemoryStore(list(store.commits), store.application, snapshots=deepcopy(store.snapshots))


class SqlitePlace:
    """The same file again and again; after a crash a copy of it, with what was not yet moved into it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "first.db"
        self._crashes = 0

    def log(self) -> Log:
        return SqliteLog(self.path)

    def crash(self) -> None:
        self._crashes += 1
        copy = self.path.with_name(f"after-crash-{self._crashes}.db")
        for suffix in ("", "-wal", "-snapshots", "-snapshots-wal"):
            file = Path(f"{self.path}{suffix}")
            if file.exists():
                shutil.copyfile(file, f"{copy}{suffix}")
        self.path = copy
