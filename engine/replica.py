"""A replica: it follows the log that another process writes, and answers queries as that one does.

Here: the public surface, opening and closing. Not here: how the log is followed (`read.feed`), how views answer
(`read.queries`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from millstream.engine.application.app import App
from millstream.engine.application.interrupts import Interrupted
from millstream.engine.application.messages import Command, Metadata, Receipt
from millstream.engine.commits.commit import Head
from millstream.engine.commits.follower import Follower
from millstream.engine.errors import DefinitionError, EngineClosed, MillstreamError, NotLeader
from millstream.engine.gateway import AgendaGateway, Gateway
from millstream.engine.health import health_of
from millstream.engine.lifecycle import OPENED_ONCE, LifeCycle, Phase, Turn
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock, elapsed, utc_now
from millstream.engine.loop.collector import frozen
from millstream.engine.loop.home import Home
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer, Observers
from millstream.engine.read.actors import actors_of
from millstream.engine.read.bringing import resting
from millstream.engine.read.feed import Feed, FeedStatus
from millstream.engine.read.queries import Queries
from millstream.engine.read.state import ReadState
from millstream.engine.recovery.catalog import attached_catalog
from millstream.engine.recovery.recovery import Recovered, Recovery
from millstream.engine.stats import Health, ReplicaStats
from millstream.engine.stores.address import log_at
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader

__all__ = ["Replica"]

Answer = TypeVar("Answer")


class Replica(Queries):
    """Answers queries from a log that is written elsewhere: ``async with Replica(app, log="bank.db") as replica``.

    The log and its snapshots are only read. Opening makes the views from them, as the writer's `Engine` does, and no
    write model. From then on each commit is applied that is appended, by whichever writer: a few milliseconds after it
    is durable, and never before. What it shows is therefore what the log says, also if the writer dies before it has
    answered a caller. A receipt or an answer of the writer, or of another replica, is a token here, too: with ``after``
    query waits until the view has come there. A replica is opened once.

    If the log can't be read, views answer what they know, `status` says so, and it is tried again. If it can't be read
    on, because it is damaged, or holds events that this version of the application does not know, the views are
    faulted: their queries get `ViewFaulted`.

    Args:
        app: what to run: the application that writes the log.
        log: where its commits are kept: a path, ``sqlite:PATH``, or a `Log`.
        writer: where commands go: a `Client`, or whatever else is a `Gateway`. It stays the caller's to close. Without
            one, commands are refused with `NotLeader`.
        limits: the bounds of queues and waits.
        check_purity: compare a view's state before and after each answer. For development and tests.
        clock: tells the time of day, as an aware datetime, to say how far behind it is.
        snapshots: begin with the writer's. False: opening replays the whole log.
        freeze_gc: as `Engine` takes it.
        observers: are called with what happens, beside the log lines, which are always written.

    Raises:
        DefinitionError: an observer is a class, or has a hook that is async or yields; the writer is an address.

    Raises (on entering):
        LogRefused, LogCorrupt: the log is not there, or can't be used.
        EngineClosed: it was opened before.
        EventsUnreadable: it holds events that today's application does not know or can't read.
    """

    def __init__(
        self,
        app: App,
        *,
        log: str | Path | Log,
        writer: Gateway | None = None,
        limits: Limits | None = None,
        check_purity: bool = False,
        clock: Clock = utc_now,
        snapshots: bool = True,
        freeze_gc: bool = False,
        observers: Iterable[Observer] = (),
    ) -> None:
        if isinstance(writer, str):
            raise DefinitionError(f"the writer of a replica is a Gateway, such as Client({writer!r}), not a text")
        limits = limits or Limits()
        #: Tells all observers. A server of this replica tells them, too.
        self.observers: Observer = Observers(observers)
        #: Where commits are read. It is the replica's to attach to and close.
        self.log = log_at(log)
        views = actors_of(app, limits, self._reader, self.observers, self._wanted, self.log)
        super().__init__(app, limits, views, Home(f"the replica of {self.log.name}"), check_purity=check_purity)
        #: Where commands go.
        self.writer = writer
        #: What is offered each commit.
        self.followers: list[Follower] = [*views]
        self._life = LifeCycle(OPENED_ONCE, Phase.NEW)
        self._clock = clock
        self._freeze_gc = freeze_gc
        self._snapshots = self.log.snapshots if snapshots else None
        self._past.restore = self._restore
        self._feed = Feed(app, self.log, limits, views, self.followers, self.observers)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    # Asking for changes.

    async def execute(
        self,
        command: Command[Answer],
        *,
        command_id: str | None = None,
        expected_version: int | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> Receipt[Answer]:
        """Pass a command on to the writer. `Engine.execute` says what becomes of it.

        Raises:
            NotLeader: this replica knows no writer.
            EngineClosed: the replica is not open.
            WrongLoop: it was opened on another event loop.
            Exception: whatever the writer raises.
        """
        return await self._leader().execute(
            command,
            command_id=command_id,
            expected_version=expected_version,
            metadata=metadata,
            timeout=timeout,
            wait=wait,
        )

    async def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt[Answer] | MillstreamError]:
        """Pass commands on to the writer. `Engine.execute_many` says what becomes of them.

        Returns:
            For each command its receipt, or the error that `execute` would have raised.

        Raises:
            WrongLoop: the replica was opened on another event loop.
            Exception: whatever the writer raises.
        """
        try:
            writer = self._leader()
        except (EngineClosed, NotLeader) as error:
            return [error for _ in commands]
        return await writer.execute_many(commands, command_ids=command_ids, metadata=metadata, timeout=timeout)

    @property
    def agenda(self) -> AgendaGateway:
        """What the writer owes and has parked: it is asked there, as the replica decides nothing.

        Raises:
            NotLeader: this replica knows no writer.
            EngineClosed: the replica is not open.
            WrongLoop: it was opened on another event loop.
        """
        return self._leader().agenda

    def _leader(self) -> Gateway:
        self._home.require()
        if self._life.status is not Phase.OPEN:
            raise EngineClosed(self._life.status)
        if self.writer is None:
            raise NotLeader(None)
        return self.writer

    # How it is.

    @property
    def status(self) -> str:
        """``open`` while it follows the log, or what it is instead."""
        if self._life.status is not Phase.OPEN or self._feed.status is FeedStatus.FOLLOWING:
            return self._life.status.value
        return self._feed.status.value

    @property
    def role(self) -> Literal["replica"]:
        """It answers, and passes commands on."""
        return "replica"

    @property
    def admission(self) -> None:
        """Commands don't get in here."""
        return

    @property
    def not_ready(self) -> list[str]:
        """Nothing: it does not decide."""
        return []

    @property
    def position(self) -> int:
        """The position of the last event that it has read."""
        return self._feed.head.position

    def health(self) -> Health:
        """Whether it is alive and of use now, and if not, what is missing: what ``/health/ready`` says over HTTP."""
        return health_of(self)

    def stats(self) -> ReplicaStats:
        """Figures of this moment: positions, lags."""
        feed = self._feed
        lag_events, lag_seconds = feed.lag(self._clock())
        return ReplicaStats(
            status=self.status,
            problem=feed.problem,
            commit=feed.head.number,
            position=feed.head.position,
            log_position=feed.end.position,
            lag_events=lag_events,
            lag_seconds=round(lag_seconds, 3),
            views=self._view_stats(),
        )

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if not self._life.on(Turn.OPEN):
            raise EngineClosed(f"{self._life.status} and can't be opened again: make a new Replica")
        self._home.settle()
        try:
            require_owner(self.log.name, await to_the_end(self.log.attach()), self.app.name)
            await self._recover()
        except BaseException:
            self._life.must(Turn.FAILED)
            self._home.leave()
            await to_the_end(self.log.close())
            raise
        self._tasks = [asyncio.create_task(each.run(), name=each.task_name) for each in self.followers]
        self._tasks.append(asyncio.create_task(self._feed.run(), name="millstream-feed"))
        self._life.must(Turn.OPENED)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._home.is_forked:
            return  # what is open is the parent's
        self._home.require()
        if self._life.on(Turn.CLOSE):
            self._closing = asyncio.create_task(self._close(), name="millstream-closing")
        if self._closing is not None:
            try:
                await to_the_end(self._closing)
            except Interrupted as interrupted:
                raise (interrupted.__cause__ or interrupted) from None

    async def _recover(self) -> None:
        started = elapsed()
        with frozen() if self._freeze_gc else nullcontext():
            recovered = await self._recovered()
        head = recovered.head
        for follower in self.followers:
            follower.start(head)
        self._feed.start(head)
        self.observers.replica_opened(
            log=self.log.name,
            app=self.app.name,
            commits=head.number,
            events=head.position,
            replayed=recovered.replayed,
            seconds=elapsed() - started,
        )

    async def _recovered(self) -> Recovered:
        """Bring the views to the log's head, from the writer's snapshots as far as these can be used."""
        views, slicer = self._states, Slicer(self.limits.slice_ms_max)
        async with attached_catalog(self._snapshots, self.log, self.observers) as catalog:
            return await Recovery(self.app, self.log, self.limits, catalog).recover(views, slicer)

    async def _restore(self, read: ReadState, until: int) -> None:
        async with attached_catalog(self._snapshots, self.log, self.observers) as catalog:
            await catalog.restore([read], resting(self.limits), until=until)

    async def _close(self) -> None:
        """Stop following, let the views apply what they have, close the log; what a task died of is raised last."""
        *followers, feed = self._tasks
        feed.cancel()
        await asyncio.wait([feed])
        try:
            for follower in self.followers:
                follower.stop()
            if followers:
                await asyncio.wait(followers, timeout=self.limits.drain_seconds_max)
            for task in followers:
                task.cancel()
            ended = await asyncio.gather(*self._tasks, return_exceptions=True)
            for each in self.followers:
                await each.close()
        finally:  # a follower that raises is a defect, and keeps no other from the log
            await self._past.end()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            self._home.leave()
            await self.log.close()
            self._life.must(Turn.CLOSED)
        head = self._feed.head
        self.observers.replica_closed(log=self.log.name, app=self.app.name, commits=head.number, events=head.position)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    def require_position(self, after: int) -> None:
        """Any will do: the log may have come there, and the replica not."""

    # Inside.

    def _wanted(self, position: int) -> None:
        """A query waits for this position. What a caller has a token of is in the log: no need to wait for a look."""
        if position > self._feed.head.position:
            self.log.look_now()

    def _reader(self, head: Head) -> Reader:
        return Reader(self.log, self.app, head, self.limits.read_bytes_max)
