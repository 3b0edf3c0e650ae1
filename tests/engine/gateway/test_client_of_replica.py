from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.engine import App, Engine, Limits, MemoryLog, Replica
from millstream.engine.client import Client
from millstream.engine.server import Server
from tests.engine.gateway.conformance import GatewayConformance, Running
from tests.shop import shop
from tests.support import ScriptedLog

pytestmark = pytest.mark.anyio


class TestClientOfReplica(GatewayConformance):
    """Questions are answered by a replica over a socket; commands go from there over another one to the writer."""

    knows_head = False

    @asynccontextmanager
    async def running(self, app: App = shop, limits: Limits | None = None) -> AsyncIterator[Running]:
        log, listen = ScriptedLog(), ["tcp://127.0.0.1:0"]
        async with (
            Engine(app, log=log, limits=limits) as engine,
            Server(engine, listen=listen) as server,
            Client(server.addresses[0]) as writer,
            Replica(app, log=MemoryLog(log.inner.store), writer=writer, limits=limits) as replica,
            Server(replica, listen=listen) as beside,
            Client(beside.addresses[0]) as client,
        ):
            yield Running(client, engine, log)
