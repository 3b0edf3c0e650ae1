"""Sockets that take connections, and the connections: taken in, looked after, ended in good order.

Here: what a server does with its sockets, in its own process or in a front of it. Not here: what is listened to
(`listening`), and what a request does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from millstream.engine.errors import (
    AuthorError,
    CallerError,
    LimitReached,
    RemoteError,
    StorageError,
    TryAgainLater,
)
from millstream.engine.loop.clock import elapsed
from millstream.engine.observers import Observer
from millstream.engine.server.connection import Connection
from millstream.engine.server.connection_life import ConnectionStatus
from millstream.engine.server.intake import Reader
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import Listener
from millstream.engine.server.peer import Handler
from millstream.engine.wire import Requests

__all__ = ["Sockets", "cancelled", "is_meant", "keep_sweeping", "tell_dropped"]

_SWEEP_SECONDS = 1.0
#: How long nothing is accepted after the system could not.
_ACCEPT_RETRY_SECONDS = 1.0
#: What a request may fail with without anybody looking at the log. Whatever else it is, is a failure of the server.
_MEANT = (CallerError, TryAgainLater, StorageError, AuthorError, RemoteError)


class Sockets:
    """What accepts connections and looks after them: a base class.

    Args:
        limits: the bounds.
        observer: is called with what happens.
        requests: how requests are read.
    """

    #: By role: what reads its lines.
    readers: Mapping[str | None, Reader]
    #: By role, and by class of request: what is done.
    handlers: Mapping[str | None, Mapping[type[Any], Handler]]
    #: The role of a connection that has not authenticated.
    first_role: str | None

    def __init__(self, limits: ServerLimits, observer: Observer, requests: Requests) -> None:
        self.limits = limits
        self.requests = requests
        self.connections: set[Connection] = set()
        self._observer = observer
        self._listeners: list[Listener] = []
        self._accepting: list[asyncio.Task[None]] = []
        #: Connections that are being made: on TLS, that is a handshake.
        self._arriving: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._unflushed: list[Connection] = []
        self._accepted = 0
        self._dropped: Counter[str] = Counter()
        self._dropped_told: Counter[str] = Counter()

    def begin(self) -> None:
        """Accept connections at all that is listened to, and look after them."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            for each in listener.sockets:
                name = f"millstream-accept-{listener.address}"
                self._accepting.append(loop.create_task(self._accept(each, listener.tls), name=name))
        self._sweeping = loop.create_task(keep_sweeping(self.sweep), name="millstream-server")

    def forget(self, connection: Connection) -> None:
        """A connection is gone: nothing waits for it any more."""

    # What connections call.

    def admit(self, connection: Connection) -> bool:
        """Take a new connection in, if there is room."""
        self.connections.add(connection)
        self._accepted += 1
        return len(self.connections) <= self.limits.connections_max

    def gone(self, connection: Connection, reason: str | None) -> None:
        """A connection has ended; for a reason, if it was us."""
        self.connections.discard(connection)
        self.forget(connection)
        if reason is not None:
            self._dropped[reason] += 1

    def drop(self, reason: str) -> None:
        """What never was a connection was ended for this reason."""
        self._dropped[reason] += 1

    def failed(self, error: BaseException) -> None:
        """A request failed; worth a line if that was not meant."""
        if not is_meant(error):
            self._observer.request_failed(error=error)

    def flush_soon(self, connection: Connection) -> None:
        """Write what a connection has to send, together with all others', once everything that is ready has run."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(connection)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            try:
                connection.flush()
            except Exception as error:  # noqa: BLE001 - one connection's failure is not that of those after it
                self.failed(error)
                connection.abort("failed")

    # Accepting.

    async def _accept(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, _ = await loop.sock_accept(listening)
            except ConnectionError:  # gone before it was taken
                continue
            except OSError as error:
                self._observer.accept_failed(error=error, connections=len(self.connections))
                await anyio.sleep(_ACCEPT_RETRY_SECONDS)
                continue
            if tls is not None and self._is_full():
                peer.close()
                self.drop("connections_max")
                continue
            arrival = loop.create_task(self._take_in(peer, tls))
            self._arriving.add(arrival)
            arrival.add_done_callback(self._arriving.discard)
            if tls is None:
                await asyncio.wait([arrival])

    def _is_full(self) -> bool:
        return len(self.connections) + len(self._arriving) >= self.limits.connections_max

    async def _take_in(self, peer: socket.socket, tls: ssl.SSLContext | None) -> None:
        await self._connect(peer, tls, lambda: Connection(self, is_tls=tls is not None))

    async def _connect(
        self, peer: socket.socket, tls: ssl.SSLContext | None, protocol: Callable[[], Connection]
    ) -> None:
        limits = self.limits
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                peer,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else limits.handshake_seconds_max,
                ssl_shutdown_timeout=None if tls is None else limits.linger_seconds_max,
            )
        except (OSError, TimeoutError):  # what comes of a stranger's handshake is counted, and no more
            self.drop("handshake")

    # Looking after them.

    def sweep(self, now: float) -> None:
        """End the connections whose time is over; once a second, on the clock `elapsed`."""
        for connection in list(self.connections):
            self._look_at(connection, now)
        self._dropped_told = tell_dropped(self._observer, self._dropped, self._dropped_told)

    def _look_at(self, connection: Connection, now: float) -> None:
        limits = self.limits
        if connection.slow_since is not None:
            if now - connection.slow_since > limits.slow_seconds_max:
                connection.abort("slow_seconds_max")
        elif connection.status is not ConnectionStatus.OPEN:
            if connection.ended_at is not None and now - connection.ended_at > limits.ended_seconds_max:
                for scope in connection.waits:
                    scope.cancel()
        elif connection.role is None and now - connection.made_at > limits.authenticate_seconds_max:
            connection.end("authenticate_seconds_max", _over("authenticate_seconds_max", limits))
        elif not connection.is_done:
            connection.heard_at = now
        elif now - connection.heard_at > limits.idle_seconds_max:
            connection.end("idle_seconds_max", _over("idle_seconds_max", limits))

    # Stopping.

    async def end_all(self) -> int:
        """Accept nothing any more, answer what was taken, and end all connections; returns how many there were."""
        await cancelled(self._accepting)
        self._stop_listening()
        await cancelled([*self._arriving])
        left = list(self.connections)
        for connection in left:
            connection.end("stopped")
        with anyio.move_on_after(self.limits.drain_seconds_max):
            await self._all_closed()
        for connection in list(self.connections):
            connection.abort("drain_seconds_max")
        await self._all_closed()
        if self._sweeping is not None:
            await cancelled([self._sweeping])
        return len(left)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _all_closed(self) -> None:
        while self.connections:
            await asyncio.wait([connection.closed for connection in self.connections])


async def keep_sweeping(sweep: Callable[[float], None]) -> None:
    """Call this once a second, with the clock `elapsed`."""
    while True:
        await anyio.sleep(_SWEEP_SECONDS)
        sweep(elapsed())


def is_meant(error: BaseException) -> bool:
    """Whether a request may fail so without anybody looking at the log."""
    return isinstance(error, _MEANT)


def tell_dropped(observer: Observer, dropped: Counter[str], told: Counter[str]) -> Counter[str]:
    """Report how many connections were ended since then, by reason; returns what was reported."""
    for reason, count in (dropped - told).items():
        observer.connections_dropped(reason=reason, connections=count)
    return dropped.copy()


def _over(limit: str, limits: ServerLimits) -> LimitReached:
    return LimitReached(limit, getattr(limits, limit))


async def cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
