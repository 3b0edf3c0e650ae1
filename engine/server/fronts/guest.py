"""What stands in the writer's process for a connection of a front.

Here: what its requests have under way, and whether it takes more of what it is sent. Methods see it as a `Peer`, so a
connection of a front has the same share of what all have in common, its streams, and its place at the mailbox's door.
Not here: the stream that its replies go into (`link`).

Invariant: of what is sent to it and counts, answers that are not small and notifications, no more than
``output_bytes_max`` is on its way before its front says that it was taken; one answer may exceed that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import anyio
import msgspec
from msgspec import Raw

from millstream.engine.errors import MillstreamError, NotPermitted
from millstream.engine.loop.clock import elapsed
from millstream.engine.server.fronts.notes import Held, Over
from millstream.engine.server.intake import LARGE_BYTES
from millstream.engine.server.output import Batch
from millstream.engine.server.peer import PeerHost
from millstream.engine.server.running import Running
from millstream.engine.wire import Malformed
from millstream.engine.wire.messages import Result, failure_of

__all__ = ["Guest", "Sending"]

#: What is smaller does not count as output that waits.
_SMALL_BYTES = 1_024
_STREAMS = frozenset(("watch", "follow"))

_encode = msgspec.json.Encoder().encode


class Sending(Protocol):
    """The stream, as a guest knows it."""

    #: Its front takes nothing just now.
    is_slow: bool

    #: Sends a reply, together with all others of this turn.
    put: Callable[[Any], None]

    @property
    def host(self) -> PeerHost:
        """The server."""
        ...

    def handlers_of(self, role: str | None) -> Any:
        """What a role may do, by class of request."""
        ...

    def answer(self, line: bytes) -> None: ...
    def notification(self, number: int, line: bytes) -> int: ...
    def note(self, note: Any) -> None: ...


class Guest(Running):
    """One connection of a front.

    Args:
        link: the stream to its front.
        number: the front's for it.
        role: what it may do.
    """

    def __init__(self, link: Sending, number: int, role: str | None) -> None:
        limits = link.host.limits
        super().__init__(limits.connection_watches_max)
        self.server = link.host
        self.number = number
        self.in_flight = 0
        self.questions = 0
        self.waits: set[anyio.CancelScope] = set()
        self.reason: str | None = None
        #: It takes no answer any more, and what it has asked and is not decided is not wanted.
        self.is_gone = False
        self._link = link
        self._put = link.put
        self._limits = limits
        self._in_flight_max = limits.in_flight_max
        self._output_bytes_max = limits.output_bytes_max
        self._is_ending = False
        self._is_held = False
        self._is_scheduled = False
        self._line_bytes = 0
        self._owed_bytes = 0
        self._room: list[asyncio.Future[None]] = []
        self._backlog: deque[tuple[Any, int]] = deque()
        self.become(role)

    # What its front says of it.

    def become(self, role: str | None) -> None:
        """Do what this role may do, from the next request on."""
        self.role = role
        self._handlers = self._link.handlers_of(role)

    def took(self, size_bytes: int) -> None:
        """So much of what was sent to it was taken."""
        self._owed_bytes -= size_bytes
        self.look()

    def look(self) -> None:
        """Go on, if it takes what it is sent."""
        if self.has_room:
            for each in self._room:
                if not each.done():
                    each.set_result(None)
            self._room.clear()
            if self._backlog:
                self._schedule()

    def ending(self, reason: str | None) -> None:
        """It sends no more, or is to send no more."""
        self.reason = self.reason or reason
        self._is_ending = True
        self._end_streams_soon()

    def give_up(self) -> None:
        """Its questions have waited long enough."""
        for scope in self.waits:
            scope.cancel()

    def leave(self, *, is_gone: bool) -> None:
        """Its answers are not taken any more.

        Args:
            is_gone: the connection is closed, so what is not decided yet is not wanted. Else its front is lost, and who
                has called does not know what was taken: what is in the mailbox is decided.
        """
        self.is_gone = is_gone
        self._backlog.clear()
        self._cancel_all()
        for each in self._room:
            if not each.done():
                each.set_result(None)

    # Taking requests up.

    def take(self, request: Any, line_bytes: int) -> None:
        """Take a request up, now or in its turn."""
        if (  # `_may_take`, without the calls: 0.1 µs of every command
            self._backlog
            or self._is_held
            or self.in_flight >= self._in_flight_max
            or self._owed_bytes >= self._output_bytes_max
            or self._link.is_slow
        ):
            self._backlog.append((request, line_bytes))
        else:
            self._do(request, line_bytes)

    def work(self) -> None:
        """Take up what waits, as far as this connection may."""
        self._is_scheduled = False
        limits, backlog = self._limits, self._backlog
        requests, until = limits.turn_requests_max, elapsed() + limits.turn_ms_max / 1e3
        while backlog and self._may_take:
            if not requests:
                self._schedule()
                return
            self._do(*backlog.popleft())
            requests = requests - 1 if elapsed() < until else 0

    def hold(self, held: bool) -> None:
        """A command of it waits for room in the mailbox, or does no more: its front holds it meanwhile."""
        if held != self._is_held:
            self._is_held = held
            self._link.note(Held(self.number, held))

    def go_on(self, request: Any, batch: Batch | None) -> None:
        """Take a request up once more, before any other, when its turn comes again."""
        self._backlog.appendleft((request, self._line_bytes))
        self._schedule()

    def large_bytes(self, batch: Batch | None, commands: int = 1) -> int:
        """What the request that is taken up just now has of its line, if that is large; else 0."""
        size = self._line_bytes
        return size if commands == 1 else size // commands if size > commands * LARGE_BYTES else 0

    def end(self, reason: str, last: MillstreamError | None = None) -> None:
        """Not here: its front ends it."""
        raise NotImplementedError

    @property
    def has_room(self) -> bool:
        """Whether it takes what it is sent."""
        return self._owed_bytes < self._output_bytes_max and not self._link.is_slow

    @property
    def _may_take(self) -> bool:
        return not self._is_held and self.in_flight < self._in_flight_max and self.has_room

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self.work)

    def _do(self, request: Any, line_bytes: int) -> None:
        handler = self._handlers.get(request.__class__)
        self._line_bytes = line_bytes
        try:
            if handler is None:
                raise self._refusal(request)
            handler(self, request, None)
        except Exception as error:  # noqa: BLE001 - sent to the caller
            self.fail(request.id, error, None)
            if request.__class__.__name__ in _STREAMS:
                self._link.note(Over(self.number))
        if line_bytes:
            self._line_bytes = 0

    def _refusal(self, request: Any) -> MillstreamError:
        if isinstance(request, Malformed):
            return request.error
        return NotPermitted(request.__struct_config__.tag, "none" if self.role is None else str(self.role))

    # Replies.

    def reply(self, to: Any, result: Any, batch: Batch | None) -> None:
        """Answer a request.

        Raises:
            Exception: the result can't be written as JSON.
        """
        line = _encode(Result(to, result))
        if len(line) < _SMALL_BYTES:
            self._put(Raw(line))
        else:
            self._owed_bytes += len(line)
            self._link.answer(line)

    def fail(self, to: Any, error: BaseException, batch: Batch | None) -> None:
        """Answer a request with an error."""
        self.server.failed(error)
        self._put(Raw(failure_of(to, error)))

    def confirm(self, to: Any, result: Any, batch: Batch | None, size: int = 0) -> None:
        """Answer with what can surely be written: all that are due are written together."""
        self._put(Result(to, result))

    def settle(self, to: Any, receipt: Any, batch: Batch | None) -> None:
        """Answer a command that was in flight."""
        self._put(Result(to, receipt))
        self.in_flight -= 1
        if self._backlog:
            self._schedule()

    def settle_many(self, to: Any, result: Any, batch: Batch | None, commands: int) -> None:
        """Answer a request with so many commands that were in flight."""
        self._put(Raw(_encode(Result(to, result))))
        self.settled(commands)

    def settled(self, requests: int = 1) -> None:
        """So many requests less in flight."""
        self.in_flight -= requests
        if self._backlog:
            self._schedule()

    def notify(self, number: int, line: bytes) -> None:
        """Send a notification of a stream, unless it was ended."""
        if number in self.streams:
            self._owed_bytes += self._link.notification(self.number, line)

    async def writable(self) -> None:
        """Wait until it takes what it is sent, or is gone."""
        while not self.has_room and not self.is_gone:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room

    # Streams.

    @property
    def may_stream(self) -> bool:
        """Whether a stream may begin."""
        return not self._is_ending and not self.is_gone

    def stream(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """As in `Running`; when it is over its front learns of it."""
        task = super().stream(work)
        task.add_done_callback(lambda _: self._link.note(Over(self.number)))
        return task

    def task_ended(self) -> None:
        """Its front looks whether it is done."""
