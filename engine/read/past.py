"""Yesterday: the state of a view as it was after an earlier commit, made again by today's code.

Here: which commit is meant, making the state, and keeping a few of them. Not here: the live views (`actor`), and asking
(`queries`).

A state is made from the latest snapshot that is kept from before it, in slices, with a rest as long as each, and one at
a time, so that those who ask the live views hardly notice. A task of its own makes it: where its caller gives up, it
goes on for the next one that asks for the same, unless another one is wanted first.

Invariants: whole commits only; no more than ``past_states_max`` states are kept, and one is in the making.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple, TypeAlias

import anyio

from millstream.engine.application.app import App
from millstream.engine.application.messages import At, position_of
from millstream.engine.application.validation import require_reached
from millstream.engine.commits.commit import timestamp
from millstream.engine.errors import EngineClosed, InvalidMessage, NotYetVisible, ViewBehind, ViewFaulted
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock
from millstream.engine.read.bringing import bring, let_go, new_state, resting
from millstream.engine.read.state import ReadState
from millstream.engine.stores.finding import commit_of, last_commit
from millstream.engine.stores.port import Log

__all__ = ["PastStates"]


#: A view, and the number of a commit.
_Name: TypeAlias = tuple[int, int]


class _Making(NamedTuple):
    name: _Name
    read: ReadState
    task: asyncio.Task[None]


class PastStates:
    """Earlier states of an application's views.

    Args:
        app: the application.
        limits: ``past_states_max``, ``slice_ms_max``, ``read_bytes_max`` and ``view_parked_max`` are honoured.
        log: gives the log, which is open when a caller asks.
        clock: the time of day.
    """

    def __init__(self, app: App, limits: Limits, log: Callable[[], Log], clock: Clock) -> None:
        self._app = app
        self._limits = limits
        self._log = log
        self._clock = clock
        #: By view and number of commit, the one that was asked last at the end.
        self._made: dict[_Name, ReadState] = {}
        self._making: _Making | None = None
        #: Held by the caller that waits for the one that is made, or makes a state of today.
        self._turn = asyncio.Lock()
        #: How many wait for one.
        self._waiting = 0
        self._is_over = False
        #: Gives a new state the latest snapshot of a commit that is not later than that of a number. A commit's.
        self.restore: Callable[[ReadState, int], Awaitable[None]] | None = None

    async def end(self) -> None:
        """Make none any more: callers that wait for one, or ask, get `EngineClosed`."""
        self._is_over = True
        await self.stop()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A block in which no earlier state is made."""
        async with self._turn:
            await self.stop()
            yield

    async def stop(self) -> None:
        """Make none, also not the one that no caller waits for any more."""
        if self._making is not None:
            making, self._making = self._making, None
            making.task.cancel()
            await asyncio.wait([making.task])
            if not making.task.cancelled():
                making.task.exception()  # no caller has waited for it
            if not self._is_over:
                await let_go(making.read, resting(self._limits))

    async def state(self, view: int, at: At, timeout: float | None = None) -> ReadState:
        """The state of a view as of a position or a time. It is to be asked at once, and not to be kept.

        Args:
            view: which of the application's.
            at: a position: with the whole commit that holds that event; or a time: with the last commit that was
                recorded no later.
            timeout: seconds to wait for that.

        Raises:
            NotYetVisible: it took longer; what was made is there for the next caller.
            ViewBehind: ``view_waiters_max`` wait already.
            InvalidMessage: it is before the log, or in the future; or it is neither a token nor a time with a zone.
            ViewFaulted: today's code could not apply an event before that.
            LogCorrupt, EventsUnreadable, LogRefused: the log can't be read.
        """
        if self._waiting >= self._limits.view_waiters_max:
            raise ViewBehind(self._app.views[view].__name__, 0, self._waiting, self._limits.view_waiters_max)
        self._waiting += 1
        try:
            return await self._found(view, at, timeout)
        finally:
            self._waiting -= 1

    async def _found(self, view: int, at: At, timeout: float | None) -> ReadState:
        position = 0
        with anyio.move_on_after(timeout):
            number, position = await self._meant(at)
            name = view, number
            if name not in self._made:
                async with self._turn:
                    if name not in self._made:
                        self._made[name] = await self._make(name)
                        await self._shrink()
            self._made[name] = found = self._made.pop(name)
            if found.fault is not None:
                raise ViewFaulted(found.view, *found.fault) from found.fault[1]
            return found
        making = self._making
        at_present = making.read.head.position if making is not None and making.name[0] == view else 0
        raise NotYetVisible(self._app.views[view].__name__, at_present, position, timeout or 0.0)

    async def _meant(self, at: At) -> tuple[int, int]:
        """The number of the last commit that is meant, 0 for none; and a position that it comes to."""
        log = self._log()
        head = await log.head()
        if isinstance(at, datetime):
            if at.tzinfo is None:
                raise InvalidMessage("at", f"{at.isoformat()} is a time without a zone: say which, as UTC")
            now = self._clock()
            try:
                told = timestamp(at)
            except OverflowError as error:
                raise InvalidMessage("at", f"{at.isoformat()} is no time that a log can have") from error
            if at > now and told > head.recorded_at:  # the clock may have been set back
                raise InvalidMessage("at", f"{told} is in the future: it is {timestamp(now)}")
            found = await last_commit(log, head.number, lambda commit: commit.recorded_at <= told)
            if found is None:
                first = (await log.read(0, 1))[0].recorded_at if head.number else "there is none"
                raise InvalidMessage("at", f"{told} is before the log's first commit: {first}")
            return found.number, found.position
        position = position_of(at, "at")
        if position < 0:
            raise InvalidMessage("at", f"position {position:,} is before the log: 0 is before its first event")
        require_reached(position, head.position, "at")
        return await commit_of(log, head.number, position), position

    async def _make(self, name: _Name) -> ReadState:
        if self._making is None or self._making.name != name:
            await self.stop()
            if self._is_over:
                raise EngineClosed("closing")
            read = new_state(self._app, name[0], self._limits)
            task = asyncio.create_task(self._bring(read, name[1]), name=f"millstream-past-{read.view}")
            self._making = _Making(name, read, task)
        making = self._making
        await asyncio.wait([making.task])
        if self._making is making:
            self._making = None
        if making.task.cancelled():  # it was stopped, as all is
            raise EngineClosed("closing")
        making.task.result()
        return making.read

    async def _bring(self, read: ReadState, number: int) -> None:
        if self.restore is not None:
            await self.restore(read, number)
        await bring(read, self._app, self._log(), self._limits, number)

    async def _shrink(self) -> None:
        while len(self._made) > self._limits.past_states_max:
            await let_go(self._made.pop(next(iter(self._made))), resting(self._limits))
