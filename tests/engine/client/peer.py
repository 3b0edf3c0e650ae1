"""A server of which the test writes every byte, on a real socket: for what no server of ours would say."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, cast

import anyio
import anyio.lowlevel
import msgspec

from millstream.engine.client import Link
from tests.support import settled, start

__all__ = ["Peer", "Visit", "heard", "peer", "until"]

SECONDS_MAX = 10.0
LINE_BYTES_MAX = 4 * 1024 * 1024


class Visit:
    """One connection, as the peer sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def line(self) -> bytes:
        """The next line, without its end; empty when there is none any more."""
        with anyio.fail_after(SECONDS_MAX):
            return (await self.reader.readline()).removesuffix(b"\n")

    async def request(self) -> dict[str, Any]:
        """The next request."""
        found: dict[str, Any] = msgspec.json.decode(await self.line())
        return found

    async def requests(self, count: int) -> list[dict[str, Any]]:
        return [await self.request() for _ in range(count)]

    async def gone(self) -> bool:
        """Wait until the other side has closed; whether it had said nothing more."""
        with anyio.fail_after(SECONDS_MAX), contextlib.suppress(ConnectionError):
            return not await self.reader.read()
        return True

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def say(self, **message: Any) -> None:
        self.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")

    def reply(self, request: dict[str, Any], result: Any) -> None:
        self.say(id=request["id"], result=result)

    def fail(self, request: dict[str, Any], code: int, message: str, /, **data: Any) -> None:
        self.say(id=request["id"], error={"code": code, "message": message, "data": data})

    def tell(self, watch: int, answer: Any, position: int) -> None:
        self.say(method="watch", params={"watch": watch, "answer": answer, "position": position})

    def read_on(self, wanted: bool) -> None:
        """Whether anything is read from the socket."""
        transport = cast(asyncio.Transport, self.writer.transport)
        (transport.resume_reading if wanted else transport.pause_reading)()

    def close(self) -> None:
        """End the connection as a server that goes away does."""
        self.writer.close()


class Peer:
    """Takes connections; the test takes them from it one by one."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        #: What the operating system takes in for it before it reads; None: what it likes.
        self.receive_bytes: int | None = None
        self.visits: asyncio.Queue[Visit] = asyncio.Queue()
        self._tls = tls
        self._all: list[Visit] = []
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"{'tcp' if self._tls is None else 'tls'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, again at the same place if it did before."""
        listener = socket.create_server(("127.0.0.1", self.port))
        if self.receive_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
        self._server = await asyncio.start_server(self._came, sock=listener, ssl=self._tls, limit=LINE_BYTES_MAX)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and close all connections."""
        assert self._server is not None
        self._server.close()
        for visit in self._all:
            visit.close()
        await self._server.wait_closed()

    async def visit(self) -> Visit:
        """The next connection."""
        with anyio.fail_after(SECONDS_MAX):
            return await self.visits.get()

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(reader, writer)
        self._all.append(visit)
        self.visits.put_nowait(visit)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


@contextlib.asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    """A peer that listens."""
    async with Peer() as made:
        yield made


async def heard(link: Link, visit: Visit) -> list[dict[str, Any]]:
    """Wait until the link has taken all that was said on this visit, and everybody has done what follows from it.

    Returns the requests that had come before.
    """
    before: list[dict[str, Any]] = []
    async with anyio.create_task_group() as group:
        start(group, link.call("stats"))
        while (request := await visit.request())["method"] != "stats":
            before.append(request)
        visit.reply(request, None)
    await settled()
    return before


async def until(condition: Callable[[], object]) -> None:
    """Wait for what is sure to come."""
    with anyio.fail_after(SECONDS_MAX):
        while not condition():
            await anyio.lowlevel.checkpoint()
