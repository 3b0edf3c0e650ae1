from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.engine import App, Engine, Limits
from tests.engine.gateway.conformance import GatewayConformance, Running
from tests.shop import shop
from tests.support import ScriptedLog

pytestmark = pytest.mark.anyio


class TestEngine(GatewayConformance):
    @asynccontextmanager
    async def running(self, app: App = shop, limits: Limits | None = None) -> AsyncIterator[Running]:
        log = ScriptedLog()
        async with Engine(app, log=log, limits=limits) as engine:
            yield Running(engine, engine, log)
