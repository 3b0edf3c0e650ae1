from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from millstream.engine import App, Engine, Limits
from millstream.engine.client import Client
from millstream.engine.server import Server
from tests.engine.gateway.conformance import GatewayConformance, Running
from tests.shop import shop
from tests.support import ScriptedLog

pytestmark = pytest.mark.anyio


class TestClient(GatewayConformance):
    """Over TCP."""

    address = "tcp://127.0.0.1:0"

    @asynccontextmanager
    async def running(self, app: App = shop, limits: Limits | None = None) -> AsyncIterator[Running]:
        log = ScriptedLog()
        async with (
            Engine(app, log=log, limits=limits) as engine,
            Server(engine, listen=[self.address]) as server,
            Client(server.addresses[0]) as client,
        ):
            yield Running(client, engine, log)


class TestUnixClient(TestClient):
    """Over a Unix socket."""

    @pytest.fixture(autouse=True)
    def _socket(self, tmp_path: Path) -> None:
        self.address = f"unix://{tmp_path}/millstream.sock"
