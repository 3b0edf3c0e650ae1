"""A TCP proxy that a test stands between a client and a server: it cuts connections, holds them, swallows answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

__all__ = ["Proxy", "proxied"]

_BYTES = 65_536


class _Line:
    """One connection through the proxy. What may pass is decided for each connection, as it was made at some time."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.flows = asyncio.Event()
        self.flows.set()
        self.swallows = False

    def cut(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """Listens at ``port``, and passes on what it gets to a port of this machine."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self.port = 0
        #: New connections are closed at once.
        self.is_refusing = False
        #: New connections pass nothing on.
        self.is_holding = False
        #: A connection whose server has gone stays open, as what lies between may have it.
        self.is_keeping = False
        #: Of how many connections that are kept the server has gone.
        self.kept = 0
        #: How many connections were made.
        self.made = 0
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        return len(self._lines)

    def cut(self) -> None:
        """Close all connections without a word."""
        for line in self._lines:
            line.cut()

    def hold(self) -> list[_Line]:
        """Pass nothing on, either way, over the connections that there are and those that come."""
        self.is_holding = True
        for line in self._lines:
            line.flows.clear()
        return list(self._lines)

    def flow(self, lines: list[_Line] | None = None) -> None:
        """Pass everything on again: over all connections, new ones too, or over some of those that were held."""
        if lines is None:
            self.is_holding = False
        for line in self._lines if lines is None else lines:
            line.flows.set()

    def new_ones_flow(self) -> None:
        """New connections are fine; those that are held stay so."""
        self.is_holding = False

    def swallow(self) -> None:
        """What the server says over the connections that there are gets lost."""
        for line in self._lines:
            line.swallows = True

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        line = _Line(writer, to_server)
        self.made += 1
        if self.is_holding:
            line.flows.clear()
        self._lines.add(line)
        both = [
            asyncio.create_task(self._pass_on(line, reader, to_server)),
            asyncio.create_task(self._pass_on(line, from_server, writer, answers=True)),
        ]
        self._tasks.update(both)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self.is_keeping and not both[0].done():
                self.kept += 1
                await both[0]
        finally:
            line.cut()
            self._lines.discard(line)
            self._tasks.difference_update(both)
            for task in both:
                task.cancel()

    async def _pass_on(
        self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_BYTES):
                await line.flows.wait()
                if answers and line.swallows:
                    continue
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    """A proxy before a port, for as long as the block lasts."""
    async with Proxy(port) as proxy:
        yield proxy
