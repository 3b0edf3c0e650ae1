"""From addresses to a connection that may be used: attempts, waits between them, the token, and where to go next.

Here: which of several servers is tried, and how often. Not here: what is sent (`link`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

import anyio
from msgspec import Raw

from millstream.engine.client.backoff import Outage
from millstream.engine.client.connection import Connection, Host
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.sockets import client_tls, dial, settled, text_of
from millstream.engine.errors import (
    ConnectionLost,
    DefinitionError,
    EngineClosed,
    Fenced,
    MillstreamError,
    NotAuthenticated,
    NotLeader,
    WrongShard,
)
from millstream.engine.loop.clock import elapsed
from millstream.engine.observers import Observer
from millstream.engine.wire.address import Address, parse_address

__all__ = ["Reach"]

#: For how many ``quiet_seconds_max`` a server that said nothing is not gone back to; it was left after as many, or one
#: more.
_SILENCES = 2


class Reach:
    """Connects to one of some servers, again and again: to the one that was there last, as long as that is.

    Args:
        addresses: where they are.
        token: who calls, where the server wants to know.
        tls: for ``tls://``; `client_tls` without anything by default.
        limits: the client's.
        observer: is called when there is a connection again.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        token: str | None,
        tls: ssl.SSLContext | None,
        limits: ClientLimits,
        observer: Observer,
    ) -> None:
        self._observer = observer
        self.outage = Outage(limits)
        self._given = [*addresses]
        #: The one that is tried next, and those after it.
        self._next = [*addresses]
        self._name = ", ".join(map(str, addresses))
        #: The one that was left as it said nothing, and until when no other one's word leads back there.
        self._silent: Address | None = None
        self._silent_until = 0.0
        self._token = token
        self._tls = (tls or client_tls()) if any(address.kind == "tls" for address in addresses) else None
        self._limits = limits
        #: How many there were.
        self.connections = 0
        #: Is called with a server's address and what it says of its application, before it is used; raises `WrongShard`
        #: where that is not the one that is wanted.
        self.require: Callable[[str, Raw], None] | None = None

    def leads_on(self, error: MillstreamError) -> bool:
        """Whether a server that refuses a command so is not the one that takes it, and there is another to ask.

        Its word is that nothing of the command happened: it does not write, or does not any more.
        """
        if isinstance(error, NotLeader):
            return len(self._given) > 1 or self._told(error) is not None
        return len(self._given) > 1 and isinstance(error, Fenced | EngineClosed)

    def move(self, error: MillstreamError | None = None) -> None:
        """The server that is connected is not the one to ask, for what it said, or as it says nothing: try another one
        next.

        One that said nothing may be stopped, or cut off, and keeps the log until its lease runs out. Those that stand
        by name it so long. They are asked again meanwhile, as each connection to a stopped server costs that time anew.
        """
        told, silent = self._told(error), None
        here, *others = self._next
        if error is None:
            self._silent, self._silent_until = here, elapsed() + _SILENCES * self._limits.quiet_seconds_max
        elif elapsed() < self._silent_until and self._silent != here:
            silent = self._silent
            if told == silent:
                return
        self._next = [*others, here] if here in self._given else others
        if told is not None and told != here:
            self._next = [told, *(each for each in self._next if each != told)]
        if silent in self._next:
            self._next = [*(each for each in self._next if each != silent), silent]

    def _told(self, error: MillstreamError | None) -> Address | None:
        """Where the server says that the writer is: by an address of a kind that the client was given."""
        if not isinstance(error, NotLeader) or error.address is None:
            return None
        try:
            told = parse_address(error.address)
        except DefinitionError:
            return None
        is_known = told in self._given
        is_alike = told.kind != "unix" and any(address.kind == told.kind for address in self._given)
        return told if is_known or is_alike else None

    async def connect(self, host: Host, *, once: bool = False) -> Connection:
        """A connection of this owner, however many attempts it takes.

        Raises:
            ConnectionLost: no server was in reach for too long, or at the first attempt at each if there is only one.
            NotAuthenticated: one does not know the token.
            WrongShard: one has another log than the one that is wanted.
        """
        outage = self.outage
        self._given, self._next = [*map(settled, self._given)], [*map(settled, self._next)]
        while (seconds := outage.wait(elapsed())) is not None:
            if seconds:
                await anyio.sleep(seconds)
            for _ in range(len(self._next)):  # each of them, and then a wait
                address = self._next[0]
                try:
                    connection = await self._attempt(host, address)
                except (NotAuthenticated, WrongShard):
                    raise
                except MillstreamError as error:
                    if len(self._next) == 1:  # the server's own word: it is there
                        raise
                    outage.problem = str(error)
                except Exception as error:  # noqa: BLE001 - whatever is in the way, calls that wait get it
                    outage.problem = text_of(error)
                else:
                    outage.connected(elapsed())
                    if self.connections:
                        self._observer.connected_again(address=str(address))
                    self.connections += 1
                    return connection
                self._next = [*self._next[1:], *([address] if address in self._given else [])]
            if once:
                outage.end()
                break
        raise ConnectionLost(self._name, outage.problem, sent=False)

    async def _attempt(self, host: Host, address: Address) -> Connection:
        connection: Connection | None = None
        seconds = self._limits.connect_seconds_max
        try:
            with anyio.move_on_after(seconds):
                tls = self._tls if address.kind == "tls" else None
                connection = await dial(address, lambda: Connection(host, self._limits), tls)
                if self._token is not None:
                    await connection.authenticate(self._token)
                if self.require is not None:
                    self.require(str(address), await connection.ask("describe"))
                if connection.closed.done():
                    raise ConnectionResetError(connection.problem)
                return connection
            raise TimeoutError(f"there was no connection within connect_seconds_max={seconds:g}")
        except BaseException:
            if connection is not None:
                connection.transport.abort()
            raise
