"""The one task of a replica: it reads the log on, and hands each commit to all views.

Here: what is read and when, and what is done if it can't be. Not here: what views make of it (`actor`), and how a
store learns of what others append (`stores`).

    status       what happened                                         what it does
    ------       -------------                                         ------------
    FOLLOWING    nothing                                               hands over the log's pages, as they come
    CUT_OFF      the store failed, or is not where it was: views       tries again each ``catch_up_retry_seconds``
                 answer what they know
    STOPPED      the log can't be read on, or another one is in its    nothing: its views are faulted
                 place

What moves it from one to another is the table `MOVES`.

Invariants: a commit is verified and decoded once, for all views; it is offered in order, without a gap, and when each
view has room for it. A view is never detached: while one has no room, nothing is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from enum import StrEnum

import anyio

from millstream.engine.application.app import App
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.follower import Follower
from millstream.engine.errors import CommitsLost, LogRefused, MillstreamError
from millstream.engine.lifecycle import LifeCycle, Moves
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.read.actor import ViewActor, ViewStatus
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader

__all__ = ["MOVES", "Feed", "FeedEvent", "FeedStatus"]

#: How often the log is asked for its end while commits come: what is not read yet counts as behind, too.
_LOOK_AHEAD_SECONDS = 1.0


class FeedStatus(StrEnum):
    """What a feed is doing; the table above says what follows from it."""

    FOLLOWING = "following"
    CUT_OFF = "cut off from its log"
    STOPPED = "unable to read its log on"


class FeedEvent(StrEnum):
    """What happens to it."""

    LOST = "lost"
    FOUND = "found"
    ENDED = "ended"


MOVES: Moves[FeedStatus, FeedEvent] = {
    FeedStatus.FOLLOWING: {FeedEvent.LOST: FeedStatus.CUT_OFF, FeedEvent.ENDED: FeedStatus.STOPPED},
    FeedStatus.CUT_OFF: {FeedEvent.FOUND: FeedStatus.FOLLOWING, FeedEvent.ENDED: FeedStatus.STOPPED},
    FeedStatus.STOPPED: {},
}


class Feed:
    """The actor that reads a log for views. `run` is its life.

    Args:
        app: the application.
        log: attached; it is attached to anew when its file was lost and is there again.
        limits: the replica's.
        views: those that are started with what the log holds.
        followers: are offered each commit; the views are among them.
        observer: is called when the feed loses the log.
    """

    def __init__(
        self,
        app: App,
        log: Log,
        limits: Limits,
        views: Sequence[ViewActor],
        followers: Sequence[Follower],
        observer: Observer,
    ) -> None:
        self._life = LifeCycle(MOVES, FeedStatus.FOLLOWING)
        self._observer = observer
        self._followers = followers
        #: What keeps it from following.
        self.problem: str | None = None
        #: What it has stopped with.
        self.error: MillstreamError | None = None
        #: The last commit that was read and offered.
        self.head = Head()
        self._app = app
        self._log = log
        self._limits = limits
        self._views = views
        self._end = Head()
        self._id: str | None = None
        self._next_look = 0.0
        self._is_lost = False
        #: The number of the last commit of each page that is not applied everywhere, and when its first was recorded.
        self._pages: deque[tuple[int, str]] = deque()

    @property
    def status(self) -> FeedStatus:
        """What it is doing."""
        return self._life.status

    @property
    def end(self) -> Head:
        """Where the log ends, as far as is known."""
        return max(self.head, self._end, key=_number)

    def start(self, head: Head) -> None:
        """Go on from here: all views have what the log holds up to ``head``."""
        self.head = self._end = head
        self._id = self._log.id

    async def run(self) -> None:
        """Follow until cancelled, or until the log can't be read on."""
        while self.status is not FeedStatus.STOPPED:
            try:
                await self._follow()
            except MillstreamError as error:
                if isinstance(error, LogRefused):
                    self._is_lost = True
                if not self._is_lost:
                    self._stop(error)
                    return
                await self._wait(error)
            except Exception as error:  # noqa: BLE001 - the store failed: logged, and tried again
                await self._wait(error)

    async def finish(self) -> None:
        """Read on to the end of a log that this process alone may append to; `run` is not at work.

        Raises:
            CommitsLost: it ends before what was read here.
            LogRefused: another one is in its place.
            MillstreamError: it can't be read on.
            OSError: the store failed.
        """
        if not await self._is_same_log():
            raise self._not_the_same()
        reader = Reader(self._log, self._app, self.head, self._limits.read_bytes_max)
        while (page := await reader.page()) is not None:
            await self._hand_over(page)

    def lag(self, now: datetime) -> tuple[int, float]:
        """How many events of the log the slowest view has not applied, and for how many seconds the first is recorded.

        A view that has faulted is not waited for.
        """
        at = self._forget_applied()
        if self._pages:
            since = self._pages[0][1]
        elif self.end.number > at.number:
            since = at.recorded_at
        else:
            return 0, 0.0
        seconds = (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0
        return self.end.position - at.position, max(0.0, seconds)

    async def _follow(self) -> None:
        was_lost = self._is_lost
        if was_lost:
            await self._log.close()
            require_owner(self._log.name, await to_the_end(self._log.attach()), self._app.name)
            self._is_lost = False
        if not await self._is_same_log():
            if not was_lost:
                self._is_lost = True  # look whose log it is
                return
            self._stop(self._not_the_same())
            return
        self._rejoin()
        reader = Reader(self._log, self._app, self.head, self._limits.read_bytes_max)
        async with aclosing(self._log.follow(self.head.number, self._limits.read_bytes_max)) as pages:
            async for page in pages:
                self._forget_applied()
                self._pages.append((page[-1].number, page[0].recorded_at))
                await self._hand_over(reader.decoded_commits(page))

    async def _hand_over(self, decoded_commits: Iterable[DecodedCommit]) -> None:
        slicer = Slicer(self._limits.slice_ms_max)
        for decoded in decoded_commits:
            for view in self._views:
                await view.room_for(decoded)
            for follower in self._followers:
                follower.offer(decoded)
            self.head = decoded.head
            if elapsed() > self._next_look:
                await self._look_ahead()
            if slicer.is_over:
                await slicer.rest()

    async def _look_ahead(self) -> None:
        self._next_look = elapsed() + _LOOK_AHEAD_SECONDS
        with suppress(Exception):  # the next read finds out
            self._end = await self._log.head()

    async def _is_same_log(self) -> bool:
        """Whether the log holds the last commit that was read, which vouches for all before it."""
        number = self.head.number
        self._end = await self._log.head()
        found = await self._log.read(number - 1, 1) if number else ()
        return not number or (bool(found) and found[0].digest == self.head.digest)

    def _not_the_same(self) -> MillstreamError:
        """What is wrong with a log that lacks the last commit that was read."""
        if self._log.id == self._id and self._end.number < self.head.number:
            return CommitsLost(self._log.name, self.head.number, self._end.number)
        problem = f"it has no commit {self.head.number:,} such as was read here: another log is in its place"
        return LogRefused(self._log.name, problem, "open the replica anew")

    async def _wait(self, error: Exception) -> None:
        if self._life.on(FeedEvent.LOST):
            self._observer.replica_cut_off(log=self._log.name, position=self.head.position, error=error)
        self.problem = str(error) or repr(error)
        await anyio.sleep(self._limits.catch_up_retry_seconds)

    def _rejoin(self) -> None:
        self.problem = None
        if self._life.on(FeedEvent.FOUND):
            self._observer.replica_rejoined(log=self._log.name, position=self.head.position)

    def _stop(self, error: MillstreamError) -> None:
        self._life.on(FeedEvent.ENDED)
        self.problem, self.error = str(error), error
        self._observer.replica_stopped(log=self._log.name, position=self.head.position, error=error)
        for view in self._views:
            view.fault(error, self.head.position + 1)

    def _forget_applied(self) -> Head:
        """Forget the pages that are applied everywhere; returns where the slowest view is."""
        heads = (view.head for view in self._views if view.status not in (ViewStatus.FAULTED, ViewStatus.CLOSED))
        at = min(heads, key=_number, default=self.head)
        while self._pages and self._pages[0][0] <= at.number:
            self._pages.popleft()
        return at


def _number(head: Head) -> int:
    return head.number
