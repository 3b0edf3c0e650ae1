"""A standby: it follows a log that another process writes, with all that it takes to write it, and waits for its turn.

Here: following hot, whose turn it is, and taking the log. Not here: what an engine is once it writes (`engine`).

Invariants: nothing is decided, sent or performed here; when the log is taken, states and views are those of its very
head, and were not made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import anyio

from millstream.engine.application.app import App
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import LogLocked, MillstreamError, NotLeader
from millstream.engine.limits import Limits
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.feed import Feed, FeedStatus
from millstream.engine.recovery.recovery import Recovered
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.port import Log
from millstream.engine.write.parts import WriteParts

__all__ = ["Standby"]

#: How often the log is asked where its writer is.
_LEADER_SECONDS = 0.5
#: How long a store that failed when the log was to be taken is left alone.
_AGAIN_SECONDS = 0.2


class Standby:
    """Everything that an engine has before it writes.

    Args:
        app: the application.
        log: attached.
        limits: the engine's.
        views: those that are started with what the log holds.
        write: the write side's states, as of the same head.
        recovered: where they are.
        observer: is called with how it goes.
    """

    def __init__(
        self,
        app: App,
        log: Log,
        limits: Limits,
        views: Sequence[ViewActor],
        write: WriteParts,
        recovered: Recovered,
        observer: Observer,
    ) -> None:
        self._app = app
        self._log = log
        self._observer = observer
        self.write = write
        #: Up to which event all parts were in snapshots.
        self.saved = recovered.saved
        self._states = _States(write, log.name, observer)
        self._feed = Feed(app, log, limits, views, [*views, self._states], observer)
        self._feed.start(recovered.head)
        #: Where the writer is, as far as is known.
        self.leader: str | None = None

    @property
    def head(self) -> Head:
        """The last commit that it has."""
        return self._feed.head

    @property
    def problem(self) -> str:
        """Why it takes no commands, in words."""
        if (error := self._states.fault or self._feed.error) is not None:
            return f"it can't take over: {error}"
        where = "" if self.leader is None else f" at {self.leader}"
        return f"it stands by for the writer{where}"

    def refusal(self) -> NotLeader:
        """What a caller gets that sends a command."""
        return NotLeader(self.leader)

    async def turn(self, address: str | None) -> Leadership:
        """Follow until the log is this process's, and to its end.

        Args:
            address: where clients reach this process.

        Raises:
            CommitsLost, LogRefused, LogCorrupt, EventsUnreadable: the log can't be gone on with.
        """
        asking = asyncio.create_task(self._ask(), name="millstream-leader")
        try:
            while True:
                leadership = await self._try_turn(address)
                if leadership is not None:
                    break
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        await self._feed.finish()
        if self._states.fault is not None:
            raise self._states.fault
        return leadership

    async def _try_turn(self, address: str | None) -> Leadership | None:
        """Follow until it may be one's turn, and try to take the log."""
        following = asyncio.create_task(self._follow(), name="millstream-feed")
        try:
            await self._log.wait_for_turn()
            while self._states.fault is not None or self._feed.status is FeedStatus.STOPPED:
                await anyio.sleep_forever()  # what can't follow can't take over: it answers what it knows
        finally:
            following.cancel()
            await asyncio.wait([following])
        await to_the_end(self._log.close())
        try:
            return await to_the_end(self._log.open(self._app.name, address))
        except LogLocked:
            pass
        except MillstreamError as error:
            self._observer.store_failed(log=self._log.name, error=error)
            await anyio.sleep(_AGAIN_SECONDS)
        await to_the_end(self._log.close())
        await self._attach()
        return None

    async def _follow(self) -> None:
        await self._feed.run()
        if (error := self._feed.error) is not None:
            self._observer.standby_failed(log=self._log.name, position=self.head.position, error=error)

    async def _attach(self) -> None:
        """Go on reading; the feed finds out what is wrong if that can't be."""
        while True:
            try:
                await to_the_end(self._log.attach())
                return
            except MillstreamError as error:
                self._observer.store_failed(log=self._log.name, error=error)
            await anyio.sleep(_AGAIN_SECONDS)

    async def _ask(self) -> None:
        while True:
            with suppress(Exception):  # while the log is being taken, or is away
                self.leader = await self._log.leader()
            await anyio.sleep(_LEADER_SECONDS)


class _States:
    """The write side's states as a follower: applied in the call that offers a commit."""

    task_name = "millstream-states"

    def __init__(self, write: WriteParts, log: str, observer: Observer) -> None:
        self._parts = write.all
        self._log = log
        self._observer = observer
        #: What a state could not apply.
        self.fault: Exception | None = None

    def start(self, head: Head) -> None:
        """Nothing to do: they are there."""

    def offer(self, decoded: DecodedCommit) -> None:
        if self.fault is not None:
            return
        try:
            for part in self._parts:
                for _ in part.steps(decoded):
                    pass
        except INTERRUPTS:
            raise
        except Exception as error:  # noqa: BLE001 - reported, and given as the reason why it is not ready
            self.fault = error
            self._observer.standby_failed(log=self._log, position=decoded.start, error=error)

    def resync(self, head: Head) -> None:
        """Nothing to do: a feed leaves nothing out."""

    def recede(self, head: Head) -> None:
        """Nothing to do: a feed reads what is durable."""

    async def run(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""
