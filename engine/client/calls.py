"""Requests from being made to their outcome, without any socket: what is sent next, and what again.

    a call        a connection has room   its reply comes   the connection is lost       its time is over
    ------        ---------------------   ---------------   ----------------------       ----------------
    waits         is sent                                                                fails: not executed
    was sent      waits for its reply     is settled        where that is safe, waits    is given `late_seconds_max` for
                                                            again, in front; or fails    the server's word, then fails
    waits again   is sent                                                                fails: may have happened

Safe is what changes nothing, and a command with an id, which the server does not execute twice. Once a command was sent
again, a reply that it was not executed is true of the last time only: it may have happened, and that is how it fails.

Invariants: a call is settled once, and its caller gets nothing after giving up; what is sent again is sent in the order
in which it was sent first; no more than `in_flight_max` wait for their replies, those that were given up included, as
the server still has them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

import msgspec

from millstream.engine.application.options import Deadline
from millstream.engine.client.limits import ClientLimits
from millstream.engine.errors import (
    ConnectionLost,
    DeadlineExceeded,
    LimitReached,
    MillstreamError,
    ProtocolViolated,
    TryAgainLater,
)
from millstream.engine.wire import FrameTooLarge, error_from
from millstream.engine.wire.errors import INVALID_REQUEST
from millstream.engine.wire.messages import ErrorShape

__all__ = ["Call", "Calls", "Promise", "error_of"]

#: What a line has beside a call's params, at most: the method, an id, a timeout.
_ENVELOPE_BYTES = 160
#: The methods that are given how long their caller waits.
_TIMED = frozenset({b"execute", b"execute_many", b"ask", b"ask_all"})


class Promise(Protocol):
    """Where an outcome goes: a future of asyncio, or what looks like one."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


class Call:
    """One request.

    Args:
        method: the method's name.
        params: their JSON without the braces around it.
        promise: where the reply's ``result`` goes, as `Raw`, or the error.
        name: what errors call it.
        changes: whether it may change something, so that it is in doubt when no reply comes.
        repeatable: whether sending it twice does what sending it once does.
        deadline: when its caller gives up.
        commands: as how many requests in flight it counts.
    """

    __slots__ = (
        "answered",
        "changes",
        "commands",
        "deadline",
        "id",
        "method",
        "name",
        "params",
        "promise",
        "repeatable",
        "sends",
    )

    def __init__(
        self,
        method: bytes,
        params: bytes,
        promise: Promise,
        *,
        name: str = "",
        changes: bool = False,
        repeatable: bool = True,
        deadline: Deadline | None = None,
        commands: int = 1,
    ) -> None:
        self.method = method
        self.params = params
        self.promise = promise
        self.name = name
        self.changes = changes
        self.repeatable = repeatable
        self.deadline = deadline
        self.commands = commands
        self.id = 0
        #: How often it was given to a socket.
        self.sends = 0
        #: By which connection the last reply to it came.
        self.answered = 0

    @property
    def is_in_doubt(self) -> bool:
        """Whether it may have happened."""
        return self.changes and self.sends > 0

    def note_cancelled(self, error: asyncio.CancelledError) -> None:
        """Note on the cancellation that the command may have been executed, if so."""
        if self.is_in_doubt:
            error.add_note("millstream: the command was sent before it was cancelled; it may have happened")


class Calls:
    """The calls of one client.

    Args:
        address: where they go, as errors call it.
        limits: the client's.
    """

    def __init__(self, address: str, limits: ClientLimits) -> None:
        #: Those to be sent, in order.
        self.waiting: deque[Call] = deque()
        #: Those whose replies are awaited, in the order in which they were sent.
        self.sent: dict[int, Call] = {}
        self._address = address
        self._limits = limits
        #: What those among them that have several commands count beside the one that each is.
        self.more = 0
        self._ids = count(1)
        self._params_bytes_max = limits.frame_bytes_max - _ENVELOPE_BYTES
        self._waiting_calls_max = limits.waiting_calls_max

    @property
    def may_send(self) -> bool:
        """Whether something waits that could be sent."""
        if not self.waiting:
            return False
        in_flight = len(self.sent) + self.more  # one alone always may
        return not in_flight or in_flight + self.waiting[0].commands <= self._limits.in_flight_max

    @property
    def has_commands(self) -> bool:
        """Whether a caller waits for the outcome of a command."""
        return any(
            call.changes and not call.promise.done() for calls in (self.sent.values(), self.waiting) for call in calls
        )

    def add(self, call: Call) -> None:
        """Let a call wait to be sent.

        Raises:
            ProtocolViolated: it is longer than a server reads.
            LimitReached: too many wait already.
        """
        if len(call.params) > self._params_bytes_max:
            raise ProtocolViolated(INVALID_REQUEST, str(FrameTooLarge(self._limits.frame_bytes_max)))
        most = self._waiting_calls_max
        if len(self.waiting) >= most:
            self.waiting = deque(each for each in self.waiting if not each.promise.done())
            if len(self.waiting) >= most:
                raise LimitReached("waiting_calls_max", most)
        call.id = next(self._ids)
        self.waiting.append(call)

    def take(self, now: float) -> list[bytes]:
        """The lines to be sent now: as many as may be in flight, and as may be given to the socket at once."""
        waiting, sent, lines, size = self.waiting, self.sent, [], 0
        in_flight_max, bytes_max = self._limits.in_flight_max, self._limits.output_bytes_max
        in_flight = len(sent) + self.more
        while waiting and size < bytes_max:
            call = waiting[0]
            if in_flight and in_flight + call.commands > in_flight_max:
                break
            waiting.popleft()
            if call.promise.done():
                continue
            params = call.params
            if call.deadline is not None:
                left = call.deadline.at - now
                if left <= 0:
                    self.give_up(call)
                    continue
                if call.method in _TIMED:
                    params = b'%b,"timeout":%.6f' % (params, left)
            line = b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":{%b}}\n' % (call.id, call.method, params)
            call.sends += 1
            sent[call.id] = call
            in_flight += call.commands
            lines.append(line)
            size += len(line)
        self.more = in_flight - len(sent)
        return lines

    def lost(self, problem: str, *, taken: bool = True) -> None:
        """The connection is gone: what was sent waits again where that is safe, and fails where it is not.

        Args:
            problem: why it is gone.
            taken: False if the server is known to have taken nothing of what was sent to it.
        """
        again: list[Call] = []
        for call in self.sent.values():
            if call.promise.done():
                continue
            if not taken:
                call.sends -= 1
            if not call.sends or (call.repeatable and call.sends < self._limits.sends_max):
                again.append(call)
            else:
                call.promise.set_exception(ConnectionLost(self._address, problem, call.is_in_doubt))
        self.sent.clear()
        self.more = 0
        self.waiting.extendleft(reversed(again))

    @property
    def awaits_commands(self) -> bool:
        """Whether a command was sent whose outcome may come yet."""
        return any(call.changes for call in self.sent.values())

    def again(self, call: Call) -> None:
        """Let a call wait to be sent once more, in front: its server has said that it has not done it."""
        call.sends -= 1
        self.waiting.appendleft(call)

    def refuse(self, call: Call, error: MillstreamError) -> None:
        """The server has answered a call with an error: it fails.

        Args:
            call: which one; it is not settled yet.
            error: what the server said.
        """
        call.promise.set_exception(self.believed(call, error))

    def believed(self, call: Call, error: MillstreamError) -> MillstreamError:
        """What an error means that the server has answered a call with, or one of its commands.

        A server can say that a request was not executed; not that another one was not, which was sent before on a
        connection that was lost. Where that may have been executed, the command is in doubt.

        Args:
            call: which one.
            error: what the server said.
        """
        if not (call.changes and call.sends > 1 and _denies(error)):
            return error
        problem = f"it was sent {call.sends} times, and only to the last of them came a reply: {error}"
        lost = ConnectionLost(self._address, problem, sent=True)
        lost.__cause__ = error
        return lost

    def give_up(self, call: Call, problem: str | None = None) -> None:
        """A call's time is over: it fails.

        Args:
            call: which one.
            problem: what is wrong with the connection, if anything.
        """
        lost = ConnectionLost(self._address, problem or "there was no room to send it again", call.is_in_doubt)
        if call.is_in_doubt or call.deadline is None:
            call.promise.set_exception(lost)
            return
        error = DeadlineExceeded(call.name, call.deadline.timeout_seconds, decided=False)
        error.__cause__ = lost if problem is not None else None
        call.promise.set_exception(error)

    def fail_all(
        self, reason: Callable[[Call], MillstreamError], *, only: Callable[[Call], bool] = lambda call: True
    ) -> None:
        """Let all fail for which ``only`` holds.

        Args:
            reason: makes the error, one for each.
            only: all by default.
        """
        left: deque[Call] = deque()
        for call in [*self.sent.values(), *self.waiting]:
            if call.promise.done():
                continue
            if only(call):
                call.promise.set_exception(reason(call))
            elif call.id not in self.sent:
                left.append(call)
        self.waiting = left


def _denies(error: MillstreamError) -> bool:
    """Whether the error says that nothing happened, for reasons that need not have held a moment before."""
    if isinstance(error, DeadlineExceeded):
        return not error.decided
    if isinstance(error, ConnectionLost):
        return not error.sent
    return isinstance(error, TryAgainLater)


def error_of(shape: ErrorShape) -> MillstreamError:
    """The error that a server sent."""
    return error_from(shape.code, shape.message, msgspec.json.decode(shape.data))
