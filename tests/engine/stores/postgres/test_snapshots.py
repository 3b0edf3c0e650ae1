from __future__ import annotations

import asyncpg
import pytest

from millstream.engine.stores.postgres.log import PostgresLog
from millstream.engine.stores.postgres.settings import settings_of
from millstream.engine.stores.postgres.snapshots import PostgresSnapshots
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.testing.stores.snapshot_conformance import SnapshotConformance
from tests.postgres import new_address

pytestmark = pytest.mark.anyio


class TestPostgresSnapshots(SnapshotConformance):
    @pytest.fixture(autouse=True)
    async def _log(self) -> None:
        self.address = new_address()
        log = PostgresLog(self.address)
        await log.open("conformance")
        await log.close()

    def make(self) -> PostgresSnapshots:
        return PostgresSnapshots(settings_of(self.address), None)

    async def held(self, store: SnapshotStore) -> int:
        settings = settings_of(self.address)
        connection = await asyncpg.connect(settings.dsn)
        try:
            return int(await connection.fetchval(f"SELECT count(*) FROM {settings.place}.pieces"))
        finally:
            await connection.close()
