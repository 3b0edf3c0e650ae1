"""What a connection has to send: replies and notifications, until the transport takes them.

Here: batches of replies, what waits to be written, and waiting until the other side takes it. Not here: what a reply
says, and when a connection ends (`connection`).

Invariant: what waits is written in the order in which it was delivered, a batch as one line when it is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from millstream.engine.loop.clock import elapsed

__all__ = ["Batch", "Output"]

_encode_lines = msgspec.json.Encoder().encode_lines


class Batch:
    """The replies to a batch, which go out together once all are there."""

    __slots__ = ("large_bytes", "left", "replies", "size_bytes")

    def __init__(self, size: int, large_bytes: int = 0) -> None:
        self.left = size
        #: What each of its requests has of its line, if that is large.
        self.large_bytes = large_bytes
        self.replies: list[Any] = []
        self.size_bytes = 0

    def put(self, reply: Any, size: int) -> None:
        """Keep a reply that is not the last."""
        self.left -= 1
        self.replies.append(reply)
        self.size_bytes += size


class Output:
    """The output of one connection.

    Args:
        bytes_max: how much may wait before the other side counts as slow.
        flush_soon: is called when something waits, and nothing did before.
    """

    def __init__(self, bytes_max: int, flush_soon: Callable[[], None]) -> None:
        self.transport: asyncio.Transport
        #: Since when the transport has as much as it may, on the clock `elapsed`.
        self.slow_since: float | None = None
        #: Nothing is taken any more.
        self.is_closed = False
        self.bytes_max = bytes_max
        self._flush_soon = flush_soon
        #: About how many bytes wait, receipts not counted.
        self.size_bytes = 0
        #: What is to be written at the next `flush`.
        self._waiting: list[Any] = []
        self._taken = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether the other side takes what it is sent."""
        return self.slow_since is None and self.size_bytes < self.bytes_max

    def deliver(self, to: Any, reply: Any, size: int, batch: Batch | None) -> None:
        """Let a reply wait to be written.

        Args:
            to: the request's id; what is `UNSET` gets no reply.
            reply: what can be written as JSON.
            size: its bytes, 0 where they are few.
            batch: the batch that the request is in.
        """
        if batch is not None:
            batch.left -= 1
            if to is not UNSET:
                batch.replies.append(reply)
                batch.size_bytes += size
            if batch.left or not batch.replies:
                return
            reply, size = batch.replies, batch.size_bytes
        elif to is UNSET:
            return
        if self.is_closed:
            return
        if not self._waiting:
            self._flush_soon()
        self._waiting.append(reply)
        self.size_bytes += size

    def put(self, reply: Any) -> None:
        """The same for a small reply that is in no batch."""
        if self.is_closed:
            return
        if not self._waiting:
            self._flush_soon()
        self._waiting.append(reply)

    def flush(self) -> bool:
        """Give the transport what waits to be written. Returns False if that was nothing."""
        if not self._waiting:
            return False
        data = _encode_lines(self._waiting)
        self._waiting.clear()
        self.size_bytes = 0
        self.transport.write(data)
        return True

    async def writable(self, flush: Callable[[], None]) -> None:
        """Wait until the other side takes what it is sent, or nothing is taken any more.

        Args:
            flush: calls `flush`, and looks what may be done then.
        """
        while not self.has_room and not self.is_closed:
            flush()
            if self.slow_since is not None:
                await self._taken.wait()

    def pause(self) -> None:
        """The transport has as much as it may."""
        self.slow_since = elapsed()
        self._taken.clear()

    def resume(self) -> None:
        """The transport takes more."""
        self.slow_since = None
        self._taken.set()

    def close(self) -> None:
        """Take nothing any more."""
        self.is_closed = True

    def drop(self) -> None:
        """Forget what waits: the other side is gone. A task that waits until it takes more goes on."""
        self.is_closed = True
        self._waiting.clear()
        self._taken.set()
