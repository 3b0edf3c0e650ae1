"""From an address to a connection that may be used: attempts, waits between them, and the token."""

from __future__ import annotations

import ssl

import anyio

from millstream.engine.client.backoff import Outage
from millstream.engine.client.connection import Connection, Host
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.sockets import client_tls, dial, settled, text_of
from millstream.engine.errors import ConnectionLost, MillstreamError
from millstream.engine.loop.clock import elapsed
from millstream.engine.observers import Observer
from millstream.engine.wire.address import Address

__all__ = ["Reach"]


class Reach:
    """Connects to one server, again and again.

    Args:
        address: where it is.
        token: who calls, where the server wants to know.
        tls: for ``tls://``; `client_tls` without anything by default.
        limits: the client's.
        observer: is called when there is a connection again.
    """

    def __init__(
        self,
        address: Address,
        token: str | None,
        tls: ssl.SSLContext | None,
        limits: ClientLimits,
        observer: Observer,
    ) -> None:
        self._observer = observer
        self.outage = Outage(limits)
        self._address = address
        self._name = str(address)
        self._token = token
        self._tls = (tls or client_tls()) if address.kind == "tls" else None
        self._limits = limits
        self._was_connected = False

    async def connect(self, host: Host, *, once: bool = False) -> Connection:
        """A connection of this owner, however many attempts it takes.

        Raises:
            ConnectionLost: the server was out of reach for too long, or at the first attempt if there is only one.
            NotAuthenticated: it does not know the token.
        """
        outage, self._address = self.outage, settled(self._address)
        while (seconds := outage.wait(elapsed())) is not None:
            if seconds:
                await anyio.sleep(seconds)
            try:
                connection = await self._attempt(host)
            except MillstreamError:  # the server's own word: it is there
                raise
            except Exception as error:  # noqa: BLE001 - whatever is in the way, calls that wait get it as the reason
                outage.problem = text_of(error)
            else:
                outage.connected(elapsed())
                if self._was_connected:
                    self._observer.connected_again(address=self._name)
                self._was_connected = True
                return connection
            if once:
                outage.end()
                break
        raise ConnectionLost(self._name, outage.problem, sent=False)

    async def _attempt(self, host: Host) -> Connection:
        connection: Connection | None = None
        seconds = self._limits.connect_seconds_max
        try:
            with anyio.move_on_after(seconds):
                connection = await dial(self._address, lambda: Connection(host, self._limits), self._tls)
                if self._token is not None:
                    await connection.authenticate(self._token)
                if connection.closed.done():
                    raise ConnectionResetError(connection.problem)
                return connection
            raise TimeoutError(f"there was no connection within connect_seconds_max={seconds:g}")
        except BaseException:
            if connection is not None:
                connection.transport.abort()
            raise
