"""What stands before a PostgreSQL server and speaks TLS for it, as clouds have it: PostgreSQL's own way to begin it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["tls_before"]

#: Length and code of the request for TLS (https://www.postgresql.org/docs/current/protocol-message-formats.html).
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_BYTES = 65_536


@asynccontextmanager
async def tls_before(port: int, certificate: Path) -> AsyncIterator[int]:
    """A port that takes connections with TLS alone, and leads to another one.

    Args:
        port: the server's.
        certificate: a PEM file with a key and its certificates.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    tasks: set[asyncio.Task[None]] = set()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                if await reader.readexactly(8) != _SSL_REQUEST:
                    return
                writer.write(b"S")
                await writer.start_tls(context)
                from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await _both(_pass_on(reader, to_server), _pass_on(from_server, writer))
                finally:
                    to_server.transport.abort()
            finally:
                writer.transport.abort()
                tasks.discard(task)

    server = await asyncio.start_server(on_client, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _both(*works: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends."""
    begun = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in begun:
            each.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BYTES):
        writer.write(data)
        await writer.drain()
