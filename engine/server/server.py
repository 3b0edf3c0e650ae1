"""The server: listens, keeps its connections within bounds, and ends in good order.

Invariants: nothing of it grows beyond `ServerLimits`; what was taken is answered before it closes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import anyio

from millstream.engine.errors import (
    AuthorError,
    CallerError,
    DefinitionError,
    EngineClosed,
    LimitReached,
    RemoteError,
    StorageError,
    TryAgainLater,
)
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.server.backend import Backend
from millstream.engine.server.connection import Connection
from millstream.engine.server.connection_life import ConnectionStatus
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import Listener, listen
from millstream.engine.server.methods import Methods
from millstream.engine.server.stats import ServerStats
from millstream.engine.server.tokens import MAY, Role, Tokens
from millstream.engine.wire import Address, Requests, parse_address
from millstream.engine.wire.address import DEFAULT_ADDRESS

__all__ = ["Server"]

_SWEEP_SECONDS = 1.0
#: How long nothing is accepted after the system could not.
_ACCEPT_RETRY_SECONDS = 1.0
#: What a request may fail with without anybody looking at the log. Whatever else it is, is a failure of the server.
_MEANT = (CallerError, TryAgainLater, StorageError, AuthorError, RemoteError)


class Server:
    """Serves an engine or a replica over sockets: ``async with Engine(…) as engine, Server(engine) as server``.

    It speaks JSON-RPC 2.0, a message a line; `Client` speaks it too. Entering listens, leaving stops: no connection is
    accepted any more, what was taken is answered, then connections are closed. Leave it before the engine.

    Args:
        backend: an open `Engine` or `Replica`.
        listen: addresses: ``tcp://HOST:PORT``, ``tls://HOST:PORT``, ``unix://PATH``. Port 0 takes a free one.
        tokens: who may do what; without them, whoever can connect may do everything.
        tls: for ``tls://``; see `tls_context`.
        unix_mode: the permissions of a Unix socket.
        insecure: listen to other machines even without tokens or TLS.
        limits: the bounds.

    Raises:
        DefinitionError: an address is none. On entering: it can't be listened on, or is open to other machines without
            tokens or TLS.
        WrongLoop (on entering): the backend was opened on another event loop.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        listen: Sequence[str | Address] = (DEFAULT_ADDRESS,),
        tokens: Tokens | None = None,
        tls: ssl.SSLContext | None = None,
        unix_mode: int = 0o600,
        insecure: bool = False,
        limits: ServerLimits | None = None,
    ) -> None:
        self.limits = limits or ServerLimits()
        self.requests = Requests(backend.app, self.limits.in_flight_max)
        self._observer = backend.observers
        self._require_loop = backend.require_loop
        self._methods = Methods(backend, self.requests, tokens, self.limits, self.stats)
        self.handlers = self._methods.handlers
        self.readers: Mapping[Role | None, Requests] = {
            **dict.fromkeys(Role, self.requests),
            None: self.requests.only(MAY[None]),
        }
        self.first_role = Role.WRITER if tokens is None else None
        #: Where it listens, with the ports that it got.
        self.addresses: list[Address] = []
        self.connections: set[Connection] = set()
        self._listen = [parse_address(each) if isinstance(each, str) else each for each in listen]
        if not self._listen:
            raise DefinitionError("a server listens on at least one address", "Server")
        self._tokens = tokens
        self._tls = tls
        self._unix_mode = unix_mode
        self._insecure = insecure
        self._listeners: list[Listener] = []
        self._accepting: list[asyncio.Task[None]] = []
        #: Connections that are being made: on TLS, that is a handshake.
        self._arriving: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._unflushed: list[Connection] = []
        self._accepted = 0
        self._dropped: Counter[str] = Counter()
        self._dropped_told: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        if self._sweeping is not None:
            raise EngineClosed("served already: make a new Server")
        self._require_loop()
        try:
            for address in self._listen:
                listener = await listen(
                    address,
                    has_tokens=self._tokens is not None,
                    tls=self._tls,
                    unix_mode=self._unix_mode,
                    insecure=self._insecure,
                )
                self._listeners.append(listener)
        except BaseException:
            self._stop_listening()
            raise
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            self.addresses.append(listener.address)
            for each in listener.sockets:
                name = f"millstream-accept-{listener.address}"
                self._accepting.append(loop.create_task(self._accept(each, listener.tls), name=name))
        self._sweeping = loop.create_task(self._keep_sweeping(), name="millstream-server")
        self._observer.server_listening(addresses=self._listened_at, tokens=self._tokens is not None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="millstream-server-stopping")
        await to_the_end(self._stopping)

    def stats(self) -> ServerStats:
        """Figures of this moment."""
        return ServerStats(
            connections=len(self.connections),
            connections_max=self.limits.connections_max,
            in_flight=sum(connection.in_flight for connection in self.connections),
            watches=sum(len(connection.streams) for connection in self.connections),
            accepted=self._accepted,
            dropped=dict(self._dropped),
        )

    # What connections call.

    def admit(self, connection: Connection) -> bool:
        """Take a new connection in, if there is room."""
        self.connections.add(connection)
        self._accepted += 1
        return len(self.connections) <= self.limits.connections_max

    def gone(self, connection: Connection, reason: str | None) -> None:
        """A connection has ended; for a reason, if it was us."""
        self.connections.discard(connection)
        if self._methods.commands is not None:
            self._methods.commands.forget(connection)
        if reason is not None:
            self._dropped[reason] += 1

    def failed(self, error: BaseException) -> None:
        """A request failed; worth a line if nobody meant it to."""
        if not isinstance(error, _MEANT):
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
            if tls is not None and len(self.connections) + len(self._arriving) >= self.limits.connections_max:
                peer.close()
                self._dropped["connections_max"] += 1
                continue
            arrival = loop.create_task(self._take_in(peer, tls))
            self._arriving.add(arrival)
            arrival.add_done_callback(self._arriving.discard)
            if tls is None:
                await asyncio.wait([arrival])

    async def _take_in(self, peer: socket.socket, tls: ssl.SSLContext | None) -> None:
        limits = self.limits
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self, is_tls=tls is not None),
                peer,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else limits.handshake_seconds_max,
                ssl_shutdown_timeout=None if tls is None else limits.linger_seconds_max,
            )
        except (OSError, TimeoutError):  # what comes of a stranger's handshake is counted, and no more
            self._dropped["handshake"] += 1

    # Looking after them.

    async def _keep_sweeping(self) -> None:
        while True:
            await anyio.sleep(_SWEEP_SECONDS)
            self.sweep(elapsed())

    def sweep(self, now: float) -> None:
        """End the connections whose time is over; once a second, on the clock `elapsed`."""
        for connection in list(self.connections):
            self._look_at(connection, now)
        dropped = self._dropped - self._dropped_told
        self._dropped_told = self._dropped.copy()
        for reason, count in dropped.items():
            self._observer.connections_dropped(reason=reason, connections=count)

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

    @property
    def _listened_at(self) -> list[str]:
        return [str(each) for each in self.addresses]

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _stop(self) -> None:
        assert self._sweeping is not None
        await _cancelled(self._accepting)
        self._stop_listening()
        await _cancelled([*self._arriving])
        left = list(self.connections)
        for connection in left:
            connection.end("stopped")
        with anyio.move_on_after(self.limits.drain_seconds_max):
            await self._all_closed()
        for connection in list(self.connections):
            connection.abort("drain_seconds_max")
        await self._all_closed()
        await _cancelled([self._sweeping])
        if self._methods.commands is not None:
            await self._methods.commands.close()
        lost = self._dropped["drain_seconds_max"]
        self._observer.server_stopped(addresses=self._listened_at, connections=len(left), connections_lost=lost)

    async def _all_closed(self) -> None:
        while self.connections:
            await asyncio.wait([connection.closed for connection in self.connections])


def _over(limit: str, limits: ServerLimits) -> LimitReached:
    return LimitReached(limit, getattr(limits, limit))


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
