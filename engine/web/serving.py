"""The server for HTTP: uvicorn with every connection bounded, in the engine's loop, beside whatever else runs there.

Here: listening, and ending in good order. Not here: what is answered (`app`), what a connection is ended for
(`connection`).

Signals are left to the program that runs the loop: a program that embeds a server has its own. Stopping ends the
streams first, which have no end of their own, then answers what was taken, and then closes.

Invariants: nothing of it grows beyond `WebLimits`; what was taken is answered before it closes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio
import uvicorn
from starlette.types import ASGIApp

from millstream.engine.errors import DefinitionError, EngineClosed
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.server.listening import Listener, listen
from millstream.engine.server.sockets import cancelled, keep_sweeping, tell_dropped
from millstream.engine.web.addresses import DEFAULT_HTTP, HttpAddress, parse_http
from millstream.engine.web.app import WebApp
from millstream.engine.web.connection import HttpConnection
from millstream.engine.web.door import Door
from millstream.engine.web.limits import WebLimits

__all__ = ["WebServer"]

_STARTING_SECONDS = 0.005


class _Uvicorn(uvicorn.Server):
    """One that leaves signals alone."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class WebServer:
    """Serves a `WebApp` over HTTP: ``async with Engine(…) as engine, WebServer(WebApp(app, engine)) as server``.

    Entering listens, leaving stops. Leave it before the engine. Any number of them, and a `Server` for sockets, may
    serve one engine in one process.

    Args:
        web: what is served.
        listen: addresses: ``HOST:PORT``, ``http://HOST:PORT``, ``https://HOST:PORT``, ``unix://PATH``. Port 0 takes a
            free one.
        tls: for ``https://``; see `millstream.engine.server.tls_context`.
        unix_mode: the permissions of a Unix socket.
        insecure: listen to other machines even without tokens or TLS.
        hosts: the names under which it is asked for, beside those of an address that this machine alone can reach. Any
            will do where tokens are wanted.

    Raises:
        DefinitionError: an address is none. On entering: it can't be listened on, or is open to other machines without
            tokens or TLS.
        EngineClosed (on entering): it has served before.
    """

    def __init__(
        self,
        web: WebApp,
        *,
        listen: Sequence[str] = (DEFAULT_HTTP,),
        tls: ssl.SSLContext | None = None,
        unix_mode: int = 0o600,
        insecure: bool = False,
        hosts: Sequence[str] = (),
    ) -> None:
        self.limits: WebLimits = web.limits
        self.connections: set[HttpConnection] = set()
        #: Where it listens, with the ports that it got.
        self.addresses: list[HttpAddress] = []
        self._web = web
        self._listen = [parse_http(each) for each in listen]
        if not self._listen:
            raise DefinitionError("a server listens on at least one address", "WebServer")
        self._tls = tls
        self._unix_mode = unix_mode
        self._insecure = insecure
        self._hosts = tuple(hosts)
        self._observer: Observer = web.observer
        self._listeners: list[Listener] = []
        self._servers: list[_Uvicorn] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._is_served = False
        self._stopping: asyncio.Task[None] | None = None
        self._dropped: Counter[str] = Counter()
        self._dropped_told: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        if self._is_served:
            raise EngineClosed("served already: make a new WebServer")
        self._is_served = True
        loop = asyncio.get_running_loop()
        try:
            for wanted in self._listen:
                listener = await listen(
                    wanted.address,
                    has_tokens=self._web.tokens is not None,
                    tls=self._tls,
                    unix_mode=self._unix_mode,
                    insecure=self._insecure,
                )
                self._listeners.append(listener)
                self.addresses.append(HttpAddress(listener.address))
                server = self._server_of(listener)
                self._servers.append(server)
                name = f"millstream-http-{self.addresses[-1]}"
                self._tasks.append(loop.create_task(server.serve(listener.sockets), name=name))
            await self._started()
        except BaseException:
            await to_the_end(loop.create_task(self._close()))
            raise
        self._sweeping = loop.create_task(keep_sweeping(self.sweep), name="millstream-http")
        self._observer.server_listening(addresses=self._listened_at, tokens=self._web.tokens is not None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="millstream-http-stopping")
        await to_the_end(self._stopping)

    @property
    def dropped(self) -> Counter[str]:
        """How many connections it has ended, by reason."""
        return Counter(self._dropped)

    # What connections call.

    def admit(self, connection: HttpConnection) -> bool:
        """Take a new connection in, if there is room."""
        self.connections.add(connection)
        return len(self.connections) <= self.limits.connections_max

    def gone(self, connection: HttpConnection, reason: str | None) -> None:
        """A connection has ended; for a reason, if it was us."""
        self.connections.discard(connection)
        if reason is not None:
            self._dropped[reason] += 1

    def sweep(self, now: float) -> None:
        """End the connections whose time is over; once a second, on the clock `elapsed`."""
        for connection in list(self.connections):
            connection.sweep(now)
        self._dropped_told = tell_dropped(self._observer, self._dropped, self._dropped_told)

    # Inside.

    def _server_of(self, listener: Listener) -> _Uvicorn:
        limits, app = self.limits, self._app_at(HttpAddress(listener.address))
        config = uvicorn.Config(
            app,
            http=type("Connection", (HttpConnection,), {"host": self}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.idle_seconds_max,
            h11_max_incomplete_event_size=limits.head_bytes_max,
        )
        config.load()
        config.ssl = listener.tls
        return _Uvicorn(config)

    def _app_at(self, at: HttpAddress) -> ASGIApp:
        """Without tokens, only under names of its own: a page of another site, whose name leads here, is no caller."""
        anybody = self._web.tokens is not None or at.address.kind == "unix" or self._insecure
        return Door(self._web, self.limits.head_bytes_max, None if anybody else (*at.names, *self._hosts))

    async def _started(self) -> None:
        while not all(server.started for server in self._servers):
            for task in self._tasks:
                if task.done():
                    await task
            await anyio.sleep(_STARTING_SECONDS)

    async def _stop(self) -> None:
        left = len(self.connections)
        await self._close()
        if self._sweeping is not None:
            await cancelled([self._sweeping])
        lost = self._dropped["drain_seconds_max"]
        self._observer.server_stopped(addresses=self._listened_at, connections=left, connections_lost=lost)

    async def _close(self) -> None:
        self._web.end_streams()
        for server in self._servers:
            server.should_exit = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.limits.drain_seconds_max)
        for connection in list(self.connections):
            connection.abort("drain_seconds_max")
        for server in self._servers:
            for task in list(server.server_state.tasks):
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for listener in self._listeners:
            listener.close()

    @property
    def _listened_at(self) -> list[str]:
        return [str(each) for each in self.addresses]
