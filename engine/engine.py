"""The engine: where an application runs.

Here: the public surface, opening and closing. Not here: any rule of the game (`write`, `read`).
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import get_ident
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from millstream.engine.application.app import App
from millstream.engine.application.interrupts import Interrupted
from millstream.engine.application.messages import Command, Metadata, Preview, Receipt
from millstream.engine.application.options import Options, Terms
from millstream.engine.application.validation import checked_metadata, checked_timeout, require_reached
from millstream.engine.commits.commit import FORMAT, Head
from millstream.engine.commits.follower import Follower
from millstream.engine.errors import EngineClosed, MillstreamError
from millstream.engine.health import health_of
from millstream.engine.lifecycle import OPENED_ONCE, LifeCycle, Phase, Turn
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock, elapsed, require_zone, utc_now
from millstream.engine.loop.collector import frozen
from millstream.engine.loop.home import Home, promises_of
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer, Observers
from millstream.engine.outside.outside import Given, Outside
from millstream.engine.read.actors import actors_of
from millstream.engine.read.bringing import resting
from millstream.engine.recovery.catalog import Catalog
from millstream.engine.recovery.process import snapshot_process
from millstream.engine.recovery.recovery import Recovery
from millstream.engine.recovery.snapshotter import Snapshotter
from millstream.engine.recovery.taking import new_parts
from millstream.engine.snapshots.part import Part
from millstream.engine.standby.leading import Leading, Opening
from millstream.engine.stats import EngineStats, Health
from millstream.engine.stores.address import log_at
from millstream.engine.stores.capabilities import Bounded, Upgrading
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader
from millstream.engine.stores.turn import takes_commits
from millstream.engine.write.admission import Admission
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.failure import Rebuilt
from millstream.engine.write.figures import writer_stats
from millstream.engine.write.owing import Owing
from millstream.engine.write.parts import WriteParts
from millstream.engine.write.state import WriteState
from millstream.engine.write.status import WriterStatus
from millstream.engine.write.tenure import tenure_of
from millstream.engine.write.writer import Writer

__all__ = ["Engine"]

Answer = TypeVar("Answer")


class Engine(Leading):
    """Runs an application: ``async with Engine(app, log="bank.db") as engine``. Under asyncio and uvloop.

    Opening makes write models and views from their snapshots and the log; when it is done all of them are at the log's
    head. Closing makes durable what was accepted, answers every caller, takes a snapshot, and closes the log. An
    engine is opened once. One that is never closed is named by a ResourceWarning, and keeps no program from ending.

    Args:
        app: what to run.
        log: where commits are kept: a path, ``sqlite:PATH``, ``memory:``, or a `Log`.
        limits: the bounds of queues, batches and waits.
        check_purity: compare the state before and after each handler and answer, and fail those that changed it.
            Costs a pass over the state each time: for development and tests.
        clock: tells the time of day for the record, as an aware datetime.
        snapshots: take them and use them. True is ``"loop"``: the second state that one is made of is made in this
            process, in slices. ``"process"``: another process makes it, so that this one's loop is never held and its
            memory not doubled; the app's classes must be importable there. False: every opening replays the whole log.
        freeze_gc: after opening, take everything that is alive out of the garbage collector's sight (`gc.freeze`), so
            that it never walks over a large state again. It is for the whole process: for one that serves one engine.
        effects: instances of the application's classes of effects; others are made without arguments, and none in a
            simulation that is given none. False: nothing is performed, and what is owed stays so.
        wait_for_lock_seconds: how long to wait on entering for another writer to close the log, as in a rolling
            deployment. By default that is `LogLocked` at once.
        standby: where another writer has the log, enter all the same: follow it as a `Replica` does, and keep all that
            writing it takes. Questions are answered, commands get `NotLeader`. When that writer has let go, has died,
            or its lease has run out, this engine takes over, and decides commands.
        address: where clients reach it, as ``tcp://HOST:PORT``: the log tells it to those who ask for its writer.
        observers: are called with what happens, beside the log lines, which are always written.

    Raises:
        DefinitionError: an observer is a class, or has a hook that is async or yields; ``snapshots`` is another word;
            another process can't import the app to take them; ``effects`` are not one instance of a class of its.
        LogRefused: no store knows the log's address; no other process can read it to take its snapshots.

    Raises (on entering):
        LogLocked, LogRefused, LogCorrupt: the log can't be used.
        EngineClosed: it was opened before.
        EventsUnreadable: the log holds events that today's application does not know or can't read.
        ApplyFailed: a write model can't apply what the log holds.
        DefinitionError: the clock tells no aware datetime; a class of effects can't be made without arguments.
        BaseException: what an instance of effects raised when it was entered.
    """

    def __init__(
        self,
        app: App,
        *,
        log: str | Path | Log,
        limits: Limits | None = None,
        check_purity: bool = False,
        clock: Clock = utc_now,
        snapshots: bool | Literal["loop", "process"] = True,
        freeze_gc: bool = False,
        effects: Given = None,
        wait_for_lock_seconds: float = 0.0,
        address: str | None = None,
        standby: bool = False,
        observers: Iterable[Observer] = (),
    ) -> None:
        #: Tells all observers. A server of this engine tells them, too.
        self.observers: Observer = Observers(observers)
        #: Where commits are kept. It is the engine's to open, write and close.
        self.log = log_at(log)
        limits = (limits or Limits()).within(self.log.body_bytes_max if isinstance(self.log, Bounded) else None)
        views = actors_of(app, limits, self._reader, self.observers, self.require_position, self.log)
        super().__init__(app, limits, views, Home(f"the engine of {self.log.name}"), check_purity=check_purity)
        #: What is offered each commit, in this order: the views, and the snapshotter once the engine is open.
        self.followers: list[Follower] = [*views]
        self._life = LifeCycle(OPENED_ONCE, Phase.NEW)
        self._clock = clock
        self._opening = Opening(freeze_gc, checked_timeout(wait_for_lock_seconds), address, standby)
        self._process = snapshot_process(snapshots, app, self.log, limits, self.observers)
        self._snapshots = self.log.snapshots if snapshots else None
        self._recovery: Recovery
        self._catalog: Catalog | None = None
        self._snapshotter: Snapshotter | None = None
        self._writer = Writer(
            app,
            self.log,
            self.limits,
            clock,
            tenure=partial(tenure_of, app),
            followers=self.followers,
            rebuild=self._rebuild,
            observer=self.observers,
        )
        self._make_state = partial(WriteState, app, limits=self.limits, check_purity=check_purity)
        self._mailbox = self._writer.mailbox
        #: How commands get to the writer.
        self.admission: Admission = Admission(app, self._mailbox, self.limits)
        self._checks = self.admission.checks
        #: What reactions owe and have parked: to look at, to try again, to drop.
        self.agenda = Owing(self._writer, self._home)
        #: What is done to the outside world: to pause a method of it.
        self.effects = Outside(app, effects, self._writer, self._home, self.limits, self.observers)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        #: Of the loop on which it is opened. To ask each time which one runs costs 0.24 µs per command: a system call.
        self._new_promise: Callable[[], asyncio.Future[Receipt[Any]]] = asyncio.Future

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
        """Decide a command and make its events durable.

        When this returns, the events survive a crash of the machine, and every view will see them. Commands are
        decided in the order in which they are taken, one after another.

        Args:
            command: the command; what is decided is a checked copy.
            command_id: the caller's own name for this command. Sent again with the same id, also after a crash, the
                same command is not executed again: its first receipt is returned, ``repeated``. The last
                ``receipts_max`` such commands are remembered, and accepted ones only.
            expected_version: execute only if the command's key is at this version: has so many events.
            metadata: who asked, and what it belongs to, kept with it in the log.
            timeout: seconds after which to give up. A command that still waits then never executes; one that was
                decided already stands. A cancelled call behaves the same.
            wait: whether to wait for room when the mailbox is full.

        Raises:
            Rejected: the handler said no.
            InvalidMessage: command, id, version, metadata or timeout are not what they should be.
            UnknownMessage: no write model handles this command.
            CommandIdReused: another command was executed under this id.
            VersionConflict: the key is at another version.
            CommitTooLarge, AnswerTooLarge: it yielded or answered more than ``commit_bytes_max``, ``answer_bytes_max``.
            AnswerUnreadable: it was executed before, and what it answered is none of what it promises today.
            Overloaded: the mailbox is full, and ``wait`` is false.
            DeadlineExceeded: the timeout passed; ``decided`` tells whether the command stands.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            HandlerFailed, ApplyFailed, ImpureHandler: the application failed.
            WriterUnavailable, EngineClosed: the engine takes no commands.
            WrongLoop: it was opened on another event loop.
        """
        home = self._home
        if get_ident() != home.thread or not home.runs():
            home.require()
        check = self._checks.get(type(command))
        if check is None or check(command) is False:
            command = self.admission.command(command)
        if timeout is not None:
            timed = Options(command_id, expected_version, metadata, timeout, wait)
            return await self.admission.execute_in_time(command, timed, timeout)
        terms: Terms | None = None
        if command_id is not None or expected_version is not None or metadata is not None:
            terms = self.admission.terms(command, command_id, expected_version, metadata)
        promise, mailbox = self._new_promise(), self._mailbox
        envelope: Envelope = (promise, command, terms)
        if mailbox.is_free and len(mailbox.queue) < mailbox.commands_max:  # as `try_put`, a call less: 2 % of a command
            mailbox.queue.append(envelope)
            mailbox.taken_in = ticket = mailbox.taken_in + 1
        else:
            ticket = await mailbox.put(envelope) if wait else mailbox.put_nowait(envelope)
        try:
            return await promise
        except asyncio.CancelledError as error:
            self.admission.note_cancelled(error, promise, ticket)
            raise

    async def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt[Answer] | MillstreamError]:
        """Execute commands in order; one outcome for each, in the same order.

        Not a transaction: each is decided by itself, others' commands may come in between, and one that fails does not
        stop the next. While the mailbox has room it costs less than as many calls of `execute`.

        Args:
            commands: any number; they wait for room in the mailbox as `execute` does.
            command_ids: an id for each of them, as with `execute`; or none at all.
            metadata: is kept with each of them.
            timeout: seconds for all of them together; those left then have `DeadlineExceeded` as their outcome.

        Returns:
            For each command its receipt, or the error that `execute` would have raised.

        Raises:
            InvalidMessage: metadata or timeout are not what they should be, there are more or fewer ids than
                commands, or None is one of them. Nothing is taken.
            WrongLoop: the engine was opened on another event loop.
        """
        self._home.require()
        return await self.admission.execute_many(list(commands), command_ids, metadata, timeout)

    def preview(self, command: Command, *, metadata: Metadata | None = None) -> Preview:
        """The events that a command would yield now, and which reactions would follow them; nothing happens.

        "Now" includes commands that are decided and not yet durable, so a refusal has no position here.

        Raises:
            Rejected, InvalidMessage, UnknownMessage, HandlerFailed, ImpureHandler, CommitTooLarge, AnswerTooLarge: as
                `execute`.
            WriterUnavailable, Fenced, EngineClosed: the engine takes no commands.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        command = self.admission.command(command)
        metadata = Metadata() if metadata is None else checked_metadata(metadata)
        if self._life.status is not Phase.OPEN:
            raise EngineClosed(self._life.status)
        return self._writer.preview(command, metadata)

    @property
    def status(self) -> str:
        """``open``, or what it is instead."""
        return self._life.status.value

    @property
    def role(self) -> Literal["writer"]:
        """It decides commands."""
        return "writer"

    @property
    def not_ready(self) -> list[str]:
        """What keeps it from deciding commands, in words: ``the writer is recovering``. Nothing if it does."""
        if self._opening.standby is not None:
            return [self._opening.standby.problem]
        status = self._writer.status
        return [] if status is WriterStatus.DECIDING else [f"the writer is {status}"]

    @property
    def position(self) -> int:
        """The last durable event's."""
        standby = self._opening.standby
        return self._writer.head.position if standby is None else standby.head.position

    def require_position(self, after: int) -> None:
        """See that the log has come to a position: no caller was given any other, and waiting for one might never end.

        Raises:
            InvalidMessage: it is above the log's head.
        """
        head = self._writer.position_max
        if head is not None and self._opening.standby is None:  # else any will do: the writer may have come there
            require_reached(after, head)

    def parts(self) -> list[Part]:
        """The states that follow the log, as they are: the write side's, and each view's.

        The write side's are ahead of the log by what is being written, and are not there while the writer has none.
        They are the live ones: look, and change nothing.
        """
        write = [] if self._writer.state is None else self._writer.state.parts(self._writer.head)
        return [*write, *self._states]

    def stats(self) -> EngineStats:
        """Figures of this moment: mailbox, batches, positions, lags."""
        return EngineStats(
            writer=writer_stats(self._writer, self.limits),
            views=self._view_stats(),
            snapshot_position=0 if self._snapshotter is None else self._snapshotter.position,
            effects=self.effects.stats(),
        )

    def health(self) -> Health:
        """Whether it is alive and of use now, and if not, what is missing: what ``/health/ready`` says over HTTP."""
        return health_of(self)

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if not self._life.on(Turn.OPEN):
            raise EngineClosed(f"{self._life.status} and can't be opened again: make a new Engine")
        self._home.settle()
        self._new_promise = promises_of(get_running_loop())
        try:
            if await self._take_log():
                await self._recover()
            else:
                await self._stand_by()
        except BaseException:
            self._life.must(Turn.FAILED)
            self._home.leave()
            await to_the_end(self._let_go())
            raise
        self._tasks = [asyncio.create_task(each.run(), name=each.task_name) for each in self.followers]
        self._tasks.append(asyncio.create_task(self._write(), name="millstream-writer"))
        self._life.must(Turn.OPENED)
        try:
            await self.effects.entered()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
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
        require_zone(self._clock())
        if isinstance(self.log, Upgrading) and self.log.upgraded_from is not None:
            self.observers.log_upgraded(log=self.log.name, from_format=self.log.upgraded_from, to_format=FORMAT)
        kept_max = self.limits.snapshots_kept
        catalog = await Catalog.opened(self._snapshots, self.log, self.observers, kept_max=kept_max)
        recovery = Recovery(self.app, self.log, self.limits, catalog)
        write = WriteParts(self.app, self.limits, self.log)
        with frozen() if self._opening.freeze_gc else nullcontext():
            parts = [*write.all, *self._states]
            recovered = await recovery.recover(parts, Slicer(self.limits.slice_ms_max))
        head = recovered.head
        for follower in self.followers:
            follower.start(head)
        await self._lead(catalog, write, head, recovered.saved)
        self.observers.opened(
            log=self.log.name,
            app=self.app.name,
            commits=head.number,
            events=head.position,
            replayed=recovered.replayed,
            seconds=elapsed() - started,
        )

    async def _lead(self, catalog: Catalog, write: WriteParts, head: Head, saved: int) -> None:
        """Begin to write: the states are those of the log's head, and the views have come there."""
        is_failed = not await takes_commits(self.log, self.observers)
        self._recovery = Recovery(self.app, self.log, self.limits, catalog)
        begun = len(self.followers)
        if catalog.is_kept:
            self._catalog = catalog
            self._past.restore = lambda read, until: catalog.restore([read], resting(self.limits), until=until)
            self._snapshotter = Snapshotter(
                self._recovery,
                catalog,
                self.limits,
                new=partial(new_parts, self.app, self.limits),
                live=self._settled_parts,
                saved=saved,
                observer=self.observers,
                process=self._process,
            )
            self.followers.append(self._snapshotter)
        if (runner := self.effects.prepare()) is not None:
            self.followers.append(runner)
        self._writer.start(self._make_state(write), head, store_failed=is_failed)
        for follower in self.followers[begun:]:
            follower.start(head)

    async def _close(self) -> None:
        """Drain the writer, then what follows the log; close the log; what a task died of is raised last."""
        *_, writer = self._tasks
        if self._opening.standby is not None:  # nothing was decided here
            writer.cancel()
            await asyncio.wait([writer])
        self._writer.close_to_callers()
        await self.effects.drained(self.limits.drain_seconds_max)
        self._writer.stop()
        await asyncio.wait([writer], timeout=self.limits.drain_seconds_max)
        if not writer.done():
            self.observers.drain_timed_out(log=self.log.name, commands=len(self._mailbox.queue))
            writer.cancel()
        try:
            for follower in self.followers:
                follower.stop()
            ended = await asyncio.gather(*self._tasks, return_exceptions=True)
            self._writer.fail_all(partial(EngineClosed, Phase.CLOSED))  # if it was cancelled before its first step
            for follower in self.followers:
                await follower.close()
        finally:  # a follower that raises is a defect, and keeps no other from the log
            await self._past.end()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            self._home.leave()
            await self._let_go()
            self._life.must(Turn.CLOSED)
        head = self._writer.head
        self.observers.closed(log=self.log.name, app=self.app.name, commits=head.number, events=head.position)
        for problem in reversed(ended):
            if problem is not None and not isinstance(problem, asyncio.CancelledError):
                raise problem

    async def _let_go(self) -> None:
        try:
            if self.log.snapshots is not None:
                await self.log.snapshots.close()
        finally:
            await self.log.close()

    # Inside.

    def _reader(self, head: Head) -> Reader:
        return Reader(self.log, self.app, head, self.limits.read_bytes_max)

    def _settled_parts(self) -> list[Part]:
        """The parts when nothing moves any more. The write side's are left out if they are not those of the head."""
        settled = self._writer.settled
        write = [] if settled is None else settled.parts(self._writer.head)
        return [*write, *self._states]

    async def _rebuild(self, slicer: Slicer) -> Rebuilt:
        """The write side's state anew, for the writer that has lost it."""
        write = WriteParts(self.app, self.limits, self.log)
        recovered = await self._recovery.recover(write.all, slicer)
        return Rebuilt(self._make_state(write), recovered.head, recovered.replayed)
