"""A view's actor: applies durable commits in order, and tells queries when it has come far enough.

Here: what a view does next, and why a query can't be answered. Not here: commits and queries that wait (`queue`,
`waiting`), what applying is (`state`), and the log's chain (`stores.reader`).

    status        a commit is offered                it moves on by
    ------        -------------------                --------------
    OPENING       not possible                       `start`, with the state that the log has → LIVE
    LIVE          queued; queue full → CATCHING_UP   commits from the queue
    CATCHING_UP   ignored, it is in the log          commits from the log; at the log's end → LIVE, or JOINING first
    JOINING       queued; queue full → CATCHING_UP   commits from the log up to where the queue starts, then → LIVE
    FAULTED       ignored                            nothing: an event could not be applied, queries get `ViewFaulted`
    CLOSED        ignored                            nothing: queries get `EngineClosed`

Invariants: whole commits only, in order, each once; who offers never waits; no answer while a commit is half applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum

import anyio
import structlog

from millstream.engine.application.app import App
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import EngineClosed, MillstreamError, NotYetVisible, ViewBehind, ViewFaulted
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.read.queue import CommitQueue
from millstream.engine.read.state import ReadState
from millstream.engine.read.waiting import Waiting
from millstream.engine.read.watches import Watches
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.reader import Reader

__all__ = ["ViewActor", "ViewStatus"]

_log = structlog.get_logger("millstream")


class ViewStatus(StrEnum):
    """What a view is doing; the table above says what follows from it."""

    OPENING = "opening"
    LIVE = "live"
    CATCHING_UP = "catching up"
    JOINING = "joining"
    FAULTED = "faulted"
    CLOSED = "closed"


class ViewActor:
    """One view and its queue.

    Args:
        app: the application.
        index: which of its views.
        limits: the engine's.
        reader: makes a reader of the log that starts after a given head.
        wanted: is told of each position that a query begins to wait for.
    """

    def __init__(
        self,
        app: App,
        index: int,
        limits: Limits,
        reader: Callable[[Head], Reader],
        wanted: Callable[[int], None] | None = None,
    ) -> None:
        self.name = app.views[index].__name__
        self.status = ViewStatus.OPENING
        #: The state; that before the first event until `start`.
        self.read = ReadState(app, app.views[index], parked_max=limits.view_parked_max)
        #: The position of the last commit that was applied, which queries compare their token with.
        self.position = 0
        #: Whether it may answer: open, not faulted, and not in the middle of a commit.
        self.ready = False
        #: How often its queue was full.
        self.detached = 0
        #: Who wants to know when its answers change.
        self.watches = Watches(self, limits)
        self._limits = limits
        self._reader = reader
        self._wanted = wanted
        self._queue = CommitQueue(limits.view_queue_commits_max, limits.view_queue_bytes_max)
        self._published = Head()
        self._waiting = Waiting()
        self._wake: asyncio.Future[None] | None = None
        self._stopping = False
        #: Held while a commit is applied, and by whoever needs the state to stand still between two.
        self.still = asyncio.Lock()

    @property
    def head(self) -> Head:
        """The last commit that was applied."""
        return self.read.head

    @property
    def queued(self) -> int:
        """How many commits wait."""
        return len(self._queue)

    @property
    def lag(self) -> int:
        """How many events were published that it has not applied."""
        return max(0, self._published.position - self.position)

    def offer(self, decoded: DecodedCommit) -> None:
        """Hand over the next durable commit. Never waits, never raises."""
        self._published = decoded.head
        if self.status is not ViewStatus.LIVE and self.status is not ViewStatus.JOINING:
            return
        read = self.read
        if (
            decoded.head.number == read.head.number + 1
            and self.ready
            and read.types.isdisjoint(decoded.types)
            and not self.still.locked()
        ):
            read.head = decoded.head  # nothing in it for this view: no queue, no task switch
            self._moved()
        elif not self._queue.has_room(decoded):
            self.detach(decoded.head)
        else:
            self._queue.put(decoded)
            self._signal()

    async def room_for(self, decoded: DecodedCommit) -> None:
        """Wait until this commit can be offered without detaching the view. For one task, which offers all there is."""
        await self._queue.room_for(decoded)

    def detach(self, published: Head) -> None:
        """Drop the queue and read on from the log, which has everything up to ``published``."""
        self._published = published
        if self.status in (ViewStatus.FAULTED, ViewStatus.CLOSED):
            return
        if self.status is ViewStatus.LIVE:
            _log.warning("view_detached", view=self.name, position=self.position, lag=self.lag, queued=len(self._queue))
        self.status = ViewStatus.CATCHING_UP
        self.detached += 1
        self._queue.clear()
        self._signal()

    def start(self, read: ReadState) -> None:
        """The log is replayed: answer from now on, and take what is offered."""
        self.read, self.position, self._published = read, read.head.position, read.head
        if read.fault is None:
            self.status, self.ready = ViewStatus.LIVE, True
        else:
            self._faulted()

    async def run(self) -> None:
        """Apply what is offered until `stop`; then what is queued, and end."""
        slicer = Slicer(self._limits.slice_ms_max)
        try:
            while True:
                if self.status is ViewStatus.CATCHING_UP and not self._stopping:
                    await self._catch_up(slicer)
                elif self._queue and self.status is ViewStatus.LIVE:
                    await self.apply(self._queue.take(), slicer)
                elif self._stopping:
                    return
                else:
                    await self._signalled()
        finally:
            self.status = ViewStatus.CLOSED
            self.ready = False
            self._queue.clear()
            self._waiting.wake_all()

    def stop(self) -> None:
        """Let `run` end once the queue is empty."""
        self._stopping = True
        self._signal()

    async def apply(self, decoded: DecodedCommit, slicer: Slicer) -> None:
        """Apply one whole commit, resting whenever a slice is over; a view that raises is faulted, and nothing else.

        A commit that was applied already is passed over.
        """
        async with self.still:
            ready = self.ready
            for _ in self.read.steps(decoded):
                if slicer.is_over:
                    self.ready = False
                    await slicer.rest()
            if self.read.fault is not None:
                self._faulted()
                return
            self.ready = ready
            self._moved()
            if not self.read.types.isdisjoint(decoded.types):
                self.watches.changed()
                if self.watches.has_every:
                    await self.watches.answer_every(slicer)
        if slicer.is_over:
            await slicer.rest()

    async def replay_parked(self, keep: Callable[[Iterable[Part], Slicer], Awaitable[object]] | None) -> None:
        """Try again what is parked, between two commits; what comes of it is kept before another one is applied.

        Raises:
            EngineClosed: the view takes nothing any more.
        """
        async with self.still:
            if self._stopping:
                raise EngineClosed("closing")
            if self.read.is_sound:
                applied = self.read.replay_parked()
                self.watches.changed()
                await self.watches.answer_every(Slicer(self._limits.slice_ms_max))
                _log.info("parked_replayed", view=self.name, events=applied, parked=self.read.parked_count)
                if applied and keep is not None:
                    await keep([self.read.part()], Slicer(self._limits.slice_ms_max))

    async def reach(self, position: int, timeout: float | None) -> None:
        """Wait until every event up to ``position`` is applied and no commit is half applied.

        Raises:
            NotYetVisible: it took longer than ``timeout`` seconds.
            ViewBehind: ``view_waiters_max`` queries wait already.
            ViewFaulted: the view faulted, before or meanwhile.
            EngineClosed: the engine is closed, or closed meanwhile.
        """
        with anyio.move_on_after(timeout):
            while True:
                if self.read.fault is not None:
                    raise ViewFaulted(self.name, *self.read.fault) from self.read.fault[1]
                if self.status in (ViewStatus.OPENING, ViewStatus.CLOSED):
                    raise EngineClosed("closed" if self.status is ViewStatus.CLOSED else "not open yet")
                if self.ready and self.position >= position:
                    return
                await self._turn(position)
        raise NotYetVisible(self.name, self.position, position, timeout or 0.0)

    async def _turn(self, position: int) -> None:
        if len(self._waiting) >= self._limits.view_waiters_max:
            raise ViewBehind(self.name, self.position, len(self._waiting), self._limits.view_waiters_max)
        turn = self._waiting.join(position)
        if self._wanted is not None:
            self._wanted(position)
        await self._waiting.until(turn)

    async def _catch_up(self, slicer: Slicer) -> None:
        reader = self._reader(self.head)
        while self.status in (ViewStatus.CATCHING_UP, ViewStatus.JOINING) and not self._stopping:
            try:
                for decoded in await reader.page() or ():
                    await self.apply(decoded, slicer)
            except MillstreamError as error:  # the log can't be read on: not by trying again
                self.fault(error, self.position + 1)
            except Exception as error:  # noqa: BLE001 - the store failed: logged, and tried again
                _log.warning("view_catch_up_failed", view=self.name, position=self.position, error=repr(error))
                self.detach(self._published)
                with anyio.move_on_after(self._limits.catch_up_retry_seconds):
                    await self._signalled()
                reader = self._reader(self.head)
                continue
            self._try_to_join()

    def _try_to_join(self) -> None:
        """No await here: between looking at the head and going live nothing can be published."""
        behind = self._published.number - self.head.number
        if self.status is ViewStatus.CATCHING_UP and behind <= self._limits.view_queue_commits_max // 2:
            self.status = ViewStatus.JOINING
        if self.status is ViewStatus.JOINING:
            queued = self._queue.first
            if self.head.number + 1 >= (self._published.number + 1 if queued is None else queued.head.number):
                self.status = ViewStatus.LIVE
                _log.info("view_caught_up", view=self.name, position=self.position)

    def _moved(self) -> None:
        self.position = self.read.head.position
        if self._waiting:
            self._waiting.moved_to(self.position)

    def fault(self, error: BaseException, position: int | None = None) -> None:
        """Stop answering: the state is not what the events made of it."""
        self.read.fault = (self.position if position is None else position, error)
        self._faulted()

    def _faulted(self) -> None:
        if self.status is ViewStatus.FAULTED or self.read.fault is None:
            return
        position, error = self.read.fault
        self.status = ViewStatus.FAULTED
        self.ready = False
        self._queue.clear()
        self._waiting.wake_all()
        self.watches.end()
        _log.error("view_faulted", view=self.name, position=position, error=repr(error))

    async def _signalled(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _signal(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
