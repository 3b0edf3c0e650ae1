"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): answers and events as they come.

Here: one response that has no end of its own, and what ends it. Not here: what is said in it (`watching`).

    what ends a stream                        what its reader sees
    ------------------                        --------------------
    it goes away                              nothing
    it takes nothing for `slow_seconds_max`   the connection is closed; it connects again where it was
    the server stops                          the response ends; it connects again where it was, to the next server
    an error                                  an event ``problem``, then the same

Invariants: a stream whose reader takes nothing keeps one event; all of them end when the server says so, so
that stopping a server does not wait for readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from millstream.engine.errors import EngineClosed, LimitReached
from millstream.engine.loop.clock import elapsed
from millstream.engine.web.limits import WebLimits
from millstream.engine.web.problems import problem_event

__all__ = ["Source", "Streams"]

#: What is said in a stream, in blocks that are whole events.
Source: TypeAlias = AsyncGenerator[bytes, None]

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that collects a response would never pass it on
]
#: A comment: it says that the server is there.
_BEAT = b":\n\n"


class Streams:
    """All that are open of one kind.

    Args:
        limits: the bounds.
        limit: the name of the one that says how many there may be.
        failed: gets an error that ends one.
    """

    def __init__(self, limits: WebLimits, limit: str, failed: Callable[[BaseException], None]) -> None:
        self._limits = limits
        self._limit = limit
        self._streams_max: int = getattr(limits, limit)
        self._failed = failed
        self._scopes: set[anyio.CancelScope] = set()
        self._begun = 0
        self._is_stopped = False

    @property
    def count(self) -> int:
        """How many are open."""
        return self._begun

    def stop(self) -> None:
        """End all of them, and let none begin."""
        self._is_stopped = True
        for scope in self._scopes:
            scope.cancel()

    async def respond(self, receive: Receive, send: Send, open_source: Callable[[], Source]) -> None:
        """Answer a request with what a source says, until something ends it.

        Args:
            receive: of the request.
            send: where to.
            open_source: gives what is said, in blocks that are whole events. Its first one is waited for before the
                answer begins, so that what goes wrong by then is an answer of its own.

        Raises:
            LimitReached: there are as many as may be.
            EngineClosed: the server stops.
            Exception: what the source raises at first.
        """
        if self._is_stopped:
            raise EngineClosed("closing")
        if self._begun >= self._streams_max:
            raise LimitReached(self._limit, self._streams_max)
        self._begun += 1
        try:
            async with aclosing(open_source()) as source:
                await self._respond(receive, send, source)
        finally:
            self._begun -= 1

    async def _respond(self, receive: Receive, send: Send, source: Source) -> None:
        first = await self._first(receive, source)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async with anyio.create_task_group() as tasks:
            self._scopes.add(tasks.cancel_scope)
            stream = _Stream(send, self._limits, tasks.cancel_scope)
            tasks.start_soon(stream.until_gone, receive)
            tasks.start_soon(stream.beat)
            try:
                if not self._is_stopped:
                    await self._say_all(stream, first, source)
            finally:
                self._scopes.discard(tasks.cancel_scope)
                tasks.cancel_scope.cancel()
        if not stream.is_gone:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _first(self, receive: Receive, source: Source) -> bytes:
        """The first block, for as long as the reader is there.

        Raises:
            ClientDisconnect: it is not any more.
            EngineClosed: the server stops.
        """
        first = b""
        with anyio.CancelScope() as opening:
            leaving = asyncio.create_task(_until_left(receive), name="millstream-reader")

            def left(_: object) -> None:
                opening.cancel()

            leaving.add_done_callback(left)
            self._scopes.add(opening)
            try:
                first = await anext(source)
            finally:
                self._scopes.discard(opening)
                leaving.remove_done_callback(left)
                has_left = leaving.done()
                leaving.cancel()
        if opening.cancelled_caught:
            raise ClientDisconnect if has_left else EngineClosed("closing")
        return first

    async def _say_all(self, stream: _Stream, first: bytes, source: Source) -> None:
        try:
            await stream.say(first)
            async for block in source:
                await stream.say(block)
        except Exception as error:  # noqa: BLE001 - sent to the reader
            self._failed(error)
            await stream.say(problem_event(error))


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Stream:
    """One of them."""

    def __init__(self, send: Send, limits: WebLimits, tasks: anyio.CancelScope) -> None:
        self._send = send
        self._limits = limits
        self._tasks = tasks
        self._said_at = elapsed()
        #: The reader is gone, or takes nothing.
        self.is_gone = False

    async def say(self, block: bytes) -> None:
        """Send a block; wait until there is room for the next one."""
        self._said_at = elapsed()
        with anyio.move_on_after(self._limits.slow_seconds_max) as scope:
            await self._send({"type": "http.response.body", "body": block, "more_body": True})
        if scope.cancelled_caught:
            self._end()

    async def until_gone(self, receive: Receive) -> None:
        """Wait until who listens has gone, and end it then."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end()

    async def beat(self) -> None:
        """Say something now and then, so that whatever stands between does not take it for dead."""
        seconds = self._limits.heartbeat_seconds
        while True:
            left = self._said_at + seconds - elapsed()
            if left <= 0:
                await self.say(_BEAT)
            else:
                await anyio.sleep(left)

    def _end(self) -> None:
        self.is_gone = True
        self._tasks.cancel()
