"""The server: listens, keeps its connections within bounds, and ends in good order.

Invariants: nothing of it grows beyond `ServerLimits`; what was taken is answered before it closes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from millstream.engine.application.app import App
from millstream.engine.errors import DefinitionError, EngineClosed
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.server.backend import Backend
from millstream.engine.server.connection import Connection
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import listen
from millstream.engine.server.methods import Methods
from millstream.engine.server.sockets import Sockets
from millstream.engine.server.stats import ServerStats
from millstream.engine.server.tokens import MAY, Role, Tokens
from millstream.engine.wire import Address, Requests, parse_address
from millstream.engine.wire.address import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from millstream.engine.server.fronts.fronts import Fronts

__all__ = ["Server"]


class Server(Sockets):
    """Serves an engine or a replica over sockets: ``async with Engine(…) as engine, Server(engine) as server``.

    It speaks JSON-RPC 2.0, a message a line; `Client` speaks it too. Entering listens, leaving stops: no connection is
    accepted any more, what was taken is answered, then connections are closed. Leave it before the engine.

    Args:
        backend: an open `Engine` or `Replica`.
        listen: addresses: ``tcp://HOST:PORT``, ``tls://HOST:PORT``, ``unix://PATH``. Port 0 takes a free one.
        tokens: who may do what; without them, every caller that can connect may do everything.
        tls: for ``tls://``; see `tls_context`.
        unix_mode: the permissions of a Unix socket.
        insecure: listen to other machines even without tokens or TLS.
        limits: the bounds.
        fronts: how many processes take the connections, check tokens, read and check lines, and write replies: for a
            machine with cores to spare. 0: this one does. docs/how-to/serving.md says when that pays.

    Raises:
        DefinitionError: an address is none; or there are to be front processes, and they can't be had: on this system,
            for this application, or with this TLS. On entering: an address can't be listened on, or is open to other
            machines without tokens or TLS.
        FrontFailed (on entering): a front process could not be started.
        WrongLoop (on entering): the backend was opened on another event loop.
        EngineClosed (on entering): it has served before.
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
        fronts: int = 0,
    ) -> None:
        limits = limits or ServerLimits()
        super().__init__(limits, backend.observers, Requests(backend.app, limits.in_flight_max))
        self._require_loop = backend.require_loop
        self._methods = Methods(backend, self.requests, tokens, self.limits, self.stats)
        self.handlers = self._methods.handlers
        self.readers = {**dict.fromkeys(self.handlers, self.requests), None: self.requests.only(MAY[None])}
        self.first_role = Role.WRITER if tokens is None else None
        #: Where it listens, with the ports that it got.
        self.addresses: list[Address] = []
        self._listen = [parse_address(each) if isinstance(each, str) else each for each in listen]
        if not self._listen:
            raise DefinitionError("a server listens on at least one address", "Server")
        self._tokens = tokens
        self._tls = tls
        self._unix_mode = unix_mode
        self._insecure = insecure
        self._is_served = False
        self._stopping: asyncio.Task[None] | None = None
        self._fronts = None if fronts == 0 else self._with_fronts(backend.app, fronts)

    async def __aenter__(self) -> Self:
        if self._is_served:
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
            if self._fronts is not None:
                await self._fronts.start(self._listeners)
        except BaseException:
            self._stop_listening()
            raise
        self._is_served = True
        self.addresses += [listener.address for listener in self._listeners]
        if self._fronts is None:
            self.begin()
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
        if self._fronts is not None:
            return self._fronts.stats()
        return ServerStats(
            connections=len(self.connections),
            connections_max=self.limits.connections_max,
            in_flight=sum(connection.in_flight for connection in self.connections),
            watches=sum(len(connection.streams) for connection in self.connections),
            accepted=self._accepted,
            dropped=dict(self._dropped),
        )

    def _with_fronts(self, app: App, fronts: int) -> Fronts:
        from millstream.engine.server.fronts.fronts import Fronts  # noqa: PLC0415 - who has none loads nothing of it

        return Fronts(fronts, app, self, self._observer, self._methods.commands, self._tokens, self._tls)

    def sweep(self, now: float) -> None:
        """End what has had its time; see `Sockets.sweep` and `Fronts.sweep`."""
        if self._fronts is None:
            super().sweep(now)
        else:
            self._fronts.sweep(now)

    def forget(self, connection: Connection) -> None:
        """A connection is gone: its commands that wait at the door do not get in."""
        if self._methods.commands is not None:
            self._methods.commands.forget(connection)

    async def _stop(self) -> None:
        if self._fronts is not None:
            self._stop_listening()
            left, lost = await self._fronts.stop()
        else:
            left = await self.end_all()
            lost = self._dropped["drain_seconds_max"]
        if self._methods.commands is not None:
            await self._methods.commands.close()
        self._observer.server_stopped(addresses=self._listened_at, connections=left, connections_lost=lost)

    @property
    def _listened_at(self) -> list[str]:
        return [str(each) for each in self.addresses]
