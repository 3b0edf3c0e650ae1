"""What becomes of `execute`: into the mailbox of an engine, or on to the writer of a replica.

A command to an engine needs neither a task nor a future: what the writer settles is the reply itself (`_Execution`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from millstream.engine.errors import LimitReached
from millstream.engine.gateway import Gateway
from millstream.engine.server.connection import Connection
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.output import Batch
from millstream.engine.server.shares import Shares
from millstream.engine.write.admission import Admission, Entering
from millstream.engine.write.expiry import Expiry

__all__ = ["Commands", "Forwarding"]


class Commands:
    """Puts commands into an engine's mailbox.

    Those that find it full wait at its door, one for each connection, and are let in one after another.

    Args:
        admission: that of an open engine.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held: dict[Connection, tuple[_Execution, Entering]] = {}
        self._letting_in: asyncio.Task[None] | None = None

    def execute(self, connection: Connection, request: Any, batch: Batch | None) -> None:
        """The handler of the method."""
        params, size_bytes = request.params, connection.large_bytes(batch)
        if params.timeout is None:
            execution = _Execution(connection, request.id, batch)
            entered = self._admission.submit(params.command, params, execution, size_bytes)
        else:
            execution = timed = _TimedExecution(connection, request.id, batch)
            entered = self._admission.submit(params.command, params, timed, size_bytes)
            timed.expiry = self._admission.expiry(params.command, timed, params.timeout)
            if isinstance(entered, int):
                timed.expiry.ticket = entered
        if not isinstance(entered, int):
            self._hold(connection, execution, entered)
        connection.in_flight += 1

    def forget(self, connection: Connection) -> None:
        """A connection is gone: its command that waits at the door does not get in."""
        self._held.pop(connection, None)

    async def close(self) -> None:
        """Let nobody in any more."""
        if self._letting_in is not None:
            self._letting_in.cancel()
            await asyncio.wait([self._letting_in])

    def _hold(self, connection: Connection, execution: _Execution, enter: Entering) -> None:
        connection.is_held = True
        self._held[connection] = execution, enter
        if self._letting_in is None:
            self._letting_in = asyncio.get_running_loop().create_task(self._let_in(), name="millstream-server-door")

    async def _let_in(self) -> None:
        try:
            while self._held:
                connection = next(iter(self._held))
                execution, enter = self._held.pop(connection)
                if not execution.done():
                    await self._put(execution, enter)
                connection.is_held = False
                connection.work()
        finally:
            self._letting_in = None

    async def _put(self, execution: _Execution, enter: Entering) -> None:
        try:
            ticket = await enter()
            if isinstance(execution, _TimedExecution) and execution.expiry is not None:
                execution.expiry.ticket = ticket
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

    __slots__ = ("_is_done", "expiry")

    def __init__(self, connection: Connection, to: Any, batch: Batch | None) -> None:
        super().__init__(connection, to, batch)
        self.expiry: Expiry | None = None
        self._is_done = False

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
        if self.expiry is not None:
            self.expiry.cancel()


class Forwarding:
    """Passes commands on to the writer that a replica knows.

    Args:
        backend: the replica.
        limits: the server's: how many may be under way, of all connections together, and of how many bytes.
    """

    def __init__(self, backend: Gateway, limits: ServerLimits) -> None:
        self._backend = backend
        self._forwards = Shares("forwards_max", limits.forwards_max)
        self._bytes = Shares("forwards_bytes_max", limits.forwards_bytes_max)

    def execute(self, connection: Connection, request: Any, batch: Batch | None) -> None:
        """The handler of the method."""
        size_bytes = connection.large_bytes(batch)
        if size_bytes:
            self._bytes.take(connection, size_bytes)
        try:
            self._forwards.take(connection)
        except LimitReached:
            self._done(connection, size_bytes, 0)
            raise
        connection.in_flight += 1
        task = connection.spawn(self._forward(connection, request, batch))
        task.add_done_callback(lambda _: self._done(connection, size_bytes, 1))

    def _done(self, connection: Connection, size_bytes: int, forwards: int) -> None:
        if size_bytes:
            self._bytes.give_back(connection, size_bytes)
        if forwards:
            self._forwards.give_back(connection)

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
