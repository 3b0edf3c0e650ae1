"""One connection of HTTP/1.1, as uvicorn and h11 speak it, and what they leave unbounded: time, and how many there are.

Here: what a connection is ended for. Not here: what is answered on it (`app`), and who listens (`serving`).

    a connection that                                      is ended after
    -----------------                                      --------------
    is one too many                                        an answer 503, at once
    has begun no request, or not ended its head            ``head_seconds_max``
    sends no other request after an answer                 ``idle_seconds_max`` (uvicorn's own timer)
    does not take what it is sent                          ``slow_seconds_max``
    is closed, and does not take what it was still sent    ``linger_seconds_max``
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from millstream.engine.loop.clock import elapsed
from millstream.engine.web.limits import WebLimits

__all__ = ["HttpConnection", "HttpHost"]

#: What uvicorn says about a stranger's bytes is counted, and no more: lines would be the stranger's to make.
_SILENT = logging.Logger("millstream.http", logging.CRITICAL + 1)

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_FULL_BODY = (
    b'{"type":"urn:millstream:LimitReached","title":"LimitReached","status":503,'
    b'"detail":"the limit connections_max is reached: try again later"}'
)


class HttpHost(Protocol):
    """What a connection needs of the server that it belongs to."""

    limits: WebLimits

    def admit(self, connection: HttpConnection) -> bool: ...
    def gone(self, connection: HttpConnection, reason: str | None) -> None: ...


class HttpConnection(H11Protocol):
    """The protocol of one connection. A server makes a class of its own of it, which knows the server."""

    host: HttpHost

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _SILENT
        self.access_log = False
        #: Why the server ended it, if it did.
        self.reason: str | None = None
        self.closed: asyncio.Future[None] = self.loop.create_future()
        #: Since when a request's head is waited for, or came in; since when what is sent is not taken; since when it is
        #: closed and not gone.
        self._head_since: float | None = elapsed()
        self._slow_since: float | None = None
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self.host.admit(self):
            transport.write(_FULL % (len(_FULL_BODY), _FULL_BODY))
            self._end("connections_max")

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head_since is None and not self.is_answering:
            self._head_since = elapsed()
        super().data_received(data)
        if self.is_answering:
            self._head_since = None

    def send_400_response(self, msg: str) -> None:
        self.reason = "no_http"
        if self.is_answering:  # in the middle of a body: its reader learns that the caller is gone
            self.transport.close()
        else:
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        self._slow_since = elapsed()
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self._slow_since = None
        self.flow.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.host.gone(self, self.reason)
        if not self.closed.done():
            self.closed.set_result(None)

    @property
    def is_answering(self) -> bool:
        """Whether a request was taken up that is not answered to the end."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first one, whatever its annotation says
        return cycle is not None and not cycle.response_complete

    def sweep(self, now: float) -> None:
        """End it if its time is over; ``now`` is of the clock `elapsed`."""
        limits = self.host.limits
        if self.transport.is_closing():
            self._closing_since = now if self._closing_since is None else self._closing_since
            if now - self._closing_since > limits.linger_seconds_max:
                self.transport.abort()
        elif self._slow_since is not None:
            if now - self._slow_since > limits.slow_seconds_max:
                self.reason = "slow_seconds_max"
                self.transport.abort()
        elif not self.is_answering and now - (self._head_since or now) > limits.head_seconds_max:
            self._end("head_seconds_max")

    def abort(self, reason: str) -> None:
        """End it now, whatever is under way."""
        self.reason = self.reason or reason
        self.transport.abort()

    def _end(self, reason: str) -> None:
        self.reason = reason
        self.transport.close()
