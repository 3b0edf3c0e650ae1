from __future__ import annotations

import pytest

from millstream.engine.stores.memory_snapshots import MemorySnapshots
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.testing.stores.snapshot_conformance import SnapshotConformance

pytestmark = pytest.mark.anyio


class TestMemorySnapshots(SnapshotConformance):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemorySnapshots()

    def make(self) -> MemorySnapshots:
        return self.store

    async def held(self, store: SnapshotStore) -> int:
        begun = sum(map(len, self.store._begun.values()))
        return begun + sum(len(kept.pieces) for kept in self.store._whole)
