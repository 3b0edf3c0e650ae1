"""What becomes of `execute`: into the mailbox of an engine, or on to the writer of a replica.

A command to an engine needs neither a task nor a future: what the writer settles is the reply itself (`_Execution`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from millstream.engine.application.options import Deadline, Options
from millstream.engine.errors import DeadlineExceeded, LimitReached
from millstream.engine.gateway import Gateway
from millstream.engine.loop.clock import elapsed
from millstream.engine.server.connection import Batch, Connection
from millstream.engine.write.admission import Admission
from millstream.engine.write.envelope import Envelope

__all__ = ["Commands", "Forwarding"]


class Commands:
    """Puts commands into an engine's mailbox.

    Those that find it full wait at its door, one for each connection, and are let in one after another.

    Args:
        admission: that of an open engine.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._mailbox = admission.mailbox
        self._held: dict[Connection, tuple[_Execution, Envelope]] = {}
        self._letting_in: asyncio.Task[None] | None = None

    def execute(self, connection: Connection, request: Any, batch: Batch | None) -> None:
        """The handler of the method."""
        params = request.params
        options: Options | None = None
        timed: _TimedExecution | None = None
        if params.command_id is not None or params.expected_version is not None or params.metadata is not None:
            options = self._admission.options(
                params.command, params.command_id, params.expected_version, params.metadata
            )
        if params.timeout is None:
            execution = _Execution(connection, request.id, batch)
        else:
            options = replace(options or Options(), deadline=Deadline(elapsed() + params.timeout, params.timeout))
            execution = timed = _TimedExecution(connection, request.id, batch)
        envelope: Envelope = (execution, params.command, options)
        ticket = self._mailbox.try_put(envelope) if params.wait else self._mailbox.put_nowait(envelope)
        if not ticket:
            self._hold(connection, execution, envelope)
        connection.in_flight += 1
        if timed is not None:
            timed.start(ticket, params.timeout, type(params.command).__name__, self._admission.is_decided)

    def forget(self, connection: Connection) -> None:
        """A connection is gone: its command that waits at the door does not get in."""
        self._held.pop(connection, None)

    async def close(self) -> None:
        """Let nobody in any more."""
        if self._letting_in is not None:
            self._letting_in.cancel()
            await asyncio.wait([self._letting_in])

    def _hold(self, connection: Connection, execution: _Execution, envelope: Envelope) -> None:
        connection.is_held = True
        self._held[connection] = execution, envelope
        if self._letting_in is None:
            self._letting_in = asyncio.get_running_loop().create_task(self._let_in(), name="millstream-server-door")

    async def _let_in(self) -> None:
        try:
            while self._held:
                connection = next(iter(self._held))
                execution, envelope = self._held.pop(connection)
                if not execution.done():
                    await self._put(execution, envelope)
                connection.is_held = False
                connection.work()
        finally:
            self._letting_in = None

    async def _put(self, execution: _Execution, envelope: Envelope) -> None:
        try:
            ticket = await self._mailbox.put(envelope)
            if isinstance(execution, _TimedExecution):
                execution.ticket = ticket
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            if not execution.done():
                execution.set_exception(error)


class _Execution:
    """Where the outcome of one command goes: what the writer takes for its promise. Never raises."""

    __slots__ = ("_batch", "_connection", "_id")

    def __init__(self, connection: Connection, to: Any, batch: Batch | None) -> None:
        self._connection = connection
        self._id = to
        self._batch = batch

    def done(self) -> bool:
        """Whether nobody waits any more; a command that was not decided by then never is."""
        return self._connection.is_gone

    def set_result(self, receipt: Any, /) -> None:
        self._connection.settle(self._id, receipt, self._batch)

    def set_exception(self, error: BaseException, /) -> None:
        self._connection.fail(self._id, error, self._batch)
        self._connection.settled()


class _TimedExecution(_Execution):
    """One that gives up after a time."""

    __slots__ = ("_is_done", "_timer", "ticket")

    def __init__(self, connection: Connection, to: Any, batch: Batch | None) -> None:
        super().__init__(connection, to, batch)
        #: That of the mailbox; 0 while it is not in there.
        self.ticket = 0
        self._is_done = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self, ticket: int, seconds: float, command: str, is_decided: Callable[[int], bool]) -> None:
        """Give up after so many seconds, if there is no outcome then."""

        def expire() -> None:
            if not self.done():
                self.set_exception(DeadlineExceeded(command, seconds, decided=is_decided(self.ticket)))

        self.ticket = ticket
        self._timer = asyncio.get_running_loop().call_later(seconds, expire)

    def done(self) -> bool:
        return self._is_done or super().done()

    def set_result(self, receipt: Any, /) -> None:
        self._finish()
        super().set_result(receipt)

    def set_exception(self, error: BaseException, /) -> None:
        self._finish()
        super().set_exception(error)

    def _finish(self) -> None:
        self._is_done = True
        if self._timer is not None:
            self._timer.cancel()


class Forwarding:
    """Passes commands on to the writer that a replica knows.

    Args:
        backend: the replica.
        forwards_max: how many may be under way, of all connections together.
    """

    def __init__(self, backend: Gateway, forwards_max: int) -> None:
        self._backend = backend
        self._forwards_max = forwards_max
        self._forwards = 0

    def execute(self, connection: Connection, request: Any, batch: Batch | None) -> None:
        """The handler of the method."""
        if self._forwards >= self._forwards_max:
            raise LimitReached("forwards_max", self._forwards_max)
        self._forwards += 1
        connection.in_flight += 1
        connection.spawn(self._forward(connection, request, batch)).add_done_callback(self._forwarded)

    async def _forward(self, connection: Connection, request: Any, batch: Batch | None) -> None:
        params = request.params
        try:
            receipt = await self._backend.execute(
                params.command,
                command_id=params.command_id,
                expected_version=params.expected_version,
                metadata=params.metadata,
                timeout=params.timeout,
                wait=params.wait,
            )
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            connection.fail(request.id, error, batch)
            connection.settled()
        else:
            connection.settle(request.id, receipt, batch)

    def _forwarded(self, _: asyncio.Task[None]) -> None:
        self._forwards -= 1
