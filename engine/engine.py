"""The engine: where an application runs.

Here: the public surface, opening and closing. Not here: any rule of the game (`write`, `read`).
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import structlog
from msgspec.structs import replace

from millstream.engine.application.app import App
from millstream.engine.application.messages import Command, Event, Metadata, Receipt
from millstream.engine.application.options import Deadline, Options
from millstream.engine.application.validation import checked_metadata
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import (
    EngineClosed,
    MillstreamError,
    UnknownMessage,
    ViewFaulted,
)
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock, elapsed, utc_now
from millstream.engine.loop.collector import frozen
from millstream.engine.loop.slices import Slicer
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.queries import Queries
from millstream.engine.read.state import Parked
from millstream.engine.recovery.recovery import Recovery
from millstream.engine.recovery.snapshotter import Snapshotter
from millstream.engine.stats import EngineStats, WriterStats
from millstream.engine.stores.address import log_at
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.write.admission import Admission
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.writer import Rebuilt, Writer, WriterStatus

__all__ = ["Engine"]

_log = structlog.get_logger("millstream")


class _Status(StrEnum):
    """Only forward: NEW → OPENING → OPEN → CLOSING → CLOSED."""

    NEW = "not open yet"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Engine(Queries):
    """Runs an application: ``async with Engine(app, log="bank.db") as engine``. Under asyncio and uvloop.

    Opening makes write models and views from their snapshots and the log; when it is done all of them are at the log's
    head. Closing makes durable what was accepted, answers everybody, takes a snapshot, and lets go of the log. An
    engine is opened once.

    Args:
        app: what to run.
        log: where commits are kept: a path, ``sqlite:PATH``, ``memory:``, or a `Log`.
        limits: the bounds of queues, batches and waits.
        check_purity: compare the state before and after each handler and answer, and fail those that changed it.
            Costs a pass over the state each time: for development and tests.
        clock: tells the time of day for the record, as an aware datetime.
        snapshots: take them and use them. False: every opening replays the whole log.
        freeze_gc: after opening, take everything that is alive out of the garbage collector's sight (`gc.freeze`), so
            that it never walks over a large state again. It is for the whole process: for one that serves one engine.

    Raises (on entering):
        LogLocked, LogRefused, LogCorrupt: the log can't be used.
        EventsUnreadable: the log holds events that today's application does not know or can't read.
        ApplyFailed: a write model can't apply what the log holds.
    """

    def __init__(
        self,
        app: App,
        *,
        log: str | Path | Log,
        limits: Limits | None = None,
        check_purity: bool = False,
        clock: Clock = utc_now,
        snapshots: bool = True,
        freeze_gc: bool = False,
    ) -> None:
        limits = limits or Limits()
        views = [ViewActor(app, index, limits, self._reader) for index in range(len(app.views))]
        super().__init__(app, limits, views, check_purity=check_purity)
        #: Where commits are kept. It is the engine's to open, write and close.
        self.log = log_at(log)
        self._status = _Status.NEW
        self._freeze_gc = freeze_gc
        self._snapshots = self.log.snapshots if snapshots else None
        self._recovery = Recovery(app, self.log, self.limits, check_purity=check_purity)
        self._snapshotter: Snapshotter | None = None
        self._writer = Writer(
            self.log, self.limits, clock, publish=self._publish, rebuild=self._rebuild, resync=self._resync
        )
        self._mailbox = self._writer.mailbox
        #: How commands get to the writer, for a server and for all of `execute` but its shortest way.
        self.admission: Admission = Admission(app, self._mailbox, self.limits)
        self._readers, self._encode = self.admission.readers, app.encode_command
        self._tasks: list[asyncio.Task[None]] = []
        #: Of the loop on which it is opened. To ask each time which one runs costs 0.24 µs per command: a system call.
        self._new_promise: Callable[[], asyncio.Future[Receipt]] = lambda: get_running_loop().create_future()

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
        """Decide a command and make its events durable.

        When this returns, the events survive a crash of the machine, and every view will see them. Commands are
        decided in the order in which they are taken, one after another.

        Args:
            command: the command; what is decided is a checked copy.
            command_id: the caller's own name for this command. Sent again with the same id, also after a crash, the
                same command is not executed again: its first receipt is returned, ``repeated``. The last
                ``receipts_max`` such commands are remembered, and accepted ones only.
            expected_version: execute only if the command's key is at this version: has so many events.
            metadata: actor, correlation and causation, kept with it in the log.
            timeout: seconds after which to give up. A command that still waits then never executes; one that was
                decided already stands. A cancelled call behaves the same.
            wait: whether to wait for room when the mailbox is full.

        Raises:
            Rejected: the handler said no.
            InvalidMessage: command, id, version or metadata are not what they should be.
            UnknownMessage: no write model handles this command.
            CommandIdReused: another command was executed under this id.
            VersionConflict: the key is at another version.
            CommitTooLarge: it yielded more than ``commit_bytes_max``.
            Overloaded: the mailbox is full, and ``wait`` is false.
            DeadlineExceeded: the timeout passed; ``decided`` tells whether the command stands.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            HandlerFailed, ApplyFailed, ImpureHandler: the application failed.
            WriterUnavailable, EngineClosed: the engine takes no commands.
        """
        try:
            command = self._readers[type(command)](self._encode(command))
        except Exception as error:
            raise self.admission.refusal(command, error) from error
        options: Options | None = None
        if command_id is not None or expected_version is not None or metadata is not None:
            options = self.admission.options(command, command_id, expected_version, metadata)
        promise = self._new_promise()
        if timeout is not None:
            deadline = Deadline(elapsed() + timeout, timeout)
            options = replace(options or Options(), deadline=deadline)
            return await self.admission.execute_in_time((promise, command, options), promise, deadline, wait)
        envelope: Envelope = (promise, command, options)
        ticket = self._mailbox.try_put(envelope)
        if not ticket:
            ticket = await self._mailbox.put(envelope) if wait else self._mailbox.put_nowait(envelope)
        try:
            return await promise
        except asyncio.CancelledError as error:
            self.admission.note_cancelled(error, promise, ticket)
            raise

    async def execute_many(
        self,
        commands: Iterable[Command],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | MillstreamError]:
        """Execute commands in order; one outcome for each, in the same order.

        Not a transaction: each is decided by itself, others' commands may come in between, and one that fails does not
        stop the next. It costs less than as many calls of `execute`.

        Args:
            commands: any number; they wait for room in the mailbox as `execute` does.
            command_ids: an id for each of them, as with `execute`.
            metadata: is kept with each of them.
            timeout: seconds for all of them together; those left then have `DeadlineExceeded` as their outcome.

        Returns:
            For each command its receipt, or the error that `execute` would have raised.

        Raises:
            InvalidMessage: the metadata is not what it should be, or there are more or fewer ids than commands.
        """
        return await self.admission.execute_many(list(commands), command_ids, metadata, timeout)

    def preview(self, command: Command, *, metadata: Metadata | None = None) -> list[Event]:
        """The events that a command would yield if it were decided now; nothing happens.

        "Now" includes commands that are decided and not yet durable.

        Raises:
            Rejected, InvalidMessage, UnknownMessage, HandlerFailed, ImpureHandler: as `execute`.
            WriterUnavailable, Fenced, EngineClosed: the engine takes no commands.
        """
        command = self.admission.command(command)
        metadata = Metadata() if metadata is None else checked_metadata(metadata)
        if self._status is not _Status.OPEN:
            raise EngineClosed(self._status)
        return self._writer.preview(command, metadata)

    async def replay_parked(self, view: str | None = None) -> list[Parked]:
        """Let views try again what they have parked: key by key, in order, after what they have applied since.

        What could be applied is parked no more, durably, if the view has snapshots. An order across keys is not made
        up for: where that matters, raise the view's ``code_version``, and it is made anew from the log.

        Args:
            view: the class name of the view; all of them by default.

        Returns:
            What is still parked.

        Raises:
            UnknownMessage: there is no such view.
            ViewFaulted: the view has faulted. Without ``view``, such a one is passed over.
            EngineClosed: the engine is not open, or was closed meanwhile.
        """
        if self._status is not _Status.OPEN:
            raise EngineClosed(self._status)
        names = tuple(each.name for each in self._views)
        if view is not None and view not in names:
            raise UnknownMessage("view", view, self.app.name, names)
        snapshotter = self._snapshotter
        for each in self._views:
            if view == each.name and each.read.fault is not None:
                raise ViewFaulted(each.name, *each.read.fault) from each.read.fault[1]
            if each.read.parked and view in (None, each.name):
                async with nullcontext() if snapshotter is None else snapshotter.busy:
                    await each.replay_parked(None if snapshotter is None else snapshotter.take)
        return [each for each in self.parked() if view in (None, each.view)]

    @property
    def status(self) -> str:
        """``open``, or what it is instead."""
        return self._status.value

    @property
    def role(self) -> Literal["writer"]:
        """It decides commands."""
        return "writer"

    @property
    def not_ready(self) -> list[str]:
        """What keeps it from deciding commands, in words: ``the writer is recovering``. Nothing if it does."""
        status = self._writer.status
        return [] if status is WriterStatus.DECIDING else [f"the writer is {status}"]

    @property
    def position(self) -> int:
        """That of the last durable event."""
        return self._writer.head.position

    def stats(self) -> EngineStats:
        """Figures of this moment: mailbox, batches, positions, lags."""
        writer, counts = self._writer, self._writer.counts
        return EngineStats(
            writer=WriterStats(
                status=writer.status,
                commit=writer.head.number,
                position=writer.head.position,
                mailbox_commands=len(self._mailbox.queue),
                mailbox_commands_max=self._mailbox.commands_max,
                mailbox_entering=self._mailbox.entering,
                commits=counts.commits,
                commands=counts.commands,
                commands_refused=counts.refused,
                commands_failed=counts.failed,
                batch_last=counts.batch_last,
                batch_max=counts.batch_max,
                batch_mean=counts.commands / counts.commits if counts.commits else 0.0,
            ),
            views=self._view_stats(),
            snapshot_position=0 if self._snapshotter is None else self._snapshotter.position,
        )

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if self._status is not _Status.NEW:
            raise EngineClosed(f"{self._status} and can't be opened again: make a new Engine")
        self._status, self._new_promise = _Status.OPENING, get_running_loop().create_future
        try:
            await self.log.open(self.app.name)
            await self._recover()
        except BaseException:
            self._status = _Status.CLOSED
            with anyio.CancelScope(shield=True):
                await self.log.snapshots.close()
                await self.log.close()
            raise
        self._tasks = [asyncio.create_task(view.run(), name=f"millstream-view-{view.name}") for view in self._views]
        self._tasks.append(asyncio.create_task(self._writer.run(), name="millstream-writer"))
        if self._snapshotter is not None:
            self._keeping = asyncio.create_task(self._snapshotter.run(), name="millstream-snapshotter")
        self._status = _Status.OPEN
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._close()

    async def _recover(self) -> None:
        started = elapsed()
        if self._snapshots is not None:
            self._snapshotter = await self._open_snapshots(self._snapshots)
        with frozen() if self._freeze_gc else nullcontext():
            recovered = await self._recovery.recover(Slicer(self.limits.slice_ms_max))
        head = recovered.head
        for view, read in zip(self._views, recovered.reads, strict=True):
            view.start(read)
        self._writer.start(recovered.write, head, store_failed=not await self._takes_commits())
        if self._snapshotter is not None:
            self._snapshotter.start(head, recovered.saved)
        seconds = elapsed() - started
        _log.info(
            "opened",
            log=self.log.name,
            app=self.app.name,
            commits=head.number,
            events=head.position,
            replayed=recovered.replayed,
            seconds=round(seconds, 3),
            events_per_second=round(recovered.replayed / seconds) if seconds else 0,
        )

    async def _takes_commits(self) -> bool:
        """Make durable what was read, and see whether the store takes anything.

        A commit that a process wrote and did not sync before it was killed is read by the next one, and lost with the
        machine: nobody is to hear of it before it is as durable as any other.
        """
        try:
            await self.log.probe()
        except Exception as error:  # noqa: BLE001 - queries can be answered; commands will hear why they can't
            _log.error("store_failed", log=self.log.name, error=repr(error))
            return False
        return True

    async def _open_snapshots(self, store: SnapshotStore) -> Snapshotter | None:
        try:
            await store.open()
        except Exception as error:  # noqa: BLE001 - without them opening is slower, and nothing else
            _log.warning("snapshots_unavailable", log=self.log.name, error=repr(error))
            return None
        self._recovery.snapshots = store
        return Snapshotter(self._recovery, store, self.limits)

    async def _close(self) -> None:
        """Drain the writer, then the views, take a snapshot, let go of the log; what a task died of is raised last."""
        self._status = _Status.CLOSING
        *views, writer = self._tasks
        self._writer.stop()
        await asyncio.wait([writer], timeout=self.limits.drain_seconds_max)
        if not writer.done():
            _log.error("drain_timed_out", log=self.log.name, commands=len(self._mailbox.queue))
            writer.cancel()
        for view in self._views:
            view.stop()
        ended = await asyncio.gather(writer, *views, return_exceptions=True)
        for view in self._views:
            await view.watches.close()
        self._writer.fail_all(partial(EngineClosed, _Status.CLOSED))  # if it was cancelled before its first step
        if self._snapshotter is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            await self._last_snapshot(self._snapshotter)
        await self.log.snapshots.close()
        await self.log.close()
        self._status = _Status.CLOSED
        head = self._writer.head
        _log.info("closed", log=self.log.name, app=self.app.name, commits=head.number, events=head.position)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    async def _last_snapshot(self, snapshotter: Snapshotter) -> None:
        """Store what is at the log's head: nothing moves any more, so it is the live state itself."""
        head = self._writer.head
        parts = [view.read.part() for view in self._views if view.read.is_sound]
        if self._writer.settled is not None:
            parts += self._writer.settled.parts(head)
        with anyio.move_on_after(self.limits.drain_seconds_max):
            await snapshotter.close(parts, Slicer(self.limits.slice_ms_max))

    # Inside.

    def _reader(self, head: Head) -> Reader:
        return Reader(self.log, self.app, head, self.limits.read_bytes_max)

    def _publish(self, decoded: DecodedCommit) -> None:
        for view in self._views:
            view.offer(decoded)
        if self._snapshotter is not None:
            self._snapshotter.note(decoded.head)

    async def _rebuild(self, slicer: Slicer) -> Rebuilt:
        """The write side's state anew, for the writer that has lost it."""
        recovered = await self._recovery.recover(slicer, views=False)
        return Rebuilt(recovered.write, recovered.head, recovered.replayed)

    def _resync(self, head: Head) -> None:
        for view in self._views:
            view.detach(head)
