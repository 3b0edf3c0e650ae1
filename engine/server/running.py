"""What runs for one connection: answers that come later, and streams of notifications, each under its number.

Here: the tasks. Not here: what they do (`queries`, `commands`), and where what they say goes (`connection`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, cast

from millstream.engine.errors import EngineClosed, LimitReached

__all__ = ["Running"]


class Running:
    """The tasks of one connection: a base class of it.

    Args:
        watches_max: how many streams there may be at once.
    """

    def __init__(self, watches_max: int) -> None:
        #: By number: what sends notifications.
        self.streams: dict[int, asyncio.Task[None]] = {}
        self._watches_max = watches_max
        #: Everything that runs for it, streams included.
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream_number = 0

    @property
    def may_stream(self) -> bool:
        """Whether a stream may begin."""
        raise NotImplementedError

    def task_ended(self) -> None:
        """One of its tasks has ended."""
        raise NotImplementedError

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something run that answers a request in flight later; it ends with the connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._keep(task)
        return task

    def stream(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Let something run that sends notifications under a number of its own, until it ends or is ended.

        Raises:
            LimitReached: the connection has as many as it may.
            EngineClosed: the connection ends, and its streams with it.
        """
        if not self.may_stream:
            raise EngineClosed("closing")
        if len(self.streams) >= self._watches_max:
            raise LimitReached("connection_watches_max", self._watches_max)
        self._stream_number = number = self._stream_number + 1
        self.streams[number] = task = asyncio.get_running_loop().create_task(work(number))
        task.add_done_callback(lambda _: self.streams.pop(number, None))
        self._keep(task)
        return task

    def end_stream(self, number: int) -> None:
        """Let nothing more come of a stream, if there is one of this number; what is made next finds its room."""
        task = self.streams.pop(number, None)
        if task is None:
            return
        if inspect.getcoroutinestate(cast(Coroutine[Any, Any, None], task.get_coro())) == inspect.CORO_CREATED:
            asyncio.get_running_loop().call_soon(task.cancel)  # it has begun by then, and answers who made it
        else:
            task.cancel()

    def _end_streams_soon(self) -> None:
        """When those that were made just now have begun: only then do they answer who made them."""
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in self.streams.values()])

    def _cancel_all(self) -> None:
        """The other side listens no more."""
        for task in self._tasks:
            task.cancel()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.task_ended()
