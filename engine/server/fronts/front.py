"""A front: sockets that take connections, and pass what is good on to the writer's process."""

from __future__ import annotations

import asyncio
import socket
import ssl
import traceback
from collections.abc import Sequence, Set

from millstream.engine.application.app import App
from millstream.engine.observers import Observer
from millstream.engine.server.connection import Connection
from millstream.engine.server.fronts.connection import FrontConnection
from millstream.engine.server.fronts.notes import (
    AcceptFailed,
    Arrived,
    Dropped,
    Failed,
    Gone,
    Held,
    NeverCame,
    Note,
    Over,
    Ready,
    Stop,
    Welcome,
)
from millstream.engine.server.fronts.reader import FrontReader, passing_classes
from millstream.engine.server.fronts.uplink import Uplink
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import Listener
from millstream.engine.server.methods import authenticator, describer
from millstream.engine.server.output import Batch
from millstream.engine.server.sockets import Sockets
from millstream.engine.server.tokens import MAY, Role, Tokens
from millstream.engine.wire import Requests

__all__ = ["Front"]

#: What a front does itself. All else is passed on.
_OWN = frozenset(("authenticate", "describe", "rpc.discover"))


class Front(Sockets):
    """One front.

    Args:
        app: the application.
        tokens: those that it knows.
        limits: the server's.
        listeners: what it accepts from.
    """

    def __init__(self, app: App, tokens: Tokens | None, limits: ServerLimits, listeners: Sequence[Listener]) -> None:
        requests = Requests(app, limits.in_flight_max)
        super().__init__(limits, _Telling(self), requests)
        passing = passing_classes(requests.types.keys() - _OWN)
        reader = FrontReader(requests, passing)
        may: dict[str | None, Set[str]] = dict(MAY)
        for role in () if tokens is None else tokens.roles:
            may[role] = MAY[Role.WRITER]  # what it may send is judged in the writer's process
        self.readers = {**dict.fromkeys(may, reader), None: FrontReader(requests.only(MAY[None]), passing)}
        describing = describer(app)
        own = {"authenticate": authenticator(tokens), "describe": describing, "rpc.discover": describing}
        self.handlers = {
            role: {
                **{requests.types[name]: own[name] for name in names & _OWN},
                **{passing[name]: _pass_on for name in names - _OWN},
            }
            for role, names in may.items()
        }
        self.first_role = Role.WRITER if tokens is None else None
        self.uplink = Uplink(limits.front_bytes_max, self._numbered, self._told, self._lost)
        #: The writer's process is gone, or has no use for this one any more.
        self._over = asyncio.Event()
        self._listeners = list(listeners)
        self._by_number: dict[int, FrontConnection] = {}
        self._number = 0
        self._asking: dict[int, asyncio.Future[bool]] = {}
        self._stopping: asyncio.Task[None] | None = None

    async def serve(self, stream: socket.socket) -> bool:
        """Take connections until the writer's process says to stop, or is gone; returns whether it said so."""
        stream.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.uplink, stream)
        self.begin()
        self.uplink.note(Ready())
        await self._over.wait()
        return self._stopping is not None and self._stopping.done()

    # What connections call.

    def admit(self, connection: Connection) -> bool:
        """Take a new connection in, as the writer's process has said."""
        assert isinstance(connection, FrontConnection)
        self.connections.add(connection)
        self._by_number[connection.number] = connection
        return connection.is_room

    def gone(self, connection: Connection, reason: str | None) -> None:
        """A connection has ended; for a reason, if it was us."""
        assert isinstance(connection, FrontConnection)
        self.connections.discard(connection)
        self._by_number.pop(connection.number, None)
        self.uplink.note(Gone(connection.number, reason))

    def drop(self, reason: str) -> None:
        """What never was a connection was ended for this reason: the writer's process counts it."""
        self.uplink.note(Dropped(reason, 1))

    def sweep(self, now: float) -> None:
        """As without fronts; and questions of those who sent their last are given up in the writer's process."""
        super().sweep(now)
        for connection in self._by_number.values():
            if connection.is_waiting_since(self.limits.ended_seconds_max, now):
                connection.give_up()

    # Accepting.

    async def _take_in(self, peer: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._number = number = self._number + 1
        is_known = False
        try:
            is_room = await self._is_room(number)
            if tls is not None and not is_room:
                peer.close()
                self.drop("connections_max")
                return

            def made() -> Connection:
                return FrontConnection(self, self.uplink, number, is_room=is_room, is_tls=tls is not None)

            await self._connect(peer, tls, made)
            is_known = number in self._by_number
        finally:
            self._asking.pop(number, None)
            if not is_known and number not in self._by_number:
                self.uplink.note(NeverCame(number))

    def _is_full(self) -> bool:
        return False  # the writer's process knows

    async def _is_room(self, number: int) -> bool:
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asking[number] = asked
        self.uplink.note(Arrived(number))
        return await asked

    # What the writer's process says.

    def _numbered(self, number: int) -> FrontConnection | None:
        return self._by_number.get(number)

    def _told(self, note: Note) -> None:
        if isinstance(note, Stop):
            self._stopping = asyncio.get_running_loop().create_task(self._stop(), name="millstream-front-stopping")
        elif isinstance(note, Welcome):
            asked = self._asking.get(note.number)
            if asked is not None and not asked.done():
                asked.set_result(note.is_room)
        elif isinstance(note, Held | Over):
            connection = self._by_number.get(note.number)
            if connection is None:
                return
            if isinstance(note, Held):
                connection.hold_for("mailbox", note.held)
            else:
                connection.over()

    async def _stop(self) -> None:
        await self.end_all()
        self.uplink.close()

    def _lost(self) -> None:
        self._over.set()


def _pass_on(connection: FrontConnection, request: object, batch: Batch | None) -> None:
    connection.pass_on(request, batch)  # type: ignore[arg-type]


class _Telling(Observer):
    """Passes on to the writer's process what it is called with."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def accept_failed(self, *, error: BaseException, connections: int) -> None:
        """Tell it."""
        self._front.uplink.note(AcceptFailed(repr(error), connections))

    def request_failed(self, *, error: BaseException) -> None:
        """Tell it."""
        self._front.uplink.note(Failed("".join(traceback.format_exception(error))))
