"""A front that runs where its server does: the same code and the same stream, without the second that a process takes.

With it whole suites are run against servers with fronts. What is true of processes alone is in `test_processes`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

from msgspec.structs import replace

from millstream.engine.server.fronts.child import front_of
from millstream.engine.server.fronts.front import Front
from millstream.engine.server.fronts.order import Listening, Order
from millstream.engine.server.listening import Listener

__all__ = ["FrontHere"]


class FrontHere:
    """Stands where `Process` does."""

    pid = 1

    def __init__(self, order: Order, listeners: Sequence[Listener], stream: socket.socket) -> None:
        listening = [Listening(os.dup(each.fileno()), str(of.address)) for of in listeners for each in of.sockets]
        self._order = replace(order, listening=listening).line
        self._stream = stream
        self.front: Front | None = None
        self._task: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[tuple[int | None, str]] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="front-here")

    def kill(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        code = -9
        try:
            self.front = front_of(Order.of(self._order))
            code = 0 if await self.front.serve(self._stream) else 3
        finally:
            self._end()
            self.ended.set_result((code, ""))

    def _end(self) -> None:
        """What the system does when a process ends."""
        front = self.front
        if front is None:
            return
        front._stop_listening()
        for task in [*front._accepting, *front._arriving, front._sweeping]:
            if task is not None:
                task.cancel()
        if front.uplink._transport is not None:
            front.uplink._transport.abort()
        for connection in list(front.connections):
            connection.transport.abort()
