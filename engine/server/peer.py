"""A connection as methods see it: who asks, what it has under way, and where its replies go.

Here: what `commands`, `many`, `queries` and `methods` need of it, no more. Two things are one: a `Connection` of this
process, and what stands here for a connection of a front process (`fronts.guest`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias

import anyio

from millstream.engine.errors import MillstreamError
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.output import Batch
from millstream.engine.wire import Requests

__all__ = ["Handler", "Peer", "PeerHost"]


class PeerHost(Protocol):
    """The server that it belongs to."""

    @property
    def limits(self) -> ServerLimits:
        """Its bounds."""
        ...

    @property
    def requests(self) -> Requests:
        """How requests are read."""
        ...

    def failed(self, error: BaseException) -> None:
        """A request failed."""
        ...


class Peer(Protocol):
    """Who asks."""

    role: str | None
    #: Requests that were taken up and not answered yet.
    in_flight: int
    #: Of these, questions that wait for a view, and what cancels their waiting.
    questions: int
    waits: set[anyio.CancelScope]
    #: Why the server ended it, if it did.
    reason: str | None

    @property
    def server(self) -> PeerHost:
        """Which it belongs to."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether it takes no answer any more."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether it takes what it is sent."""
        ...

    def hold(self, held: bool) -> None:
        """A command of it waits for room in the mailbox, or does no more."""
        ...

    def work(self) -> None:
        """Take up what was read."""
        ...

    def go_on(self, request: Any, batch: Batch | None) -> None:
        """Take a request up once more, before any other, when its turn comes again."""
        ...

    def large_bytes(self, batch: Batch | None, commands: int = 1) -> int:
        """What the request that is taken up just now has of its line, if that is large; else 0."""
        ...

    def become(self, role: str | None) -> None:
        """Do what this role may do, from the next request on."""
        ...

    def end(self, reason: str, last: MillstreamError | None = None) -> None:
        """Read nothing more; close once what was read is answered."""
        ...

    def reply(self, to: Any, result: Any, batch: Batch | None) -> None:
        """Answer a request."""
        ...

    def fail(self, to: Any, error: BaseException, batch: Batch | None) -> None:
        """Answer a request with an error."""
        ...

    def confirm(self, to: Any, result: Any, batch: Batch | None, size: int = 0) -> None:
        """Answer with what can surely be written."""
        ...

    def settle(self, to: Any, receipt: Any, batch: Batch | None) -> None:
        """Answer a command that was in flight."""
        ...

    def settle_many(self, to: Any, result: Any, batch: Batch | None, commands: int) -> None:
        """Answer a request with so many commands that were in flight."""
        ...

    def settled(self, requests: int = 1) -> None:
        """So many requests less in flight."""
        ...

    def notify(self, number: int, line: bytes) -> None:
        """Send a notification of a stream, unless it was ended."""
        ...

    async def writable(self) -> None:
        """Wait until it takes what it is sent."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something run that answers a request in flight later."""
        ...

    def stream(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Let something run that sends notifications."""
        ...

    def end_stream(self, number: int) -> None:
        """Let nothing more come of a stream."""
        ...


#: What a method does: replies now, or later. What it raises is the reply.
Handler: TypeAlias = Callable[[Any, Any, "Batch | None"], None]
