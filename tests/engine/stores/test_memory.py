from __future__ import annotations

import pytest

from millstream.engine import MemoryLog
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.stores.port import Log
from millstream.engine.testing.stores.log_conformance import LogConformance

pytestmark = pytest.mark.anyio


class TestMemoryLog(LogConformance):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemoryStore()

    def make(self) -> MemoryLog:
        return MemoryLog(self.store)

    def break_lock(self) -> None:
        self.store.locked = False

    async def bound(self, log: Log) -> int:
        self.store.body_bytes_max = 70_000
        return 70_000

    def traces(self) -> object:
        return self.store.application, list(self.store.commits), self.store.locked
