"""What becomes of `execute` and `execute_many`: into the mailbox of an engine, or on to the writer of a replica.

A command to an engine needs neither a task nor a future: what the writer settles is the reply itself (`_Execution`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, cast

from msgspec import Raw

from millstream.engine.errors import LimitReached, MillstreamError
from millstream.engine.gateway import Gateway
from millstream.engine.server.caller import calling_as
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.many import Many, ids_of
from millstream.engine.server.output import Batch
from millstream.engine.server.peer import Peer
from millstream.engine.server.shares import Shares
from millstream.engine.wire.messages import Told, outcome_of
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
        #: Who waits at the door, by connection, and how it gets in.
        self._held: dict[Peer, _Waiting] = {}
        #: Requests for `execute_many` that are not taken up to the end.
        self._begun: dict[Peer, Many] = {}
        self._letting_in: asyncio.Task[None] | None = None

    def execute(self, connection: Peer, request: Any, batch: Batch | None) -> None:
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
            self._hold(connection, _Single(execution, entered))
        connection.in_flight += 1

    def execute_many(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """The handler of the method: some commands at a time, so that others have their turn."""
        many = self._begun.pop(connection, None)
        if many is None:
            many = Many(self._admission, connection, request, batch)
        if not many.is_over:
            many.take(connection.server.limits.in_flight_max - connection.in_flight)
        if many.waiting and not many.is_over:
            self._hold(connection, many)
        if not many.is_taken:
            self._begun[connection] = many
            connection.go_on(request, batch)

    def forget(self, connection: Peer) -> None:
        """A connection is gone: its commands that wait at the door do not get in."""
        self._held.pop(connection, None)
        self._begun.pop(connection, None)

    async def close(self) -> None:
        """Let no command in any more."""
        if self._letting_in is not None:
            self._letting_in.cancel()
            await asyncio.wait([self._letting_in])

    def _hold(self, connection: Peer, waiting: _Waiting) -> None:
        connection.hold(True)
        self._held[connection] = waiting
        if self._letting_in is None:
            self._letting_in = asyncio.get_running_loop().create_task(self._let_in(), name="millstream-server-door")

    async def _let_in(self) -> None:
        try:
            while self._held:
                connection = next(iter(self._held))
                waiting = self._held.pop(connection)
                if waiting.waiting and not waiting.done():
                    await waiting.enter()
                if waiting.waiting and not waiting.done():
                    self._held[connection] = waiting  # behind the others
                    continue
                connection.hold(False)
                connection.work()
        finally:
            self._letting_in = None


class _Waiting(Protocol):
    """What waits at the door: one command, or several."""

    @property
    def waiting(self) -> Any:
        """Something, as long as a command of it waits."""

    def done(self) -> bool: ...
    async def enter(self) -> None: ...


class _Execution:
    """Where the outcome of one command goes: what the writer takes for its promise. Never raises."""

    __slots__ = ("_batch", "_connection", "_id")

    def __init__(self, connection: Peer, to: Any, batch: Batch | None) -> None:
        self._connection = connection
        self._id = to
        self._batch = batch

    def done(self) -> bool:
        """Whether the caller has gone; a command that was not decided by then never is."""
        return self._connection.is_gone

    def set_result(self, receipt: Any, /) -> None:
        self._connection.settle(self._id, receipt, self._batch)

    def set_exception(self, error: BaseException, /) -> None:
        self._connection.fail(self._id, error, self._batch)
        self._connection.settled()


class _TimedExecution(_Execution):
    """One that gives up after a time."""

    __slots__ = ("_is_done", "expiry")

    def __init__(self, connection: Peer, to: Any, batch: Batch | None) -> None:
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


class _Single:
    """A command that waits at the door."""

    __slots__ = ("_enter", "_execution", "done", "waiting")

    def __init__(self, execution: _Execution, enter: Entering) -> None:
        self._execution = execution
        self._enter = enter
        self.waiting = True
        self.done = execution.done

    async def enter(self) -> None:
        """Let it in once there is room."""
        self.waiting = False
        execution = self._execution
        try:
            ticket = await self._enter()
            if isinstance(execution, _TimedExecution) and execution.expiry is not None:
                execution.expiry.ticket = ticket
        except Exception as error:  # noqa: BLE001 - sent to the caller
            if not execution.done():
                execution.set_exception(error)


class Forwarding:
    """Passes commands on to the writer that a replica knows, or through what is around an engine.

    Args:
        backend: the replica, or the edge.
        limits: the server's: how many may be under way, of all connections together, and of how many bytes.
    """

    def __init__(self, backend: Gateway, limits: ServerLimits) -> None:
        self._backend = backend
        self._forwards = Shares("forwards_max", limits.forwards_max)
        self._bytes = Shares("forwards_bytes_max", limits.forwards_bytes_max)

    def execute(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """The handler of the method."""
        self._pass_on(connection, batch, 1, self._forward(connection, request, batch))

    def execute_many(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """The handler of the method: all of its commands at once, so that more may be in flight for as long."""
        ids, commands = ids_of(connection, request), len(request.params.commands)
        self._pass_on(connection, batch, commands, self._forward_many(connection, request, batch, ids))

    def _pass_on(self, connection: Peer, batch: Batch | None, commands: int, work: Coroutine[Any, Any, None]) -> None:
        size_bytes = connection.large_bytes(batch)
        try:
            if size_bytes:
                self._bytes.take(connection, size_bytes)
            try:
                self._forwards.take(connection, commands)
            except LimitReached:
                self._done(connection, size_bytes, 0)
                raise
        except LimitReached:
            work.close()
            raise
        connection.in_flight += commands
        task = connection.spawn(work)
        task.add_done_callback(lambda _: self._done(connection, size_bytes, commands))

    def _done(self, connection: Peer, size_bytes: int, forwards: int) -> None:
        if size_bytes:
            self._bytes.give_back(connection, size_bytes)
        if forwards:
            self._forwards.give_back(connection, forwards)

    async def _forward(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        params = request.params
        try:
            with calling_as(connection.role):
                receipt = await self._backend.execute(
                    params.command,
                    command_id=params.command_id,
                    expected_version=params.expected_version,
                    metadata=params.metadata,
                    timeout=params.timeout,
                    wait=params.wait,
                )
        except Exception as error:  # noqa: BLE001 - sent to the caller
            connection.fail(request.id, error, batch)
            connection.settled()
        else:
            connection.settle(request.id, receipt, batch)

    async def _forward_many(
        self, connection: Peer, request: Any, batch: Batch | None, ids: Sequence[str | None]
    ) -> None:
        params, outcomes = request.params, dict[int, Any]()
        good: dict[int, Any] = {}
        for index, command in enumerate(params.commands):
            try:
                is_read = not isinstance(command, Raw)
                good[index] = command if is_read else connection.server.requests.command(bytes(command), index)
            except MillstreamError as error:
                outcomes[index] = error
        try:
            with calling_as(connection.role):
                told = await self._backend.execute_many(
                    good.values(),
                    command_ids=None if params.command_ids is None else cast("list[str]", [ids[i] for i in good]),
                    metadata=params.metadata,
                    timeout=params.timeout,
                )
            outcomes.update(zip(good, told, strict=True))
        except Exception as error:  # noqa: BLE001 - sent to the caller
            connection.fail(request.id, error, batch)
            connection.settled(len(params.commands))
            return
        for outcome in outcomes.values():
            if isinstance(outcome, Exception):
                connection.server.failed(outcome)
        result = Told([outcome_of(outcomes[index]) for index in range(len(params.commands))])
        connection.settle_many(request.id, result, batch, len(params.commands))
