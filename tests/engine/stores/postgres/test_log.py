from __future__ import annotations

import pytest

from millstream.engine import CommitFailed
from millstream.engine.stores.port import Log
from millstream.engine.stores.postgres.log import PostgresLog
from millstream.engine.testing.stores.log_conformance import LogConformance
from millstream.engine.testing.stores.written import APP, sized_commit
from tests.postgres import new_address, sql

pytestmark = pytest.mark.anyio


class TestPostgresLog(LogConformance):
    @pytest.fixture(autouse=True)
    def _address(self) -> None:
        self.address = new_address()
        self.schema = self.address.rpartition("=")[2]

    def make(self) -> PostgresLog:
        return PostgresLog(self.address)

    def break_lock(self) -> None:
        """As if another writer had taken over, and gone."""
        sql(self.address, f"UPDATE {self.schema}.leader SET holder = 'another', term = term + 1, pid = 0")

    async def bound(self, log: Log) -> int:
        """As a server with a smaller bound would refuse them."""
        sql(self.address, f"ALTER TABLE {self.schema}.commits ADD CHECK (octet_length(body) <= 70000)")
        return 70_000

    async def test_what_a_row_had_that_the_server_refuses_is_not_said(self) -> None:
        log = self.handle()
        await log.open(APP)
        await self.bound(log)
        with pytest.raises(CommitFailed, match="check constraint") as raised:
            await log.append(sized_commit(140_000))
        assert "Failing row" not in str(raised.value)

    def traces(self) -> object:
        there = sql(self.address, f"SELECT count(*) FROM pg_namespace WHERE nspname = '{self.schema}'")
        if there == [(0,)]:
            return None
        tables = ("meta", "commits", "snapshots", "pieces")
        return [sql(self.address, f"SELECT * FROM {self.schema}.{table} ORDER BY 1") for table in tables]
