"""What a server tells again and again: watches and follows, over lost connections.

    a subscription   begins with                ends with            it is sent               its connection is lost
    --------------   -----------                ---------            ----------               ----------------------
    ASKED            being made, asking again   the reply            nothing                  is asked again, by `calls`
    RUNNING          the reply                  unwatch, an error    answers; that its        asks again, from the last
                                                                     server stops → ASKED     position on; every: OVER
    OVER             `close`, an error          never                nothing                  nothing

Invariant: a taker gets what it was sent in order, none twice, and none left out that the policy promises.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw

from millstream.engine.client.calls import Call, error_of
from millstream.engine.client.limits import ClientLimits
from millstream.engine.errors import ConnectionLost, EngineClosed, MillstreamError, RemoteError, WatchOverrun
from millstream.engine.wire.errors import INTERNAL_ERROR
from millstream.engine.wire.messages import Count, Notification

__all__ = ["Policy", "Subscription", "Told"]


class Policy(StrEnum):
    """What a slow taker misses."""

    #: All but the newest.
    NEWEST = "newest"
    #: Nothing; too much ends the subscription, and so does a lost connection.
    EVERY = "every"
    #: Nothing: too much is dropped, and asked for again.
    STREAM = "stream"


class Told(msgspec.Struct, frozen=True):
    """One thing that was sent: an answer, or events, as JSON."""

    content: Raw
    position: int


class _Teller(Protocol):
    """The link that a subscription belongs to."""

    running: dict[int, Subscription]

    @property
    def name(self) -> str: ...
    def require_loop(self) -> None: ...
    def send(self, call: Call) -> None: ...
    def post(self, method: str, params: bytes) -> None: ...


class _Begun(msgspec.Struct):
    watch: Count


_read = msgspec.json.Decoder(_Begun).decode


class Subscription:
    """One watch or follow. `Link.subscribe` makes it; its owner closes it, and takes from it in one task.

    Args:
        link: which it belongs to.
        method: ``watch`` or ``follow``.
        params: their JSON without the braces and without ``after``.
        name: what errors call it.
        after: the position to begin with.
        policy: what is kept for a slow taker.
        limits: how much of it.
    """

    def __init__(
        self, link: _Teller, method: bytes, params: bytes, name: str, after: int, policy: Policy, limits: ClientLimits
    ) -> None:
        self._link = link
        self._method = method
        self._params = params
        self._name = name
        self._policy = policy
        self._waiting_max = limits.stream_pages_max if policy is Policy.STREAM else limits.watch_answers_max
        self._waiting_bytes_max = limits.watch_answers_bytes_max
        self._waiting_bytes = 0  # for who wants every answer
        self._waiting: deque[Told] = deque(maxlen=1 if policy is Policy.NEWEST else None)
        self._number: int | None = None
        self._error: MillstreamError | None = None
        self._is_over = False
        self._is_behind = False
        self._waiter: asyncio.Future[None] | None = None
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: The position of what it was sent last, and so what it goes on after.
        self.position = after

    async def begin(self) -> None:
        """Ask for it, and wait until the server has taken it.

        Raises:
            MillstreamError: what the server says.
            ConnectionLost: it can't be reached.
        """
        self._ask()
        await self._begun

    async def next(self) -> Told:
        """The next thing that it is sent.

        Raises:
            MillstreamError: it has ended, for this reason; all that was sent before was given.
            WrongLoop: the link was opened on another event loop.
        """
        self._link.require_loop()
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._is_behind:
                self._is_behind = False
                self._ask()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        told = self._waiting.popleft()
        if self._policy is Policy.EVERY:
            self._waiting_bytes -= len(told.content)
        return told

    def close(self) -> None:
        """Take no more."""
        self._is_over = True
        self._waiting.clear()
        self._leave()

    def tell(self, notification: Notification) -> None:
        """It is sent something."""
        if notification.error is not UNSET:
            self._ended(error_of(notification.error))
            return
        told = notification.answer, notification.rows, notification.events
        content = next((each for each in told if each is not UNSET), UNSET)
        if content is UNSET:
            return
        if self._policy is not Policy.NEWEST and len(self._waiting) >= self._waiting_max:
            self._leave()
            self._is_behind = True
            if self._policy is Policy.EVERY:
                self.end(WatchOverrun(f"that answers {self._name}", self.position, self._waiting_max))
            return
        if self._policy is Policy.EVERY:
            waiting_bytes = self._waiting_bytes + len(content)
            if self._waiting and waiting_bytes > self._waiting_bytes_max:
                self._leave()
                most = self._waiting_max, self._waiting_bytes_max
                self.end(WatchOverrun(f"that answers {self._name}", self.position, *most))
                return
            self._waiting_bytes = waiting_bytes
        self._waiting.append(Told(content, notification.position))
        self.position = notification.position
        self._wake()

    def lost(self, problem: str) -> None:
        """The connection on which it ran is gone."""
        self._number = None
        if self._policy is Policy.EVERY:
            problem += f"; a watch of every answer can't go on without a gap, and its last one was at {self.position:,}"
            self.end(ConnectionLost(self._link.name, problem, sent=False))
        else:
            self._ask()

    def end(self, error: MillstreamError) -> None:
        """It ends by itself, for this reason."""
        if not self._is_over:
            self._is_over, self._error = True, error
            if not self._begun.done():
                self._begun.set_exception(error)
            self._wake()

    # What its request takes for its promise.

    def done(self) -> bool:
        """Whether the reply is not wanted any more: never, as what has begun at the server is to be ended there."""
        return False

    def set_result(self, result: Any, /) -> None:
        try:
            self._number = number = _read(result).watch
        except msgspec.DecodeError as error:
            self.end(RemoteError(INTERNAL_ERROR, f"the reply to {self._name} has no number of a watch: {error}"))
            return
        if self._is_over:
            self._leave()
            return
        self._link.running[number] = self
        if not self._begun.done():
            self._begun.set_result(None)

    def set_exception(self, exception: BaseException, /) -> None:
        assert isinstance(exception, MillstreamError)
        self.end(exception)

    # Inside.

    def _ask(self) -> None:
        params = b'%b,"after":%d' % (self._params, self.position) if self._params else b'"after":%d' % self.position
        try:
            self._link.send(Call(self._method, params, self, name=self._name))
        except MillstreamError as error:
            self.end(error)

    def _ended(self, error: MillstreamError) -> None:
        self._forget()
        if isinstance(error, EngineClosed) and self._policy is not Policy.EVERY:
            self._ask()  # that server stops, and perhaps another one takes its place
        else:
            self.end(error)

    def _leave(self) -> None:
        number = self._forget()
        if number is not None:
            self._link.post("unwatch", b'"watch":%d' % number)

    def _forget(self) -> int | None:
        number, self._number = self._number, None
        if number is not None:
            self._link.running.pop(number, None)
        return number

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
