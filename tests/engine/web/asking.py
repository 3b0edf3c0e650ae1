"""An application over HTTP, in a real server on a free port of this machine, and a client that asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import httpx2

from millstream.engine import App, Engine, Limits
from millstream.engine.stores.port import Log
from millstream.engine.web import WebApp, WebLimits, WebServer
from tests.shop import shop

__all__ = ["SECONDS_MAX", "Block", "Raw", "Web", "connected", "over_http", "serving"]

#: How long anything that is sure to come may take.
SECONDS_MAX = 10.0


class Block(NamedTuple):
    """A server-sent event: its id, its kind, and its data as what it says; a comment has none of them."""

    id: int | None
    event: str
    data: Any


class Web:
    """A server, what it serves, and a client of it."""

    def __init__(self, server: WebServer, app: WebApp, engine: Engine, client: httpx2.AsyncClient) -> None:
        self.server, self.app, self.engine, self.client = server, app, engine, client

    async def execute(self, name: str, fields: Mapping[str, Any], status: int = 200, **headers: str) -> httpx2.Response:
        """Send a command; its status must be this one. ``Expected_Version`` is a header."""
        answer = await self.client.post(f"/commands/{name}", json=fields, headers=_headers(headers))
        assert answer.status_code == status, answer.text
        return answer

    async def ask(self, path: str, status: int = 200, **headers: str) -> httpx2.Response:
        """Get what is at an address below ``/queries/``."""
        answer = await self.client.get(f"/queries/{path}", headers=_headers(headers))
        assert answer.status_code == status, answer.text
        return answer

    @asynccontextmanager
    async def stream(self, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Block]]:
        """Listen to what is said at an address."""
        async with self.client.stream("GET", path, headers=_headers(headers)) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _blocks(answer.aiter_lines())


async def _blocks(lines: AsyncIterator[str]) -> AsyncIterator[Block]:
    found: dict[str, str] = {}
    async for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            found[name] = value.strip()
        elif found:
            data = json.loads(found["data"]) if "data" in found else None
            yield Block(int(found["id"]) if "id" in found else None, found.get("event", ""), data)
            found = {}


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}


@asynccontextmanager
async def serving(app: WebApp, engine: Engine, **more: Any) -> AsyncIterator[Web]:
    """A server for an application, and a client of it."""
    async with (
        WebServer(app, **{"listen": ["127.0.0.1:0"], **more}) as server,
        httpx2.AsyncClient(base_url=str(server.addresses[0]), timeout=SECONDS_MAX) as client,
    ):
        yield Web(server, app, engine, client)


@asynccontextmanager
async def over_http(
    app: App = shop,
    *,
    log: Log | str = "memory:",
    engine_limits: Limits | None = None,
    limits: WebLimits | None = None,
    **more: Any,
) -> AsyncIterator[Web]:
    """An engine behind a server."""
    engine = Engine(app, log=log, limits=engine_limits)
    async with engine, serving(WebApp(app, engine, limits=limits, **more), engine) as web:
        yield web


class Raw:
    """A connection that says what it is told to, also what no client should say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> bytes:
        """All that still comes until the other side closes."""
        with anyio.fail_after(SECONDS_MAX):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    async def until(self, end: bytes) -> bytes:
        """What comes up to these bytes."""
        with anyio.fail_after(SECONDS_MAX):
            return await self._reader.readuntil(end)


@asynccontextmanager
async def connected(web: Web) -> AsyncIterator[Raw]:
    """A connection to its server."""
    at = web.server.addresses[0].address
    reader, writer = await asyncio.open_connection(at.host, at.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
