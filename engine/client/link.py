"""The link to a server: one connection at a time, made again when it is lost, and shared by everybody who calls.

Here: when a connection is made, used, and given up. Not here: what is sent, and what again (`calls`); what comes
again and again (`subscriptions`); the types of an application (`client`).

    status    a call                         the connection is lost
    ------    ------                         ----------------------
    NEW       refused, `EngineClosed`        there is none
    OPEN      sent, or waits                 made again, as long as a call waits for it
    CLOSING   refused; commands are awaited  calls that are left get `ConnectionLost`
    CLOSED    refused                        there is none

Invariants: there is at most one connection; a call gets one outcome; nothing is written to a connection that does not
take it; what was called in one turn of the loop goes out in one write.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec
from msgspec import UNSET, Raw

from millstream.engine.application.options import Deadline
from millstream.engine.application.validation import encode
from millstream.engine.client.calls import Call, Calls, error_of
from millstream.engine.client.connecting import Reach
from millstream.engine.client.connection import OWN_ID, Connection
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.subscriptions import Policy, Subscription
from millstream.engine.client.timeouts import Alarm
from millstream.engine.errors import ConnectionLost, EngineClosed, LimitReached, MillstreamError, RemoteError
from millstream.engine.lifecycle import OPENED_ONCE, LifeCycle, Phase, Turn
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.home import Home, promises_of
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer, Observers
from millstream.engine.wire import Reply
from millstream.engine.wire.address import Address, addresses_of
from millstream.engine.wire.errors import INTERNAL_ERROR
from millstream.engine.wire.messages import Notification, Watching

__all__ = ["Link"]

_CHANGING = frozenset({"execute", "execute_many", "settle"})

_read = msgspec.json.Decoder(Notification).decode
_read_number = msgspec.json.Decoder(Watching).decode

#: Where there is another server to go to, one that says nothing is noticed soon.
_OF_SEVERAL = ClientLimits(quiet_seconds_max=1.0)


class Link:
    """A connection to a server that comes back: ``async with Link("tcp://127.0.0.1:7411") as link``.

    Args:
        address: ``tcp://HOST:PORT``, ``tls://HOST:PORT`` or ``unix://PATH``; or several, of the servers among which
            one writes.
        token: who calls, where the server wants to know.
        tls: for ``tls://``; see `client_tls`. By default the authorities of the system are trusted.
        eager: connect on entering; otherwise with the first call, so that a server may start later.
        limits: the bounds.
        observer: is called when the connection is lost and there again; log lines by default.

    Raises:
        DefinitionError: the address is none.
        ConnectionLost (on entering): no server is there. Only one attempt is made.
        NotAuthenticated (on entering): the server does not know the token.
        EngineClosed (on entering): it was opened before.
    """

    def __init__(
        self,
        address: str | Address | Iterable[str | Address],
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        eager: bool = True,
        limits: ClientLimits | None = None,
        observer: Observer | None = None,
    ) -> None:
        addresses = addresses_of(address)
        self.limits = limits or (ClientLimits() if len(addresses) == 1 else _OF_SEVERAL)
        self.name = ", ".join(map(str, addresses))
        #: What comes on this connection unasked, by the number that the server gave it.
        self.running: dict[int, Subscription] = {}
        self._observer = observer or Observers()
        self._reach = Reach(addresses, token, tls, self.limits, self._observer)
        self._eager = eager
        self._life = LifeCycle(OPENED_ONCE, Phase.NEW)
        self._calls = Calls(self.name, self.limits)
        self._loop: asyncio.AbstractEventLoop
        self._home = Home(f"the client of {self.name}")
        #: Makes what a call's outcome is given to.
        self.new_promise: Callable[[], asyncio.Future[Any]] = asyncio.Future
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        #: What the connected server has refused a command with that another one takes.
        self._refused: MillstreamError | None = None
        self._is_flushing = False
        self._drained: asyncio.Future[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if not self._life.on(Turn.OPEN):
            raise EngineClosed(self._life.status)
        self._loop = asyncio.get_running_loop()
        self._home.settle()
        self.new_promise = promises_of(self._loop)
        try:
            if self._eager:
                self._connection = await self._reach.connect(self, once=True)
        except BaseException:
            self._life.must(Turn.FAILED)
            self._home.leave()
            raise
        self._life.must(Turn.OPENED)
        self._beat = self._loop.call_later(self.limits.quiet_seconds_max, self._listen)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._home.is_forked:
            return  # what is open is the parent's
        self._home.require()
        if self._life.on(Turn.CLOSE):
            self._closing = asyncio.create_task(self._close(), name="millstream-closing")
        if self._closing is not None:
            await to_the_end(self._closing)

    # Calling.

    def require_loop(self) -> None:
        """See that this is used on the loop that it was opened on, if it is open.

        Raises:
            WrongLoop: it is not.
        """
        self._home.require()

    def only(self, require: Callable[[str, Raw], None]) -> None:
        """Use no server before it was looked at, with each new connection.

        Args:
            require: is called with its address and what `describe` says there; raises `WrongShard` for one that is not
                to be used.
        """
        self._reach.require = require

    async def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Raw:
        """Call any method of the protocol; returns its result as JSON.

        Args:
            method: its name.
            params: by name.
            timeout: seconds, for all of it. The server gets it, where the method has such a parameter.

        Raises:
            MillstreamError: what the server answered.
            ConnectionLost: the server can't be reached.
            DeadlineExceeded: the time is over, and nothing happened.
        """
        given = params or {}
        changes = method in _CHANGING
        call = Call(
            method.encode(),
            encode(given)[1:-1],
            asyncio.get_running_loop().create_future(),
            name=method,
            changes=changes,
            repeatable=not changes or _has_ids(method, given),
            deadline=None if timeout is None else Deadline(elapsed() + timeout, timeout),
        )
        result: Raw = await self.outcome(call)
        return result

    async def outcome(self, call: Call) -> Any:
        """Send a call and wait for its outcome; its promise is a future.

        Raises:
            as `call` does.
        """
        assert isinstance(call.promise, asyncio.Future)
        self.send(call)
        alarm = None if call.deadline is None else Alarm(self, [call], call.deadline, self.limits.late_seconds_max)
        try:
            return await call.promise
        except asyncio.CancelledError as error:
            call.note_cancelled(error)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def send(self, call: Call) -> None:
        """Send a call, now or when there is room and a connection; its promise gets its outcome.

        Raises:
            EngineClosed: the link is not open.
            WrongLoop: it was opened on another event loop.
            LimitReached: too many calls wait.
            ProtocolViolated: the call is longer than a server reads.
        """
        home = self._home
        if get_ident() != home.thread or not home.runs():
            home.require()
        if self._life.status is not Phase.OPEN:
            raise EngineClosed(self._life.status)
        self._calls.add(call)
        if not self._is_flushing:
            self._wake()

    def leads_on(self, call: Call, error: MillstreamError) -> bool:
        """Whether a command that was refused so is for another server; if so, that one is looked for, once the one that
        is connected has answered what else it was sent.
        """
        if not self._reach.leads_on(error):
            return False
        if call.answered == self._reach.connections:  # else the server that said so is left already
            self._refused = error
            self._loop.call_soon(self._leave)
        return True

    def _leave(self) -> None:
        """Go to another server, once this one has answered what else it was sent."""
        if self._refused is None:
            return
        if self._connection is None:
            self._reach.move(self._refused)
            self._refused = None
            self._wake()
        elif not self._calls.awaits_commands:
            self._connection.drop(str(self._refused))

    def believed(self, call: Call, error: MillstreamError) -> MillstreamError:
        """What an error means that a command of a call was answered with; see `Calls.believed`."""
        return self._calls.believed(call, error)

    def post(self, method: str, params: bytes) -> None:
        """Say something that needs no reply, and that is worth nothing once the connection is gone."""
        if self._connection is not None:
            self._connection.say(method, params)

    def expire(self, calls: Iterable[Call], late: str | None = None) -> None:
        """The time of calls is over: those fail that the server does not have.

        Args:
            calls: which.
            late: why not even those are waited for that it has.
        """
        problem = self._reach.outage.problem if self._connection is None else None
        for call in calls:
            if not call.promise.done():
                is_sent = call.id in self._calls.sent
                if late is not None or not is_sent:
                    self._calls.give_up(call, late if is_sent else problem)

    async def subscribe(
        self, method: str, params: Mapping[str, Any], *, after: int = 0, policy: Policy, name: str = ""
    ) -> Subscription:
        """Begin a ``watch`` or ``follow``; it is to be closed.

        Args:
            method: which of them.
            params: by name, without ``after``.
            after: the position to begin with.
            policy: what is kept for a slow taker.
            name: what errors call it.

        Raises:
            MillstreamError: what the server answered.
            ConnectionLost: it can't be reached.
        """
        data, called = encode(params)[1:-1], name or method
        subscription = Subscription(self, method.encode(), data, called, after, policy, self.limits)
        try:
            await subscription.begin()
        except BaseException:
            subscription.close()
            raise
        return subscription

    # What a connection tells.

    def received(self, connection: Connection, replies: Sequence[Reply]) -> None:
        """Replies have come: the call that waits for one gets it."""
        sent, is_proven = self._calls.sent, False
        for reply in replies:
            to = reply.id
            call = sent.pop(to, None) if type(to) is int else None
            if call is not None:
                promise, call.answered = call.promise, self._reach.connections
                if call.commands != 1:
                    self._calls.more -= call.commands - 1
                if promise.done():
                    pass
                elif reply.error is UNSET:
                    promise.set_result(Raw(b"null") if reply.result is UNSET else reply.result)
                elif self.leads_on(call, error := error_of(reply.error)):
                    self._calls.again(call)
                    continue  # it proves no writer
                else:
                    self._calls.refuse(call, error)
            elif reply.params is not UNSET:
                self._on_notification(reply.params)
            elif to == OWN_ID:
                connection.answered(reply)
            elif to is None and reply.error is not UNSET:
                connection.refusal = error_of(reply.error)
                continue
            is_proven = True
        if is_proven and self._refused is None:
            self._reach.outage.end()
        self._leave()
        self._wake()
        self._look_if_drained()

    def writable(self, connection: Connection) -> None:
        """It takes more."""
        self._wake()

    def lost(self, connection: Connection) -> None:
        """It is gone."""
        if connection is not self._connection:
            return
        self._connection = None
        problem, refusal = connection.problem, connection.refusal
        self._reach.outage.lost(problem, elapsed())
        if self._refused is not None or connection.is_silent:
            self._reach.move(self._refused)
            self._refused = None
        is_full = isinstance(refusal, LimitReached) and refusal.limit == "connections_max"
        self._calls.lost(problem, taken=not is_full)
        running, self.running = self.running, {}
        for subscription in running.values():
            subscription.lost(problem)
        if self._life.status is not Phase.OPEN:
            self._calls.fail_all(self._closed)
            self._look_if_drained()
            return
        self._observer.connection_lost(address=self.name, problem=problem, waiting=len(self._calls.waiting))
        self._wake()

    def _on_notification(self, params: Raw) -> None:
        """Something came for a watch, or for one that is not wanted any more."""
        try:
            told = _read(params)
        except msgspec.DecodeError as error:
            self._on_nonsense(params, error)
            return
        subscription = self.running.get(told.watch)
        if subscription is not None:
            subscription.tell(told)

    def _on_nonsense(self, params: Raw, error: msgspec.DecodeError) -> None:
        """What came is not what a watch is sent: that watch ends. Where we don't have the watch, it is no matter."""
        try:
            number = _read_number(params).watch
        except msgspec.DecodeError:
            return
        subscription = self.running.get(number)
        if subscription is not None:
            subscription.end(RemoteError(INTERNAL_ERROR, f"what came for the watch is none of the protocol: {error}"))
            subscription.close()

    # Sending.

    def _wake(self) -> None:
        """Let what waits be sent, or let a connection be made for it."""
        connection = self._connection
        if connection is None:
            if self._connecting is None and self._calls.waiting and self._life.status is Phase.OPEN:
                self._connecting = self._loop.create_task(self._connect(), name="millstream-link")
        elif not self._is_flushing and self._calls.may_send and connection.takes_more and self._refused is None:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        connection = self._connection
        if connection is not None and connection.takes_more and self._refused is None:
            lines = self._calls.take(elapsed())
            if lines:
                connection.transport.write(b"".join(lines))
        self._wake()

    # Connecting.

    async def _connect(self) -> None:
        """Connect, or tell everybody who waits that there is no connection."""
        try:
            self._connection = await self._reach.connect(self)
        except MillstreamError as error:
            self._calls.fail_all(partial(self._unreached, error))
        finally:
            self._connecting = None
        self._wake()

    def _unreached(self, error: MillstreamError, call: Call) -> MillstreamError:
        if call.is_in_doubt or isinstance(error, ConnectionLost):
            problem = error.problem if isinstance(error, ConnectionLost) else str(error)
            return ConnectionLost(self.name, problem, call.is_in_doubt)
        return type(error)(*error.args)

    def _listen(self) -> None:
        if self._connection is not None:
            self._connection.look(self.limits.quiet_seconds_max)
        self._beat = self._loop.call_later(self.limits.quiet_seconds_max, self._listen)

    # Closing.

    async def _close(self) -> None:
        """Wait for the outcome of commands, tell everybody else that there is none, and close the connection."""
        for timer in (self._beat, self._connecting):
            if timer is not None:
                timer.cancel()
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        for subscription in list(self.running.values()):
            subscription.end(EngineClosed(self._life.status))
        connection = self._connection
        if connection is not None:
            self._calls.fail_all(self._closed, only=lambda call: not call.changes)
            with anyio.move_on_after(self.limits.drain_seconds_max):
                if self._calls.has_commands:
                    self._drained = self._loop.create_future()
                    await self._drained
        self._life.must(Turn.CLOSED)
        self._home.leave()
        self._calls.fail_all(self._closed)
        if connection is not None and not connection.closed.done():
            connection.transport.close()
            with anyio.move_on_after(self.limits.connect_seconds_max):
                await asyncio.shield(connection.closed)
            connection.transport.abort()
            await connection.closed

    def _closed(self, call: Call) -> MillstreamError:
        if call.is_in_doubt:
            return ConnectionLost(self.name, "the client was closed", sent=True)
        return EngineClosed(self._life.status)

    def _look_if_drained(self) -> None:
        if self._drained is not None and not self._drained.done() and not self._calls.has_commands:
            self._drained.set_result(None)


def _has_ids(method: str, params: Mapping[str, Any]) -> bool:
    """Whether what a request would change has a name, so that sending it twice does what sending it once does."""
    if method == "execute":
        return params.get("command_id") is not None
    return None not in (params.get("command_ids") or (None,))
