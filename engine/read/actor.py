"""A view's actor: applies durable commits in order, and tells queries when it has come far enough.

Here: what a view does next, and why a query can't be answered. Not here: commits and queries that wait (`queue`,
`waiting`), what applying is (`state`), and the log's chain (`stores.reader`).

    status        a commit is offered     commits come from                         a query
    ------        -------------------     -----------------                         -------
    OPENING       not possible            nowhere                                   gets `EngineClosed`
    LIVE          queued                  the queue                                 is answered, or waits
    CATCHING_UP   ignored, it is in the   the log                                   is answered, or waits
                  log
    JOINING       queued                  the log, up to where the queue starts     is answered, or waits
    FAULTED       ignored                 nowhere                                   gets `ViewFaulted`
    CLOSED        ignored                 nowhere                                   gets `EngineClosed`

What moves a view from one to another is the table `MOVES`.

Invariants: whole commits only, in order, each once; who offers never waits; no answer while a commit is half applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from enum import StrEnum

import anyio

from millstream.engine.application.app import App
from millstream.engine.application.interrupts import INTERRUPTS, Interrupted
from millstream.engine.application.validation import checked_timeout
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import EngineClosed, MillstreamError, NotYetVisible, ViewBehind, ViewFaulted
from millstream.engine.lifecycle import LifeCycle, Moves
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.observers import Faults, Observer, has_hook
from millstream.engine.read.holds import Holds
from millstream.engine.read.queue import CommitQueue
from millstream.engine.read.state import ReadState
from millstream.engine.read.waiting import Waiting
from millstream.engine.read.watches import Watches
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.reader import Reader

__all__ = ["MOVES", "ViewActor", "ViewEvent", "ViewStatus"]


class ViewStatus(StrEnum):
    """What a view is doing; the table at the head says what follows from it."""

    OPENING = "opening"
    LIVE = "live"
    CATCHING_UP = "catching up"
    JOINING = "joining"
    FAULTED = "faulted"
    CLOSED = "closed"


class ViewEvent(StrEnum):
    """What happens to a view."""

    #: The log is replayed.
    STARTED = "started"
    #: The queue is full, or the log can't be read, or it has commits that were not offered.
    FELL_BEHIND = "fell behind"
    #: Reading the log, the view has come so near to its end that what is offered now fits into the queue.
    CAME_NEAR = "came near"
    #: Reading the log, the view has come to where the queue starts.
    MET_QUEUE = "met queue"
    #: An event could not be applied, or the log can't be read on.
    FAULTED = "faulted"
    #: Another state takes the place of the one that faulted.
    MENDED = "mended"
    ENDED = "ended"


_ALWAYS = {ViewEvent.FAULTED: ViewStatus.FAULTED, ViewEvent.ENDED: ViewStatus.CLOSED}
_BEHIND = {ViewEvent.FELL_BEHIND: ViewStatus.CATCHING_UP}
MOVES: Moves[ViewStatus, ViewEvent] = {
    ViewStatus.OPENING: {**_ALWAYS, ViewEvent.STARTED: ViewStatus.LIVE},
    ViewStatus.LIVE: {**_ALWAYS, **_BEHIND},
    ViewStatus.CATCHING_UP: {**_ALWAYS, **_BEHIND, ViewEvent.CAME_NEAR: ViewStatus.JOINING},
    ViewStatus.JOINING: {**_ALWAYS, **_BEHIND, ViewEvent.MET_QUEUE: ViewStatus.LIVE},
    ViewStatus.FAULTED: {ViewEvent.MENDED: ViewStatus.CATCHING_UP, ViewEvent.ENDED: ViewStatus.CLOSED},
    ViewStatus.CLOSED: {},
}


class ViewActor:
    """One view and its queue.

    Args:
        app: the application.
        index: which of its views.
        limits: the engine's.
        reader: makes a reader of the log that starts after a given head.
        observer: is called with what happens to the view.
        wanted: is called with each position that a query is about to wait for. What it raises, the query raises.
    """

    def __init__(
        self,
        app: App,
        index: int,
        limits: Limits,
        reader: Callable[[Head], Reader],
        observer: Observer,
        wanted: Callable[[int], None] | None = None,
    ) -> None:
        self.name = app.views[index].__name__
        self.task_name = f"millstream-view-{self.name}"
        #: The state, which a recovery brings to the log's head before `start`.
        self.read = self._new_read(app, index, limits, observer)
        #: The position of the last commit that was applied, which queries compare their token with.
        self.position = 0
        #: Whether it may answer: open, not faulted, and not in the middle of a commit.
        self.ready = False
        #: How often its queue was full.
        self.detached = 0
        #: A state that is made anew beside the live one, and since when.
        self.rebuilding: tuple[ReadState, float] | None = None
        #: Who wants to know when its answers change.
        self.watches = self._new_watches(limits)
        self._life = LifeCycle(MOVES, ViewStatus.OPENING)
        self._limits = limits
        self._reader = reader
        self._observer = observer
        #: Tells of answers that have failed.
        self.faults = Faults(observer, elapsed)
        self._tell_applied = observer.applied if has_hook(observer, "applied") else None
        self._wanted = wanted
        self._queue = CommitQueue(limits.view_queue_commits_max, limits.view_queue_bytes_max)
        self._published = Head()
        self._waiting = Waiting()
        self._holds = Holds()
        self._wake: asyncio.Future[None] | None = None
        self._stopping = False
        #: Held while a commit is applied, and by what needs the state to stand still between two.
        self.still = asyncio.Lock()

    def _new_read(self, app: App, index: int, limits: Limits, observer: Observer) -> ReadState:
        return ReadState(app, app.views[index], parked_max=limits.view_parked_max, observer=observer)

    def _new_watches(self, limits: Limits) -> Watches:
        return Watches(self, limits)

    @property
    def status(self) -> ViewStatus:
        """What it is doing."""
        return self._life.status

    @property
    def head(self) -> Head:
        """The last commit that was applied."""
        return self.read.head

    @property
    def answers(self) -> bool:
        """Whether it answers at this moment. A view whose state lies elsewhere does so without ever being `ready`."""
        return self.ready

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
        status = self._life.status
        if status is not ViewStatus.LIVE and status is not ViewStatus.JOINING:
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
            self.resync(decoded.head)
        else:
            self._queue.put(decoded)
            self._signal()

    async def room_for(self, decoded: DecodedCommit) -> None:
        """Wait until this commit can be offered without detaching the view. For one task, which offers all there is."""
        await self._queue.room_for(decoded)

    def resync(self, head: Head) -> None:
        """Drop the queue and read on from the log, which has everything up to ``head``."""
        self._published = head
        was_live, queued = self.status is ViewStatus.LIVE, len(self._queue)
        if not self._life.on(ViewEvent.FELL_BEHIND):
            return
        if was_live:
            self._observer.view_detached(view=self.name, position=self.position, lag=self.lag, queued=queued)
        self.detached += 1
        self._queue.clear()
        self._signal()

    def recede(self, head: Head) -> None:
        """The log ends at ``head``: who waits for more looks again whether it will come."""
        self._waiting.wake_beyond(head.position)

    def start(self, head: Head) -> None:
        """The state is that of the log at ``head``: answer from now on, and take what is offered."""
        self.position, self._published = self.read.head.position, head
        if self.read.fault is not None:
            self._stopped_at(*self.read.fault)
        elif self._life.on(ViewEvent.STARTED):
            self.ready = True

    async def run(self) -> None:
        """Apply what is offered until `stop`; then what is queued, and end.

        Raises:
            Interrupted: the view wants the program to end.
        """
        slicer = Slicer(self._limits.slice_ms_max)
        try:
            await self._begin()
            while True:
                if self.status is ViewStatus.CATCHING_UP and not self._stopping:
                    await self._catch_up(slicer)
                elif self._queue and self.status is ViewStatus.LIVE:
                    await self._apply_queued(slicer)
                elif self._stopping:
                    return
                else:
                    await self._signalled()
        except INTERRUPTS as error:
            self.fault(error)
            raise Interrupted(f"view {self.name}") from error
        finally:
            self._life.on(ViewEvent.ENDED)
            self.ready = False
            self._queue.clear()
            self._waiting.wake_all()

    def stop(self) -> None:
        """Let `run` end once the queue is empty."""
        self._stopping = True
        self._signal()

    async def close(self) -> None:
        """End its watches."""
        await self.watches.close()

    async def apply(self, decoded: DecodedCommit, slicer: Slicer) -> None:
        """Apply one whole commit, resting whenever a slice is over; a view that raises is faulted, and nothing else.

        A commit that was applied already is passed over.
        """
        async with self.still:
            while self._holds.forbid(decoded.head.position):
                await self._holds.changed()
            ready = self.ready
            for _ in self.read.steps(decoded):
                if slicer.is_over:
                    self.ready = False
                    await slicer.rest()
            if self.read.fault is not None:
                self._stopped_at(*self.read.fault)
                return
            self.ready = ready
            self._moved()
            if not self.read.types.isdisjoint(decoded.types):
                self.watches.changed()
                if self.watches.has_every:
                    await self.watches.answer_every(slicer)
        if slicer.is_over:
            await slicer.rest()

    async def replay_parked(
        self, keep: Callable[[Part, Slicer], Awaitable[object]] | None, *, without: int | None = None
    ) -> int:
        """Try again what is parked, between two commits; what comes of it is kept before another one is applied.

        Args:
            keep: stores the state.
            without: the position of an event that is left out for good.

        Returns:
            How many were left out for good.

        Raises:
            EngineClosed: the view takes nothing any more.
        """
        skipped = 0
        async with self.still:
            if self._stopping:
                raise EngineClosed("closing")
            if self.read.is_sound:
                skipped = 0 if without is None else self.read.skip_parked(without)
                applied = self.read.replay_parked()
                self.watches.changed()
                await self.watches.answer_every(Slicer(self._limits.slice_ms_max))
                self._observer.parked_replayed(view=self.name, events=applied, parked=self.read.left_out.count)
                if (applied or skipped) and keep is not None:
                    await keep(self.read, Slicer(self._limits.slice_ms_max))
        return skipped

    def replace(self, read: ReadState) -> None:
        """Go on with another state, which is that of the same commit. The caller holds `still`.

        A view that has faulted takes one of any commit, answers again, and reads on from the log.

        Raises:
            RuntimeError: it is not that of the same commit: a defect of the engine.
        """
        is_faulted = self.status is ViewStatus.FAULTED
        if not is_faulted and read.head != self.read.head:
            raise RuntimeError(f"view {self.name} is at {self.head.number:,}, and its state at {read.head.number:,}")
        self.read = read
        if is_faulted and self._life.on(ViewEvent.MENDED):
            self.ready = True
            self._signal()
        self._moved()
        self.watches.changed()

    def hold(self, position: int) -> AbstractContextManager[None]:
        """Apply no event after ``position``, until the block ends. The view is not beyond it."""
        return self._holds.at(position)

    async def reach(self, position: int, timeout: float | None) -> None:
        """Wait until every event up to ``position`` is applied and no commit is half applied.

        Raises:
            InvalidMessage: the timeout is no number, or `wanted` knows that the log has no such position.
            NotYetVisible: it took longer than ``timeout`` seconds.
            ViewBehind: ``view_waiters_max`` queries wait already.
            ViewFaulted: the view faulted, before or meanwhile.
            EngineClosed: the engine is closed, or closed meanwhile.
        """
        if timeout is not None:
            timeout = checked_timeout(timeout)
        with anyio.move_on_after(timeout):
            while True:
                if self.read.fault is not None:
                    raise ViewFaulted(self.name, *self.read.fault) from self.read.fault[1]
                if self.status in (ViewStatus.OPENING, ViewStatus.CLOSED):
                    raise EngineClosed("closed" if self.status is ViewStatus.CLOSED else "not open yet")
                if self.answers and self.position >= position:
                    return
                await self._turn(position)
        raise NotYetVisible(self.name, self.position, position, timeout or 0.0)

    async def _begin(self) -> None:
        """Nothing to do: its state was made while the engine opened."""

    async def _apply_queued(self, slicer: Slicer) -> None:
        await self.apply(self._queue.take(), slicer)

    async def _apply_all(self, commits: Iterable[DecodedCommit], slicer: Slicer) -> None:
        for decoded in commits:
            await self.apply(decoded, slicer)

    async def _turn(self, position: int) -> None:
        if len(self._waiting) >= self._limits.view_waiters_max:
            raise ViewBehind(self.name, self.position, len(self._waiting), self._limits.view_waiters_max)
        if self._wanted is not None:
            self._wanted(position)
        turn = self._waiting.join(position)
        await self._waiting.until(turn)

    async def _catch_up(self, slicer: Slicer) -> None:
        reader = self._reader(self.head)
        while self.status in (ViewStatus.CATCHING_UP, ViewStatus.JOINING) and not self._stopping:
            try:
                await self._apply_all(await reader.page() or (), slicer)
            except MillstreamError as error:  # the log can't be read on: not by trying again
                self.fault(error, self.position + 1)
            except Exception as error:  # noqa: BLE001 - the store failed: logged, and tried again
                self._observer.view_catch_up_failed(view=self.name, position=self.position, error=error)
                self.resync(self._published)
                with anyio.move_on_after(self._limits.catch_up_retry_seconds):
                    await self._signalled()
                reader = self._reader(self.head)
                continue
            self._try_to_join()

    def _try_to_join(self) -> None:
        """No await here: between looking at the head and going live nothing can be published."""
        if self._published.number - self.head.number <= self._limits.view_queue_commits_max // 2:
            self._life.on(ViewEvent.CAME_NEAR)
        queued = self._queue.first
        next_one = self._published.number + 1 if queued is None else queued.head.number
        if self.head.number + 1 >= next_one and self._life.on(ViewEvent.MET_QUEUE):
            self._observer.view_caught_up(view=self.name, position=self.position)

    def _moved(self) -> None:
        head = self.read.head
        self.position = position = head.position
        if self._waiting:
            self._waiting.moved_to(position)
        if self._tell_applied is not None:
            self._tell_applied(view=self.name, commit=head.number, position=position, lag=self.lag)

    def fault(self, error: BaseException, position: int | None = None) -> None:
        """Stop answering: the state is not what the events made of it."""
        position = self.position if position is None else position
        self.read.fault = (position, error)
        self._stopped_at(position, error)

    def _stopped_at(self, position: int, error: BaseException) -> None:
        if self.status is ViewStatus.FAULTED or not self._life.on(ViewEvent.FAULTED):
            return
        self.ready = False
        self._queue.clear()
        self._waiting.wake_all()
        self.watches.end()
        self._observer.view_faulted(view=self.name, position=position, error=error)

    async def _signalled(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _signal(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
