"""A caller that speaks bytes over a real socket: it says what it is told to, also what no client should say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import App, Engine, Limits
from millstream.engine.server import Server
from millstream.engine.server.connection import Connection
from millstream.engine.stores.port import Log
from millstream.engine.wire import Address
from tests.shop import shop

__all__ = [
    "ADD",
    "SECONDS_MAX",
    "STOCK",
    "Caller",
    "calling",
    "connections_of",
    "engine_of",
    "one_process",
    "request",
    "served",
    "until",
]

#: How long anything that is sure to come may take.
SECONDS_MAX = 10.0
CHUNK_BYTES = 1 << 16
#: How many fronts servers have in the test that runs; see `conftest`.
fronts = 0
#: For a test that looks into what a front has no part in, or has in another way.
one_process = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)

ADD: dict[str, Any] = {"type": "Add", "item": "a", "count": 1}
STOCK: dict[str, Any] = {"type": "StockOf", "item": "a"}


def request(method: str, params: Any = None, to: Any = 1, **more: Any) -> bytes:
    """A request's line; ``to=...`` makes a notification of it."""
    message = {"jsonrpc": "2.0", "method": method, **more}
    if to is not ...:
        message["id"] = to
    if params is not None:
        message["params"] = params
    return json.dumps(message).encode() + b"\n"


class Caller:
    """One connection to a server."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._heard = b""

    async def send(self, data: bytes) -> None:
        """Send it all, however long that takes."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    def push(self, data: bytes) -> int:
        """Send what the system takes at once, before anybody else runs; returns how much that was."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(data):
                sent += self.socket.send(data[sent:])
        return sent

    async def line(self) -> bytes:
        """The next line without its end; empty when the server has ended the connection."""
        with anyio.fail_after(SECONDS_MAX):
            while b"\n" not in self._heard:
                more = await self._receive()
                if not more:
                    rest, self._heard = self._heard, b""
                    return rest
                self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    async def reply(self) -> Any:
        """The next line, as what it says."""
        line = await self.line()
        assert line, "the server has closed the connection"
        return json.loads(line)

    async def replies(self, count: int) -> list[Any]:
        return [await self.reply() for _ in range(count)]

    async def call(self, method: str, params: Any = None) -> Any:
        """One request, and its result or its error."""
        await self.send(request(method, params))
        found = await self.reply()
        assert (found["jsonrpc"], found["id"]) == ("2.0", 1)
        return found["result"] if "result" in found else found["error"]

    async def rest(self) -> list[Any]:
        """All that still comes until the server ends the connection."""
        found = []
        while line := await self.line():
            found.append(json.loads(line))
        return found

    def finish(self) -> None:
        """Say that nothing more is sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def vanish(self) -> None:
        """Close without a goodbye: the other side hears that the connection was reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    async def _receive(self) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self.socket, CHUNK_BYTES)
        except ConnectionError:
            return b""


@contextlib.asynccontextmanager
async def calling(server: Server, which: int = 0, *, receive_bytes: int | None = None) -> AsyncIterator[Caller]:
    """A connection to one of the addresses; ``receive_bytes`` is about what the system takes in before it is read."""
    address = server.addresses[which]
    connection = socket.socket(socket.AF_UNIX if address.kind == "unix" else socket.AF_INET)
    try:
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.setblocking(False)
        where: Any = address.path if address.kind == "unix" else (address.host, address.port)
        await asyncio.get_running_loop().sock_connect(connection, where)
        yield Caller(connection)
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def served(
    app: App = shop,
    *,
    log: Log | str = "memory:",
    listen: Sequence[str | Address] = ("tcp://127.0.0.1:0",),
    engine_limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    **more: Any,
) -> AsyncIterator[Server]:
    """An engine behind a server."""
    async with (
        Engine(app, log=log, limits=engine_limits) as engine,
        Server(engine, listen=listen, tls=tls, **{"fronts": fronts, **more}) as server,
    ):
        yield server


def engine_of(server: Server) -> Engine:
    """What it serves."""
    backend = server._methods._backend
    assert isinstance(backend, Engine)
    return backend


def connections_of(server: Server) -> list[Connection]:
    """The connections that it has, also where a front has them, which runs here."""
    if server._fronts is None:
        return list(server.connections)
    processes: Iterable[Any] = [each.process for each in server._fronts._fronts]
    return [each for process in processes for each in process.front.connections]


def sweep(server: Server, now: float) -> None:
    """What a server does once a second, and a front, which runs here."""
    server.sweep(now)
    if server._fronts is not None:
        for each in server._fronts._fronts:
            process: Any = each.process
            process.front.sweep(now)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what is sure to come."""
    with anyio.fail_after(SECONDS_MAX):
        while not condition():
            await anyio.lowlevel.checkpoint()
