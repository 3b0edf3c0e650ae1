"""Where fakes act: one loop in simulated time, from the first effect of a scenario to its end.

Here: entering fakes as an engine does, running one coroutine after another beside them, and leaving them. Not here:
which effect is performed, and by which fake (`fakes`).

Invariant: between two runs nothing moves: no task of a fake goes on, and no time passes but what `pass_time` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from weakref import finalize

from millstream.engine.testing.errors import SimulationError
from millstream.engine.testing.loop import confined, require_no_loop
from millstream.engine.testing.simulation import quiet_loop

__all__ = ["Stage", "is_entered"]

T = TypeVar("T")


class Stage:
    """A loop, and those who act on it.

    Args:
        instances: those among them that are async context managers are entered before the first run, all in one task.
            `close` leaves them in that task, so anyio's task groups can be held open.
    """

    def __init__(self, instances: Iterable[Any]) -> None:
        self._loop = quiet_loop()
        self._instances = list(filter(is_entered, instances))
        self._host: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()
        finalize(self, self._loop.close)  # where nothing is entered, `close` is not needed

    def run(self, made: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run one coroutine to its end.

        Raises:
            SimulationError: a loop runs in this thread.
            Stuck, NotSimulated: it goes round in circles, or wants what is not there. The stage is closed.
            BaseException: whatever it raised, or a fake that is entered: in entering, or in a task that it keeps.
        """
        require_no_loop("this")
        self._loop.renew()
        try:
            with confined(self._loop):
                return self._loop.run_until_complete(self._loop.create_task(self._beside_them(made), name="effect"))
        except SimulationError:
            self._dismiss()
            raise

    def pass_time(self, seconds: float) -> None:
        """Let the clock be so much later. Tasks that wait for that go on in the next run."""
        self._loop.clock.now += seconds

    @property
    def is_closed(self) -> bool:
        """Whether nothing runs here any more."""
        return self._loop.is_closed()

    def close(self) -> None:
        """Leave those who were entered, and cancel whatever they have left running.

        Raises:
            SimulationError: a loop runs in this thread.
            BaseException: what one of them raised.
        """
        if self.is_closed:
            return
        require_no_loop("this")
        self._loop.renew()
        host, self._host = self._host, None
        try:
            if host is not None:
                self._is_over.set()
                with confined(self._loop):
                    self._loop.run_until_complete(host)
        finally:
            self._dismiss()

    async def _beside_them(self, made: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._instances and self._host is None:
            entered: asyncio.Future[None] = self._loop.create_future()
            self._host = self._loop.create_task(self._hold(entered), name="fakes")
            await asyncio.wait([self._host, entered], return_when=asyncio.FIRST_COMPLETED)
            self._require_host()
        returned = await made()
        self._require_host()
        return returned

    async def _hold(self, entered: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            for instance in self._instances:
                await stack.enter_async_context(instance)
            entered.set_result(None)
            await self._is_over.wait()

    def _require_host(self) -> None:
        """See that those who were entered still are."""
        if self._host is not None and self._host.done():
            host, self._host = self._host, None
            host.result()

    def _dismiss(self) -> None:
        with confined(self._loop):
            self._loop.dismiss()
        self._loop.close()


def is_entered(instance: Any) -> bool:
    """Whether an engine enters it: it is an async context manager."""
    return hasattr(type(instance), "__aenter__")
