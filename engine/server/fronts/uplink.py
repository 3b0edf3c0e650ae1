"""A front's end of the stream to the writer's process.

Here: requests out, replies to whose they are, and what the writer's process says beside them. Not here: what a
connection makes of it (`connection`). Its end is the end of the front.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Protocol, cast

from millstream.engine.server.fronts.frames import ANSWER, LARGE, NOTIFICATION, REPLIES, REQUESTS, Frames, Outgoing
from millstream.engine.server.fronts.notes import Note, read_notes

__all__ = ["NUMBER_BITS", "PREFIX", "Relayed", "Uplink"]

#: The id of a request on the stream: the number of its connection, and then so many bits for its own.
NUMBER_BITS = 32
#: How every reply begins: then its id follows.
PREFIX = b'{"jsonrpc":"2.0","id":'
_AFTER = len(PREFIX)
_SEQUENCE = (1 << NUMBER_BITS) - 1
_NUMBER = Struct(">Q")


class Relayed(Protocol):
    """A connection, as far as the stream knows it."""

    def relay(self, sequence: int, rest: bytes, owed_bytes: int = 0) -> None: ...
    def relay_notification(self, line: bytes, owed_bytes: int) -> None: ...
    def hold_for(self, why: str, held: bool) -> None: ...


class Uplink(asyncio.Protocol):
    """The stream.

    Args:
        bytes_max: how much may wait to be sent before nothing more is passed on.
        numbered: finds a connection by its number, if it is still there.
        noted: is given each note.
        lost: is called when the writer's process is gone.
    """

    def __init__(
        self,
        bytes_max: int,
        numbered: Callable[[int], Relayed | None],
        noted: Callable[[Note], None],
        lost: Callable[[], None],
    ) -> None:
        #: Whether it has as much to send as it may.
        self.is_full = False
        self._bytes_max = bytes_max
        self._numbered = numbered
        self._noted = noted
        self._lost = lost
        self._frames = Frames()
        self._outgoing = Outgoing(REQUESTS, b"".join, self._flush_soon)
        self._waiting: list[Relayed] = []
        self._transport: asyncio.Transport | None = None

    # What goes out.

    def send(self, line: bytes, *, is_large: bool) -> None:
        """Pass a request on: a line with its end."""
        if is_large:
            self._outgoing.frame(LARGE, line)
        else:
            self._outgoing.put(line)

    def note(self, note: Note) -> None:
        """Tell something."""
        self._outgoing.note(note)

    def wait(self, connection: Relayed) -> None:
        """Hold a connection no more once there is room again."""
        self._waiting.append(connection)

    def close(self) -> None:
        """Send what waits, and nothing more."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        data = self._outgoing.take()
        if data and self._transport is not None:
            self._transport.write(data)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=self._bytes_max)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.hold_for("stream", False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def data_received(self, data: bytes) -> None:
        for kind, payload in self._frames.feed(data):
            if kind == REPLIES:
                for line in payload.split(b"\n"):
                    if line:
                        self._reply(line, 0)
            elif kind == ANSWER:
                self._reply(payload, len(payload))
            elif kind == NOTIFICATION:
                connection = self._numbered(_NUMBER.unpack_from(payload)[0])
                if connection is not None:
                    connection.relay_notification(payload[_NUMBER.size :], len(payload))
            else:
                for note in read_notes(payload):
                    self._noted(note)

    def _reply(self, line: bytes, owed_bytes: int) -> None:
        end = line.index(b",", _AFTER)
        to = int(line[_AFTER:end])
        connection = self._numbered(to >> NUMBER_BITS)
        if connection is not None:
            connection.relay(to & _SEQUENCE, line[end:], owed_bytes)
