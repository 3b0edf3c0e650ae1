"""A replica: it follows the log that another process writes, and answers queries as that one does.

Here: the public surface, opening and closing. Not here: how the log is followed (`read.follower`), how views answer
(`read.queries`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import structlog

from millstream.engine.application.app import App
from millstream.engine.application.messages import Command, Metadata, Receipt
from millstream.engine.commits.commit import Head
from millstream.engine.errors import EngineClosed, MillstreamError, NotLeader
from millstream.engine.gateway import Gateway
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock, elapsed, utc_now
from millstream.engine.loop.collector import frozen
from millstream.engine.loop.slices import Slicer
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.follower import Follower, FollowerStatus
from millstream.engine.read.queries import Queries
from millstream.engine.recovery.recovery import RecoveredViews, Recovery
from millstream.engine.stats import ReplicaStats
from millstream.engine.stores.address import log_at
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["Replica"]

_log = structlog.get_logger("millstream")


class _Status(StrEnum):
    """Only forward: NEW → OPENING → OPEN → CLOSING → CLOSED. While it is open, the follower says more."""

    NEW = "not open yet"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Replica(Queries):
    """Answers queries from a log that is written elsewhere: ``async with Replica(app, log="bank.db") as replica``.

    The log and its snapshots are only read. Opening makes the views from them, as the writer's `Engine` does, and no
    write model. From then on each commit is applied that is appended, by whichever writer: a few milliseconds after it
    is durable, and never before. What it shows is therefore what the log says, also if the writer dies before it has
    told anybody. A receipt or an answer of the writer, or of another replica, is a token here, too: with ``after=`` the
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

    Raises (on entering):
        LogRefused, LogCorrupt: the log is not there, or can't be used.
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
    ) -> None:
        limits = limits or Limits()
        views = [ViewActor(app, index, limits, self._reader, self._wanted) for index in range(len(app.views))]
        super().__init__(app, limits, views, check_purity=check_purity)
        #: Where commits are read. It is the replica's to attach to and close.
        self.log = log_at(log)
        #: Where commands go.
        self.writer = writer
        self._status = _Status.NEW
        self._clock = clock
        self._freeze_gc = freeze_gc
        self._snapshots = self.log.snapshots if snapshots else None
        self._follower = Follower(app, self.log, limits, views)
        self._tasks: list[asyncio.Task[None]] = []

    # Asking for changes.

    async def execute(
        self,
        command: Command,
        *,
        command_id: str | None = None,
        expected_version: int | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> Receipt:
        """Pass a command on to the writer. `Engine.execute` says what becomes of it.

        Raises:
            NotLeader: this replica knows no writer.
            EngineClosed: the replica is not open.
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
        commands: Iterable[Command],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | MillstreamError]:
        """Pass commands on to the writer. `Engine.execute_many` says what becomes of them.

        Returns:
            For each command its receipt, or the error that `execute` would have raised.

        Raises:
            Exception: whatever the writer raises.
        """
        try:
            writer = self._leader()
        except (EngineClosed, NotLeader) as error:
            return [error for _ in commands]
        return await writer.execute_many(commands, command_ids=command_ids, metadata=metadata, timeout=timeout)

    def _leader(self) -> Gateway:
        if self._status is not _Status.OPEN:
            raise EngineClosed(self._status)
        if self.writer is None:
            raise NotLeader(None)
        return self.writer

    # How it is.

    @property
    def status(self) -> str:
        """``open`` while it follows the log, or what it is instead."""
        if self._status is not _Status.OPEN or self._follower.status is FollowerStatus.FOLLOWING:
            return self._status.value
        return self._follower.status.value

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
        """That of the last event that it has read."""
        return self._follower.head.position

    def stats(self) -> ReplicaStats:
        """Figures of this moment: positions, lags."""
        follower = self._follower
        lag_events, lag_seconds = follower.lag(self._clock())
        return ReplicaStats(
            status=self.status,
            problem=follower.problem,
            commit=follower.head.number,
            position=follower.head.position,
            log_position=follower.end.position,
            lag_events=lag_events,
            lag_seconds=round(lag_seconds, 3),
            views=self._view_stats(),
        )

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if self._status is not _Status.NEW:
            raise EngineClosed(f"{self._status} and can't be opened again: make a new Replica")
        self._status = _Status.OPENING
        try:
            require_owner(self.log.name, await self.log.attach(), self.app.name)
            await self._recover()
        except BaseException:
            self._status = _Status.CLOSED
            with anyio.CancelScope(shield=True):
                await self.log.close()
            raise
        self._tasks = [asyncio.create_task(view.run(), name=f"millstream-view-{view.name}") for view in self._views]
        self._tasks.append(asyncio.create_task(self._follower.run(), name="millstream-follower"))
        self._status = _Status.OPEN
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._close()

    async def _recover(self) -> None:
        started = elapsed()
        with frozen() if self._freeze_gc else nullcontext():
            recovered = await self._recovered()
        head = recovered.head
        for view, read in zip(self._views, recovered.reads, strict=True):
            view.start(read)
        self._follower.start(head)
        seconds = elapsed() - started
        _log.info(
            "replica_opened",
            log=self.log.name,
            app=self.app.name,
            commits=head.number,
            events=head.position,
            replayed=recovered.replayed,
            seconds=round(seconds, 3),
            events_per_second=round(recovered.replayed / seconds) if seconds else 0,
        )

    async def _recovered(self) -> RecoveredViews:
        """The views' states, from the writer's snapshots as far as these can be used: they are closed again then."""
        recovery, slicer = Recovery(self.app, self.log, self.limits), Slicer(self.limits.slice_ms_max)
        store = self._snapshots
        if store is None:
            return await recovery.recover_views(slicer)
        try:
            recovery.snapshots = await self._attached(store)
            return await recovery.recover_views(slicer)
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()

    async def _attached(self, store: SnapshotStore) -> SnapshotStore | None:
        try:
            await store.attach()
        except FileNotFoundError:
            return None  # none was taken yet
        except Exception as error:  # noqa: BLE001 - without them opening is slower, and nothing else
            _log.warning("snapshots_unavailable", log=self.log.name, error=repr(error))
            return None
        return store

    async def _close(self) -> None:
        """Stop following, let the views apply what they have, let go of the log; what a task died of is raised last."""
        self._status = _Status.CLOSING
        *views, follower = self._tasks
        follower.cancel()
        await asyncio.wait([follower])
        for view in self._views:
            view.stop()
        if views:
            await asyncio.wait(views, timeout=self.limits.drain_seconds_max)
        for task in views:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for view in self._views:
            await view.watches.close()
        await self.log.close()
        self._status = _Status.CLOSED
        head = self._follower.head
        _log.info("replica_closed", log=self.log.name, app=self.app.name, commits=head.number, events=head.position)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    # Inside.

    def _wanted(self, position: int) -> None:
        """A query waits for this position. What somebody has a token of is in the log: no need to wait for a look."""
        if position > self._follower.head.position:
            self.log.look_now()

    def _reader(self, head: Head) -> Reader:
        return Reader(self.log, self.app, head, self.limits.read_bytes_max)
