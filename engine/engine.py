"""The engine: where an application runs.

Here: the public surface, opening and closing. Not here: any rule of the game (`deciding`, `writer`, `viewing`).
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
import structlog

from penstock.engine.app import App
from penstock.engine.clock import Clock, elapsed, utc_now
from penstock.engine.codec import checked_command_id, checked_metadata, encode
from penstock.engine.commit import Head
from penstock.engine.deciding import Deadline, Envelope
from penstock.engine.errors import (
    AnswerFailed,
    DeadlineExceeded,
    EngineClosed,
    ImpureHandler,
    InvalidMessage,
    Overloaded,
    PenstockError,
    UnknownMessage,
)
from penstock.engine.limits import Limits
from penstock.engine.log import Log, log_at
from penstock.engine.messages import Command, Event, Metadata, Query, Receipt
from penstock.engine.promises import Group, Place
from penstock.engine.purity import fingerprint
from penstock.engine.replay import Chapter, Reader, Slicer
from penstock.engine.stats import EngineStats, ViewStats, WriterStats
from penstock.engine.viewing import ViewActor
from penstock.engine.writer import Writer

__all__ = ["Engine"]

_log = structlog.get_logger("penstock")

Answer = TypeVar("Answer")


class _Status(StrEnum):
    """Only forward: NEW → OPENING → OPEN → CLOSING → CLOSED."""

    NEW = "not open yet"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Engine:
    """Runs an application: ``async with Engine(app, log="bank.db") as engine``. Under asyncio and uvloop.

    Opening replays the log into write models and views; when it is done all of them are at the log's head. Closing
    makes durable what was accepted, answers everybody, and lets go of the log. An engine is opened once.

    Args:
        app: what to run.
        log: where commits are kept: a path, ``sqlite:PATH``, ``memory:``, or a `Log`.
        limits: the bounds of queues, batches and waits.
        check_purity: compare the state before and after each handler and answer, and fail those that changed it.
            Costs a pass over the state each time: for development and tests.
        clock: tells the time of day for the record, as an aware datetime.

    Raises (on entering):
        LogLocked, LogRefused, LogCorrupt: the log can't be used.
        UnknownMessage, InvalidMessage: the log holds an event that today's application does not know or can't read.
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
    ) -> None:
        self.app = app
        self.limits = limits or Limits()
        self._log = log_at(log)
        self._status = _Status.NEW
        self._check_purity = check_purity
        self._clock = clock
        self._views = [ViewActor(app, index, self.limits, self._reader) for index in range(len(app.views))]
        self._writer = Writer(
            app, self._log, self.limits, clock, check_purity=check_purity, publish=self._publish, resync=self._resync
        )
        self._mailbox = self._writer.mailbox
        self._readers = {command: entry.read for command, entry in app.commands.items()}
        self._answers = {
            query: (self._views[entry.view], self._views[entry.view].answerer(entry.method.function))
            for query, entry in app.queries.items()
        }
        self._tasks: list[asyncio.Task[None]] = []

    # Asking for changes.

    async def execute(
        self,
        command: Command,
        *,
        command_id: str | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> Receipt:
        """Decide a command and make its events durable.

        When this returns, the events survive a crash of the machine, and every view will see them. Commands are
        decided in the order in which they are taken, one after another.

        Args:
            command: the command; what is decided is a checked copy.
            command_id: the caller's own name for this command, kept with it in the log.
            metadata: actor, correlation and causation, kept with it in the log.
            timeout: seconds after which to give up. A command that still waits then never executes; one that was
                decided already stands. A cancelled call behaves the same.
            wait: whether to wait for room when the mailbox is full.

        Raises:
            Rejected: the handler said no.
            InvalidMessage: command, id or metadata are not what they should be.
            UnknownMessage: no write model handles this command.
            CommitTooLarge: it yielded more than ``commit_bytes_max``.
            Overloaded: the mailbox is full, and ``wait`` is false.
            DeadlineExceeded: the timeout passed; ``decided`` tells whether the command stands.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            HandlerFailed, ApplyFailed, ImpureHandler: the application failed.
            WriterUnavailable, EngineClosed: the engine takes no commands.
        """
        try:
            command = self._readers[type(command)](encode(command))
        except Exception as error:
            raise self._refusal(command, error) from error
        if command_id is not None:
            command_id = checked_command_id(command_id)
        if metadata is not None:
            metadata = checked_metadata(metadata)
        promise: asyncio.Future[Receipt] = get_running_loop().create_future()
        if timeout is not None:
            deadline = Deadline(elapsed() + timeout, timeout)
            return await self._execute_in_time(
                (promise, command, command_id, metadata, deadline), promise, deadline, wait
            )
        envelope: Envelope = (promise, command, command_id, metadata, None)
        try:
            ticket = self._mailbox.put_nowait(envelope)
        except Overloaded:
            if not wait:
                raise
            ticket = await self._mailbox.put(envelope)
        try:
            return await promise
        except asyncio.CancelledError as error:
            self._note_cancelled(error, promise, ticket)
            raise

    async def execute_many(
        self,
        commands: Iterable[Command],
        *,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | PenstockError]:
        """Execute commands in order; one outcome for each, in the same order.

        Not a transaction: each is decided by itself, others' commands may come in between, and one that fails does not
        stop the next. It costs less than as many calls of `execute`.

        Args:
            commands: any number; they wait for room in the mailbox as `execute` does.
            metadata: is kept with each of them.
            timeout: seconds for all of them together; those left then have `DeadlineExceeded` as their outcome.

        Returns:
            For each command its receipt, or the error that `execute` would have raised.

        Raises:
            InvalidMessage: the metadata is not what it should be.
        """
        if metadata is not None:
            metadata = checked_metadata(metadata)
        todo = list(commands)
        if not todo:
            return []
        group, tickets = Group(len(todo)), [0] * len(todo)
        try:
            with anyio.move_on_after(timeout):
                await self._put_all(todo, group, tickets, metadata)
                await group.future
        finally:
            group.abandoned = True
        return [
            outcome or DeadlineExceeded(type(command).__name__, timeout or 0.0, decided=self._is_decided(ticket))
            for outcome, command, ticket in zip(group.outcomes, todo, tickets, strict=True)
        ]

    def preview(self, command: Command, *, metadata: Metadata | None = None) -> list[Event]:
        """The events that a command would yield if it were decided now; nothing happens.

        "Now" includes commands that are decided and not yet durable.

        Raises:
            Rejected, InvalidMessage, UnknownMessage, HandlerFailed, ImpureHandler: as `execute`.
            WriterUnavailable, Fenced, EngineClosed: the engine takes no commands.
        """
        command = self._checked(command)
        metadata = Metadata() if metadata is None else checked_metadata(metadata)
        if self._status is not _Status.OPEN:
            raise EngineClosed(self._status)
        return self._writer.preview(command, metadata)

    # Asking questions.

    async def ask(
        self, query: Query[Answer], *, after: Receipt | int | None = None, timeout: float | None = None
    ) -> Answer:
        """The answer of the view that answers such queries, from memory.

        The answer reflects whole commits only, at least up to ``after``. What it returns may be the view's own object:
        treat it as immutable. When the view is there already, nothing is awaited and no other task runs.

        Args:
            query: the question.
            after: a receipt, or a position: wait until the view has applied it.
            timeout: seconds to wait for that.

        Raises:
            UnknownMessage: no view answers this query.
            NotYetVisible: the view did not get there in time; the write that the token stands for is not in doubt.
            ViewBehind: too many queries wait for this view.
            ViewFaulted: the view could not apply an event, and answers no more.
            AnswerFailed: the view raised while answering.
            EngineClosed: the engine is not open.
        """
        found = self._answers.get(type(query))
        if found is None:
            raise self._unknown("query", query, self.app.queries.values())
        view, answer = found
        if after is not None or not view.ready:
            position = 0 if after is None else after if isinstance(after, int) else after.position
            if not view.ready or view.position < position:
                await view.reach(position, timeout)
        if self._check_purity:
            answer = _watched(view, answer)
        try:
            return cast(Answer, answer(query))
        except PenstockError:
            raise
        except Exception as error:
            raise AnswerFailed(view.name, type(query).__name__, repr(error)) from error

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
            views={
                view.name: ViewStats(view.status, view.position, view.lag, view.queued, view.detached)
                for view in self._views
            },
        )

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if self._status is not _Status.NEW:
            raise EngineClosed(f"{self._status} and can't be opened again: make a new Engine")
        self._status = _Status.OPENING
        try:
            await self._log.open(self.app.name)
            await self._replay()
        except BaseException:
            self._status = _Status.CLOSED
            with anyio.CancelScope(shield=True):
                await self._log.close()
            raise
        for view in self._views:
            view.start()
        self._tasks = [asyncio.create_task(view.run(), name=f"penstock-view-{view.name}") for view in self._views]
        self._tasks.append(asyncio.create_task(self._writer.run(), name="penstock-writer"))
        self._status = _Status.OPEN
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._close()

    async def _replay(self) -> None:
        started = elapsed()
        state, slicer = self._writer.new_state(), Slicer(self.limits.slice_ms_max)
        reader = self._reader(Head())
        while (page := await reader.page()) is not None:
            for chapter in page:
                state.apply(chapter.events, chapter.head.position - len(chapter.events))
                for view in self._views:
                    await view.apply(chapter, slicer)
                if slicer.is_over:
                    await slicer.rest()
        self._writer.start(state, reader.head)
        seconds = elapsed() - started
        _log.info(
            "opened",
            log=self._log.name,
            app=self.app.name,
            commits=reader.head.number,
            events=reader.head.position,
            seconds=round(seconds, 3),
            events_per_second=round(reader.head.position / seconds) if seconds else 0,
        )

    async def _close(self) -> None:
        """Drain the writer, then the views, then the log; what a task died of is raised last."""
        self._status = _Status.CLOSING
        *views, writer = self._tasks
        self._writer.stop()
        await asyncio.wait([writer], timeout=self.limits.drain_seconds_max)
        if not writer.done():
            _log.error("drain_timed_out", log=self._log.name, commands=len(self._mailbox.queue))
            writer.cancel()
        for view in self._views:
            view.stop()
        ended = await asyncio.gather(writer, *views, return_exceptions=True)
        await self._log.close()
        self._status = _Status.CLOSED
        head = self._writer.head
        _log.info("closed", log=self._log.name, app=self.app.name, commits=head.number, events=head.position)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    # Inside.

    def _reader(self, head: Head) -> Reader:
        return Reader(self._log, self.app, head, self.limits.read_bytes_max)

    def _publish(self, chapter: Chapter) -> None:
        for view in self._views:
            view.offer(chapter)

    def _resync(self, head: Head) -> None:
        for view in self._views:
            view.detach(head)

    def _checked(self, command: Command) -> Command:
        try:
            return self._readers[type(command)](encode(command))
        except Exception as error:
            raise self._refusal(command, error) from error

    def _refusal(self, command: Command, error: Exception) -> PenstockError:
        if type(command) not in self._readers:
            return self._unknown("command", command, self.app.commands.values())
        return InvalidMessage(type(command).__name__, str(error) or repr(error))

    def _unknown(self, kind: str, message: object, entries: Iterable[Any]) -> UnknownMessage:
        return UnknownMessage(kind, type(message).__name__, self.app.name, tuple(entry.tag for entry in entries))

    def _is_decided(self, ticket: int) -> bool:
        return 0 < ticket <= self._mailbox.taken_out

    def _note_cancelled(self, error: asyncio.CancelledError, promise: asyncio.Future[Receipt], ticket: int) -> None:
        """Say that the command stands, if it was decided before the promise was cancelled.

        The cancellation arrives here a turn of the loop later, and the writer may have passed the command over since.
        """
        if self._is_decided(ticket) and promise not in self._mailbox.skipped:
            error.add_note("penstock: the command was decided before it was cancelled; it stands once it is durable")

    async def _execute_in_time(
        self, envelope: Envelope, promise: asyncio.Future[Receipt], deadline: Deadline, wait: bool
    ) -> Receipt:
        name, seconds, ticket = type(envelope[1]).__name__, deadline.timeout_seconds, 0

        def expire() -> None:
            if not promise.done():
                promise.set_exception(DeadlineExceeded(name, seconds, decided=self._is_decided(ticket)))

        if not wait:
            ticket = self._mailbox.put_nowait(envelope)
        else:
            with anyio.move_on_after(seconds):
                ticket = await self._mailbox.put(envelope)
        if not ticket:
            raise DeadlineExceeded(name, seconds, decided=False)
        timer = asyncio.get_running_loop().call_later(deadline.at - elapsed(), expire)
        try:
            return await promise
        except asyncio.CancelledError as error:
            self._note_cancelled(error, promise, ticket)
            raise
        finally:
            timer.cancel()

    async def _put_all(self, todo: list[Command], group: Group, tickets: list[int], metadata: Metadata | None) -> None:
        slicer = Slicer(self.limits.slice_ms_max)
        for index, command in enumerate(todo):
            try:
                envelope: Envelope = (Place(group, index), self._checked(command), None, metadata, None)
                try:
                    tickets[index] = self._mailbox.put_nowait(envelope)
                except Overloaded:
                    tickets[index] = await self._mailbox.put(envelope)
            except PenstockError as error:
                group.settle(index, error)
            if not index & 63 and slicer.is_over:
                await slicer.rest()


def _watched(view: ViewActor, answer: Any) -> Any:
    """The answering method, with a look at the view's state before and after it."""

    def watched(query: Query[Any]) -> Any:
        before = fingerprint(view.state)
        try:
            return answer(query)
        finally:
            if fingerprint(view.state) != before:
                error = ImpureHandler(f"{view.name}.{answer.__name__}", type(query).__name__)
                view.fault(error)
                raise error

    return watched
