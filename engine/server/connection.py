"""One connection: bytes in, requests taken up in turn, replies out.

Here: when a connection reads, waits, and ends. Not here: what a method does (`methods`), what a request is (`wire`),
what waits to be taken up (`intake`) and to be written (`output`).

    status    reads                        answers
    ------    -----                        -------
    OPEN      as far as it may             what it takes up
    ENDING    nothing more                 what it has read
    CLOSING   to throw it away, so that    nothing: it says that it sends no more, and is gone when the other side has
              the answers still get there  closed too, or after `linger_seconds_max`
    GONE      nothing                      nothing

What moves it from one to another is the table in `connection_life`.

Nothing is read from a connection while it has as much as it may have: requests in flight, a command that waits for room
in the mailbox, or replies that it does not take. So a flood fills the sender's socket and not our memory. Requests are
taken up some at a time, so that one connection with many does not keep the others waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol, cast

import anyio
import msgspec
from msgspec import UNSET, Raw

from millstream.engine.errors import (
    LimitReached,
    MillstreamError,
    NotAuthenticated,
    NotPermitted,
)
from millstream.engine.lifecycle import LifeCycle
from millstream.engine.loop.clock import elapsed
from millstream.engine.server.connection_life import MOVES, ConnectionEvent, ConnectionStatus
from millstream.engine.server.intake import LARGE_BYTES, Intake, Reader
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.output import Batch, Output
from millstream.engine.server.peer import Handler
from millstream.engine.server.running import Running
from millstream.engine.wire import Malformed, Requests, Unread
from millstream.engine.wire.messages import Result, failure_of

__all__ = ["Connection", "Host"]

_encode = msgspec.json.Encoder().encode


class Host(Protocol):
    """What a connection needs of the server that it belongs to."""

    limits: ServerLimits
    requests: Requests
    #: By role: what reads its lines. One that has not authenticated learns nothing about the application.
    readers: Mapping[str | None, Reader]
    #: By role, and by class of request: what is done.
    handlers: Mapping[str | None, Mapping[type[Any], Handler]]
    #: The role of a connection that has not authenticated.
    first_role: str | None

    def flush_soon(self, connection: Connection) -> None: ...
    def admit(self, connection: Connection) -> bool: ...
    def gone(self, connection: Connection, reason: str | None) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class Connection(Running, asyncio.Protocol):
    """The protocol of one connection.

    Args:
        server: which it belongs to.
        is_tls: whether the transport is one of TLS, which can't close one direction alone.
    """

    def __init__(self, server: Host, *, is_tls: bool) -> None:
        super().__init__(server.limits.connection_watches_max)
        self.server = server
        self._life = LifeCycle(MOVES, ConnectionStatus.OPEN)
        self.role: str | None
        #: Requests that were taken up and not answered yet.
        self.in_flight = 0
        #: Of these, questions that wait for a view, and what cancels their waiting.
        self.questions = 0
        self.waits: set[anyio.CancelScope] = set()
        #: A command of this connection waits for room in the mailbox.
        self.is_held = False
        #: The other side takes no answer any more.
        self.is_gone = False
        #: When it came, when it last sent a whole line, and when it sent its last.
        self.made_at = self.heard_at = elapsed()
        self.ended_at: float | None = None
        #: Why the server ended it, if it did.
        self.reason: str | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._limits = server.limits
        self._is_tls = is_tls
        self._large_bytes = 0  # of requests that were taken up since no command was in flight
        self._line_bytes = 0  # of the line that is taken up just now, if it is large
        self._intake = Intake(server.limits)
        self._backlog = self._intake.backlog
        self._output = Output(server.limits.output_bytes_max, partial(server.flush_soon, self))
        self._is_reading = True
        self._is_scheduled = False
        self._last_words: bytes | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self.become(server.first_role)

    @property
    def status(self) -> ConnectionStatus:
        """How far it has come."""
        return self._life.status

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class
        self._output.transport = transport
        transport.set_write_buffer_limits(high=self._limits.output_bytes_max)
        if not self.server.admit(self):
            self.fail(None, LimitReached("connections_max", self._limits.connections_max), None)
            self.flush()
            self._life.must(ConnectionEvent.REFUSED)
            self._output.close()
            self.reason = "connections_max"
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self.status is not ConnectionStatus.OPEN:
            return
        before = len(self._backlog)
        refusal = self._intake.feed(data, not self._is_scheduled)
        if refusal is not None:
            self.end(*refusal)
        elif len(self._backlog) > before:
            self.heard_at = elapsed()
            if not self._is_scheduled:
                self.work()

    def eof_received(self) -> bool:
        """A caller that only asks, as ``nc -N`` does, still gets all answers; on TLS, which ends both ways at once,
        those that are there.

        Watches end: one who has gone and one who listens on look the same until something is written.
        """
        self.ended_at = elapsed()
        if self.status is ConnectionStatus.OPEN:
            self._life.must(ConnectionEvent.ENDS)
            self._end_streams_soon()
            self.work()
        if self._is_tls:
            self.flush()
        return not self._is_tls and self.status is ConnectionStatus.ENDING

    def pause_writing(self) -> None:
        self._output.pause()

    def resume_writing(self) -> None:
        self._output.resume()
        if self.status is ConnectionStatus.CLOSING:
            self._say_goodbye()
        else:
            self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._life.must(ConnectionEvent.LOST)
        self._backlog.clear()
        self._output.drop()
        self._cancel_all()
        if self._lingering is not None:
            self._lingering.cancel()
        self.server.gone(self, self.reason)
        if not self.closed.done():
            self.closed.set_result(None)

    # Taking requests up.

    def become(self, role: str | None) -> None:
        """Do what this role may do, from the next request on."""
        self.role = role
        self._handlers = self.server.handlers[role]
        limits = self._limits
        frame_bytes_max = limits.stranger_frame_bytes_max if role is None else limits.frame_bytes_max
        self._intake.become(self.server.readers[role], frame_bytes_max)

    def work(self) -> None:
        """Take up what was read, as far as this connection may; then read on, or don't."""
        self._is_scheduled = False
        backlog, limits, output = self._backlog, self._limits, self._output
        requests, until = limits.turn_requests_max, elapsed() + limits.turn_ms_max / 1e3
        in_flight_max, large_bytes_max = limits.in_flight_max, limits.connection_large_bytes_max
        while True:
            may_take = (
                self.in_flight < in_flight_max
                and not self.is_held
                and not self.is_gone
                and output.slow_since is None
                and output.size_bytes < output.bytes_max
                and self._large_bytes < large_bytes_max
            )
            if not (may_take and backlog):
                break
            if not requests:
                self._schedule()
                break
            item = backlog.popleft()
            if isinstance(item, tuple):
                self._do(*item)
            else:
                if len(item) > LARGE_BYTES:
                    self._large_bytes += len(item)
                    self._line_bytes = len(item)
                request = self._intake.requests.read(item)
                if request.__class__ is list:
                    batch = Batch(len(request), self._line_bytes // len(request))
                    backlog.extendleft((each, batch) for each in reversed(request))
                elif request is not None:
                    self._do(request, None)
                if self._line_bytes:
                    self._line_bytes = 0
            if self._large_bytes and self.in_flight == self.questions:
                self._large_bytes = 0
            requests = requests - 1 if elapsed() < until else 0
        if self.status is ConnectionStatus.OPEN:
            self._read(not backlog and may_take)
        elif self.status is ConnectionStatus.ENDING:
            self._read(False)
            if self.is_done:
                self._close()

    def hold(self, held: bool) -> None:
        """A command of this connection waits for room in the mailbox, or does no more."""
        self.is_held = held

    def go_on(self, request: Any, batch: Batch | None) -> None:
        """Take a request up once more, before any other, when this connection's turn comes again."""
        self._backlog.appendleft((request, batch))

    def large_bytes(self, batch: Batch | None, commands: int = 1) -> int:
        """What the request that is taken up just now has of its line, if that is large; else 0.

        Args:
            batch: the one that it is in.
            commands: with several, what each of them has, if that is large.
        """
        size = self._line_bytes if batch is None else batch.large_bytes
        return size if commands == 1 else size // commands if size > commands * LARGE_BYTES else 0

    @property
    def has_room(self) -> bool:
        """Whether the other side takes what it is sent."""
        return self._output.has_room

    @property
    def waiting_bytes(self) -> int:
        """About how much waits until the other side takes it."""
        return self._output.size_bytes + self.transport.get_write_buffer_size()

    @property
    def slow_since(self) -> float | None:
        """Since when the other side does not take what it is sent, on the clock `elapsed`; None if it does."""
        return self._output.slow_since

    @property
    def is_done(self) -> bool:
        """Whether all that was read is answered."""
        return not (self._backlog or self.in_flight or self.is_held or self._tasks)

    def _do(self, request: Any, batch: Batch | None) -> None:
        handler = self._handlers.get(request.__class__)
        if handler is None and isinstance(request, Unread) and self.role is not None:
            request = self._intake.requests.read(request.line)  # this very batch has authenticated
            handler = self._handlers.get(request.__class__)
        try:
            if handler is None:
                raise self._refusal(request)
            handler(self, request, batch)
        except Exception as error:  # noqa: BLE001 - sent to the caller
            self.fail(request.id, error, batch)

    def _refusal(self, request: Any) -> MillstreamError:
        if isinstance(request, Malformed):
            return request.error
        if self.role is None:
            return NotAuthenticated("no token was given")
        return NotPermitted(request.__struct_config__.tag, str(self.role))

    def _schedule(self) -> None:
        if not self._is_scheduled and not self.is_gone:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self.work)

    # Replies.

    def reply(self, to: Any, result: Any, batch: Batch | None) -> None:
        """Answer a request; one without an id gets nothing.

        Raises:
            LimitReached: the batch has as many answers as it may.
            Exception: the result can't be written as JSON.
        """
        if to is UNSET:
            self._output.deliver(to, None, 0, batch)
            return
        line = _encode(Result(to, result))
        if batch is not None and batch.size_bytes + len(line) > self._limits.output_bytes_max:
            raise LimitReached("output_bytes_max", self._limits.output_bytes_max)
        self._output.deliver(to, Raw(line), len(line), batch)

    def fail(self, to: Any, error: BaseException, batch: Batch | None) -> None:
        """Answer a request with an error; one without an id gets nothing."""
        self.server.failed(error)
        line = b"" if to is UNSET else failure_of(to, error)
        self._output.deliver(to, Raw(line), len(line), batch)

    def confirm(self, to: Any, result: Any, batch: Batch | None, size: int = 0) -> None:
        """Answer with what can surely be written, such as a receipt: all that are due are written together.

        Args:
            to: the request's id.
            result: what is answered.
            batch: the one that the request is in.
            size: what the reply has there, if that counts.
        """
        if to is UNSET:
            self._output.deliver(to, None, 0, batch)
        elif batch is None:
            self._output.put(Result(to, result))
        elif batch.left > 1:
            batch.put(Result(to, result), size)
        else:
            self._output.deliver(to, Result(to, result), size, batch)

    def settle(self, to: Any, receipt: Any, batch: Batch | None) -> None:
        """Answer a command that was in flight."""
        self.confirm(to, receipt, batch)
        self.settled()

    def settle_many(self, to: Any, result: Any, batch: Batch | None, commands: int) -> None:
        """Answer a request with so many commands that were in flight, by what can surely be written."""
        line = b"" if to is UNSET else _encode(Result(to, result))
        self._output.deliver(to, Raw(line), len(line), batch)
        self.settled(commands)

    def settled(self, requests: int = 1) -> None:
        """So many requests less in flight."""
        self.in_flight -= requests
        if self._large_bytes and self.in_flight == self.questions:
            self._large_bytes = 0
        if self._backlog or not self._is_reading:
            self._schedule()

    def notify(self, number: int, line: bytes) -> None:
        """Send a notification of a stream, unless it was ended: a line without its end."""
        if number in self.streams:
            self._output.deliver(None, Raw(line), len(line), None)

    def flush(self) -> None:
        """Give the transport what waits to be written."""
        if not self.is_gone and self._output.flush() and not self._is_reading and self._output.slow_since is None:
            self._schedule()

    async def writable(self) -> None:
        """Wait until the other side takes what it is sent."""
        await self._output.writable(self.flush)

    # Work that takes longer: `Running`.

    @property
    def may_stream(self) -> bool:
        """Whether a stream may begin."""
        return self.status is ConnectionStatus.OPEN

    def task_ended(self) -> None:
        """One of its tasks has ended."""
        if self.status is ConnectionStatus.ENDING:
            self._schedule()

    # The end.

    def end(self, reason: str, last: MillstreamError | None = None) -> None:
        """Read nothing more; close once what was read is answered.

        Args:
            reason: the limit, or what else it was, for the log.
            last: is sent when everything else was.
        """
        if not self._life.on(ConnectionEvent.ENDS):
            return
        self.reason = self.reason or reason
        if last is not None:
            self._last_words = failure_of(None, last)
        self._read(False)
        self._end_streams_soon()
        self._schedule()

    def abort(self, reason: str) -> None:
        """Close at once."""
        self.reason = reason
        self.transport.abort()

    def _close(self) -> None:
        if self._last_words is not None:
            self._output.deliver(None, Raw(self._last_words), 0, None)
        self.flush()
        self._life.must(ConnectionEvent.ANSWERED)
        self._output.close()
        self.transport.set_write_buffer_limits(high=0)  # what is not written yet is slow, and it says when all is
        if self.ended_at is not None or self._is_tls:
            self.transport.close()
            return
        self._read(True)
        if self.slow_since is None:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Everything is written: say so, and wait for the other side to close.

        To close while it still sends would make it see an error, and many then don't read the answers that are there.
        """
        if self.transport.is_closing():
            return
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()
        else:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(self._limits.linger_seconds_max, self.transport.abort)

    def _read(self, wanted: bool) -> None:
        if wanted == self._is_reading or self.transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
