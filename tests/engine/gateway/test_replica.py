from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.engine import App, Engine, Limits, MemoryLog, Replica
from tests.engine.gateway.conformance import GatewayConformance, Running
from tests.shop import shop
from tests.support import ScriptedLog

pytestmark = pytest.mark.anyio


class TestReplica(GatewayConformance):
    """Questions are answered from the log, commands are passed on to an engine."""

    knows_head = False

    @asynccontextmanager
    async def running(self, app: App = shop, limits: Limits | None = None) -> AsyncIterator[Running]:
        log = ScriptedLog()
        async with Engine(app, log=log, limits=limits) as engine:
            beside = MemoryLog(log.inner.store)
            async with Replica(app, log=beside, writer=engine, limits=limits) as replica:
                yield Running(replica, engine, log)
