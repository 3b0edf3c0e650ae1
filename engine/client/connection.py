"""One connection: bytes in, replies out, and whether it still lives. Not here: whom a reply is for (`link`)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, cast

import msgspec
from msgspec import UNSET, Raw

from millstream.engine.application.validation import encode
from millstream.engine.client.calls import error_of
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.sockets import text_of
from millstream.engine.errors import MillstreamError
from millstream.engine.loop.clock import elapsed
from millstream.engine.wire import Lines, Notification, Reply
from millstream.engine.wire.errors import INTERNAL_ERROR
from millstream.engine.wire.messages import ErrorShape

__all__ = ["OWN_ID", "Connection", "Host"]

#: The id of what the connection itself asks: to be let in, and whether the server is still there.
OWN_ID = 0

_TOLD_BYTES = 80

#: How a server of ours begins a reply, and a notification of a watch.
_WHOSE = re.compile(
    rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*(?:"id"\s*:\s*(?P<id>[0-9]{1,19})\s*,'
    rb'|"method"\s*:\s*"(?P<method>watch|follow)"\s*,\s*"params"\s*:\s*\{\s*"watch"\s*:\s*(?P<watch>[0-9]{1,18})\s*,)'
)

_replies = msgspec.json.Decoder(Reply)
_read: Callable[[bytes], Reply] = _replies.decode


class Host(Protocol):
    """What a connection tells, and whom."""

    def received(self, connection: Connection, replies: Sequence[Reply]) -> None: ...
    def writable(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol of one connection, from being made to being lost.

    Args:
        owner: gets the replies, and the end.
        limits: the client's.
    """

    def __init__(self, host: Host, limits: ClientLimits) -> None:
        self._owner = host
        self._limits = limits
        self._lines = Lines(limits.reply_bytes_max, cuts=True)
        self._is_full = False
        #: Whether the server has said nothing for too long, or nothing at all.
        self.is_silent = True
        #: Why it is lost, or is to be.
        self.problem = ""
        #: What the server said to the connection as a whole, before it closed it.
        self.refusal: MillstreamError | None = None
        #: Done when it is lost.
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._heard_at = elapsed()
        #: Whether it was asked if it is there, and has said nothing since.
        self._is_asked = False
        self._greeting: asyncio.Future[Raw] | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self.transport.set_write_buffer_limits(high=self._limits.output_bytes_max)

    def data_received(self, data: bytes) -> None:
        self._heard_at, self._is_asked, self.is_silent = elapsed(), False, False
        whole = self._lines.joined(data)
        if whole is None:
            self._read_each(self._lines.feed(data))
        elif whole:
            self._read_together(whole)

    def _read_together(self, whole: bytes) -> None:
        """Read lines in one call, which is more lenient about their ends: where each line ends and the next begins as
        an object does, as many replies as lines means one in each. Else each is read by itself.
        """
        lines, replies = whole.count(b"\n"), list[Reply]()
        if whole[:1] == b"{" and whole[-2:] == b"}\n" and whole.count(b"}\n{") == lines - 1:
            with suppress(Exception):  # which line is to blame is found by looking at each
                replies = _replies.decode_lines(whole)
        if len(replies) == lines:
            self._owner.received(self, replies)
        else:
            self._read_each(whole.split(b"\n")[:-1])

    def _read_each(self, lines: Sequence[bytes]) -> None:
        replies: list[Reply] = []
        line = b""
        try:
            for line in lines:
                replies.append(_read(line) if line.__class__ is bytes else self._too_long(line))
        except Exception:  # noqa: BLE001 - whatever is wrong with the line, nothing after it can be trusted
            # What it says to a token may be that token.
            said = f", but said {line[:_TOLD_BYTES]!r}" if self._greeting is None or self._greeting.done() else ""
            self.drop(f"it does not speak the protocol{said}")
        if replies:
            self._owner.received(self, replies)

    def _too_long(self, head: bytes) -> Reply:
        """The error of a reply that is too long, for its caller or its watch alone.

        Raises:
            ValueError: it does not say whose it is.
        """
        problem = f"a reply was longer than reply_bytes_max={self._limits.reply_bytes_max:,} and was not read: "
        error = ErrorShape(INTERNAL_ERROR, problem + "ask for less at once, or give ClientLimits a larger one")
        found = _WHOSE.match(head)
        if found is None:
            raise ValueError("no id and no number of a watch")
        if found["id"]:
            return Reply(id=int(found["id"]), error=error)
        told = encode(Notification(int(found["watch"]), error=error))
        return Reply(method=found["method"].decode(), params=Raw(told))

    def eof_received(self) -> None:
        """A server that says nothing more answers nothing more."""
        self.transport.abort()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._owner.writable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self.refusal or exc
        self.problem = self.problem or ("it closed the connection" if reason is None else text_of(reason))
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(ConnectionResetError(self.problem))
        self._owner.lost(self)
        self.closed.set_result(None)

    # What its owner calls.

    @property
    def takes_more(self) -> bool:
        """Whether more may be written: it reads what it was given, and is not about to be lost."""
        return not self._is_full and not self.transport.is_closing()

    def say(self, method: str, params: bytes, to: int | None = None) -> None:
        """Write a request, with this id or without one, if the connection still is one."""
        if self.transport.is_closing():
            return
        head = b"" if to is None else b'"id":%d,' % to
        self.transport.write(b'{"jsonrpc":"2.0",%b"method":"%b","params":{%b}}\n' % (head, method.encode(), params))

    async def authenticate(self, token: str) -> None:
        """Say who is there.

        Raises:
            MillstreamError: what the server says to that.
            OSError: the connection was lost.
        """
        await self.ask("authenticate", b'"token":' + encode(token))

    async def ask(self, method: str, params: bytes = b"") -> Raw:
        """Ask something before others' calls are sent; returns the result as JSON.

        Raises:
            MillstreamError: what the server says to that.
            OSError: the connection was lost.
        """
        self._greeting = asyncio.get_running_loop().create_future()
        self.say(method, params, OWN_ID)
        return await self._greeting

    def answered(self, reply: Reply) -> None:
        """The server has replied to the connection's own question."""
        if self._greeting is not None and not self._greeting.done():
            if reply.error is UNSET:
                self._greeting.set_result(Raw(b"null") if reply.result is UNSET else reply.result)
            else:
                self._greeting.set_exception(error_of(reply.error))

    def look(self, quiet_seconds_max: float) -> None:
        """Ask a server that is quiet whether it is there; one that was asked and stayed quiet is not."""
        quiet = elapsed() - self._heard_at
        if quiet < quiet_seconds_max:
            return
        if self._is_asked:
            self.is_silent = True
            self.drop(f"nothing came from it for {quiet:.3g} s")
        else:
            self._is_asked = True
            self.say("health", b"", OWN_ID)

    def drop(self, problem: str) -> None:
        """Close at once, for this reason."""
        self.problem = self.problem or problem
        self.transport.abort()
