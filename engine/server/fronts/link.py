"""The writer's end of the stream to a front.

Here: requests in, in turns; replies out, those of a turn of the loop together. Not here: what a request leads to
(`guest`), and the process at the other end (`process`).

Invariant: what was read and not taken up is never more than one read brought: nothing is read meanwhile. While its
front does not take what it is sent, nothing is read from it either.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Protocol, cast

import msgspec

from millstream.engine.loop.clock import elapsed
from millstream.engine.server.fronts.frames import (
    ANSWER,
    LARGE,
    NOTIFICATION,
    REPLIES,
    REQUESTS,
    BrokenStream,
    Frame,
    Frames,
    Outgoing,
)
from millstream.engine.server.fronts.guest import Guest
from millstream.engine.server.fronts.notes import (
    Arrived,
    Became,
    Ending,
    GivenUp,
    Gone,
    NeverCame,
    Note,
    Ready,
    Took,
    Unready,
    Welcome,
    read_notes,
)
from millstream.engine.server.limits import ServerLimits
from millstream.engine.wire import Requests

__all__ = ["Link", "LinkHost"]

_NUMBER_BITS = 32
_number = Struct(">Q")
#: Requests that are taken up before anybody looks at the clock.
_AT_ONCE = 64


class LinkHost(Protocol):
    """What a link needs of all fronts together."""

    @property
    def limits(self) -> ServerLimits:
        """Bounds of the server."""
        ...

    @property
    def requests(self) -> Requests:
        """How requests are read."""
        ...

    @property
    def first_role(self) -> str | None:
        """The role of a connection that has not authenticated."""
        ...

    def handlers_of(self, role: str | None) -> Any:
        """What a role may do, by class of request."""
        ...

    def failed(self, error: BaseException) -> None: ...
    def arrived(self) -> bool: ...
    def never_came(self) -> None: ...
    def left(self, guest: Guest, reason: str | None) -> None: ...
    def told(self, link: Link, note: Note) -> None: ...


class Link(asyncio.Protocol):
    """One stream.

    Args:
        host: all fronts.
        front: the number of this one.
    """

    def __init__(self, host: LinkHost, front: int) -> None:
        self.host = host
        self.front = front
        self.guests: dict[int, Guest] = {}
        #: Why its front is not there, or None once it is.
        self.ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.is_closed = False
        #: Since when its front does not take what it is sent, on the clock `elapsed`.
        self.slow_since: float | None = None
        self.is_slow = False
        self._frames = Frames()
        self._todo: deque[Frame] = deque()
        self._requests: deque[Any] = deque()
        self._is_scheduled = False
        self._is_reading = True
        self._outgoing = Outgoing(REPLIES, msgspec.json.Encoder().encode_lines, self._flush_soon)
        #: Sends a reply, together with all others of this turn.
        self.put: Callable[[Any], None] = self._outgoing.put
        self._transport: asyncio.Transport | None = None

    def handlers_of(self, role: str | None) -> Any:
        """What a role may do, by class of request."""
        return self.host.handlers_of(role)

    # What goes out.

    def answer(self, line: bytes) -> None:
        """Send a reply that counts."""
        self._outgoing.frame(ANSWER, line)

    def notification(self, number: int, line: bytes) -> int:
        """Send a notification; returns what it counts."""
        payload = _number.pack(number) + line
        self._outgoing.frame(NOTIFICATION, payload)
        return len(payload)

    def note(self, note: Note) -> None:
        """Tell something."""
        self._outgoing.note(note)

    def abort(self) -> None:
        """Drop the front at once."""
        if self._transport is not None:
            self._transport.abort()

    def _flush_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        data = self._outgoing.take()
        if not self.is_closed and self._transport is not None:
            self._transport.write(data)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=self.host.limits.front_bytes_max)

    def pause_writing(self) -> None:
        self.is_slow, self.slow_since = True, elapsed()

    def resume_writing(self) -> None:
        self.is_slow, self.slow_since = False, None
        for guest in list(self.guests.values()):
            guest.look()
        self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed, self.is_slow = True, False
        self._todo.clear()
        self._requests.clear()
        for guest in list(self.guests.values()):
            self._leave(guest, "front_lost", is_gone=False)
        if not self.ready.done():
            self.ready.set_result("")

    def data_received(self, data: bytes) -> None:
        try:
            self._todo.extend(self._frames.feed(data))
        except BrokenStream as error:
            self.host.failed(error)
            self.abort()
            return
        if not self._is_scheduled:
            self._work()

    # Taking up.

    def _work(self) -> None:
        """Take up what was read, for a turn; then read on, or don't."""
        self._is_scheduled = False
        until = elapsed() + self.host.limits.turn_ms_max / 1e3
        while not self.is_slow and (self._requests or self._todo):
            if not self._requests:
                self._open(self._todo.popleft())
            self._take_some()
            if elapsed() > until and (self._requests or self._todo):
                self._schedule()
                break
        self._read(not (self._requests or self._todo or self.is_slow))

    def _take_some(self) -> None:
        requests, guests = self._requests, self.guests
        for _ in range(min(len(requests), _AT_ONCE)):
            request = requests.popleft()
            guest = guests.get(request.id >> _NUMBER_BITS)
            if guest is not None:
                guest.take(request, 0)

    def _open(self, frame: Frame) -> None:
        kind, payload = frame
        if kind == REQUESTS:
            found = self.host.requests.read_lines(payload)
            if found is None:
                found = [self.host.requests.read(line) for line in payload.split(b"\n") if line]
            self._requests.extend(found)
        elif kind == LARGE:
            request = self.host.requests.read(payload)
            guest = self.guests.get(request.id >> _NUMBER_BITS)
            if guest is not None:
                guest.take(request, len(payload))
        else:
            for note in read_notes(payload):
                self._told(note)

    def _told(self, note: Note) -> None:
        if isinstance(note, Ready | Unready):
            if not self.ready.done():
                self.ready.set_result(note.problem if isinstance(note, Unready) else None)
        elif isinstance(note, Arrived):
            self.guests[note.number] = Guest(self, note.number, self.host.first_role)
            self.note(Welcome(note.number, self.host.arrived()))
        elif isinstance(note, Gone | NeverCame | Became | Took | Ending | GivenUp):
            guest = self.guests.get(note.number)
            if guest is not None:
                self._told_of(guest, note)
        else:
            self.host.told(self, note)

    def _told_of(self, guest: Guest, note: Gone | NeverCame | Became | Took | Ending | GivenUp) -> None:
        if isinstance(note, Gone):
            self._leave(guest, note.reason, is_gone=True)
        elif isinstance(note, NeverCame):
            self._leave(guest, None, is_gone=True)
            self.host.never_came()
        elif isinstance(note, Became):
            guest.become(note.role)
        elif isinstance(note, Took):
            guest.took(note.size_bytes)
        elif isinstance(note, Ending):
            guest.ending(note.reason)
        else:
            guest.give_up()

    def _leave(self, guest: Guest, reason: str | None, *, is_gone: bool) -> None:
        del self.guests[guest.number]
        guest.leave(is_gone=is_gone)
        self.host.left(guest, reason)

    def _schedule(self) -> None:
        if not self._is_scheduled and not self.is_closed:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _read(self, wanted: bool) -> None:
        if wanted == self._is_reading or self._transport is None or self._transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
