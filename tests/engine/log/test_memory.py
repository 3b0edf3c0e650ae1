from __future__ import annotations

import pytest

from millstream.engine import MemoryLog
from millstream.engine.log import MemoryStore
from tests.engine.log.conformance import LogConformance

pytestmark = pytest.mark.anyio


class TestMemoryLog(LogConformance):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemoryStore()

    def make(self) -> MemoryLog:
        return MemoryLog(self.store)

    def break_lock(self) -> None:
        self.store.locked = False

    def traces(self) -> object:
        return self.store.application, list(self.store.commits), self.store.locked
