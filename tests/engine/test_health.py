"""``health`` and ``stats``: the same of an engine, a replica, and a client of either."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio import to_thread

from millstream.engine import Engine, EngineClosed, EngineStats, Health, MemoryLog, RemoteError, Replica, ReplicaStats
from millstream.engine.client import Client, SyncClient
from millstream.engine.edge import Edge, Middleware
from millstream.engine.server import Server
from tests.shop import Add, shop

pytestmark = pytest.mark.anyio


async def test_a_client_says_what_the_engine_and_the_replica_that_it_leads_to_say(tmp_path: Path) -> None:
    log, address, other = tmp_path / "shop.db", f"unix://{tmp_path}/writer", f"unix://{tmp_path}/replica"
    async with Engine(shop, log=log) as engine, Server(engine, listen=[address]), Client(address) as client:
        receipt = await client.execute(Add("tea", 3))
        assert engine.health() == Health(True, True, "writer", 1, 0, [])
        assert await client.health() == engine.health() == Edge(engine, [Middleware()]).health()
        told = await client.stats()
        assert isinstance(told, EngineStats)
        assert told == engine.stats()
        async with Replica(shop, log=log) as replica, Server(replica, listen=[other]), Client(other) as reader:
            replica.require_position(receipt.position)
            assert replica.health() == Health(True, True, "replica", 1, 0, [])
            assert await reader.health() == replica.health()
            assert isinstance(await reader.stats(), ReplicaStats)

        def script() -> tuple[Health, EngineStats | ReplicaStats]:
            with SyncClient(address) as sync:
                return sync.health(), sync.stats()

        assert await to_thread.run_sync(script) == (engine.health(), engine.stats())
    assert engine.health().ready is False
    assert engine.health().reasons[0] == "it is closed"


async def test_a_client_that_is_closed_says_so(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/writer"
    async with Engine(shop, log=MemoryLog()) as engine, Server(engine, listen=[address]):
        async with Client(address) as client:
            pass
        with pytest.raises(EngineClosed):
            await client.health()
        with pytest.raises(EngineClosed):
            await client.stats()


async def test_what_is_no_health_is_an_error_of_the_other_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/writer"
    async with Engine(shop, log=MemoryLog()) as engine, Server(engine, listen=[address]), Client(address) as client:

        async def call(method: str) -> bytes:
            return b'{"live":"perhaps"}'

        monkeypatch.setattr(client.link, "call", call)
        with pytest.raises(RemoteError, match="what came back is no Health"):
            await client.health()
