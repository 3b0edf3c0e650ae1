"""The writer: the one actor that changes anything.

Here: when a draft is decided, launched and landed. Not here: how a command is decided (`kernel`), what a commit is
(`commits`), where it goes (`stores`), who hears what when it fails (`failure`).

One commit is in flight at most. While it is, the next draft is decided on the speculative state; it is launched when
the one before has landed, so nothing of it is acknowledged before that.

    status       what it does
    ------       ------------
    DECIDING     decides and applies ahead of the flight
    RECOVERING   has no state: asks the store whether it takes commits, if one failed, and rebuilds the state from
                 snapshots and log; if either fails, refuses those who wait, and tries again with the next command
    STOPPED      takes nothing; says why

What moves it from one to another is the table `MOVES`.

So a store that keeps failing costs a small write per command, and no rebuild until it works again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import msgspec

from millstream.engine.application.interrupts import INTERRUPTS, Interrupted
from millstream.engine.application.messages import Command, Context, Event, Metadata, Receipt
from millstream.engine.commits.commit import Commit, Head, seal, timestamp
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.follower import Follower
from millstream.engine.errors import (
    ApplyFailed,
    CommitFailed,
    EngineClosed,
    Fenced,
    HandlerFailed,
    ImpureHandler,
    MillstreamError,
    OutcomeUnknown,
    WriterUnavailable,
)
from millstream.engine.lifecycle import LifeCycle, Moves
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock, elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.threads import release_gil
from millstream.engine.observers import Faults, Observer, has_hook
from millstream.engine.stores.port import Log
from millstream.engine.write.append import write
from millstream.engine.write.batch import Draft, fill
from millstream.engine.write.envelope import Promise
from millstream.engine.write.failure import NotYet, Rebuilt, Repair, fail_draft, fail_queue
from millstream.engine.write.kernel import Outcome
from millstream.engine.write.mailbox import Mailbox
from millstream.engine.write.state import WriteState

__all__ = ["MOVES", "Counts", "Writer", "WriterEvent", "WriterStatus"]

#: How long a busy loop holds still so that a store's thread can begin to write. That thread needs the interpreter's
#: lock for a moment, and a loop that goes on working lets go of it only every 5 ms, so the write would begin when all
#: work is done instead of beside it. Worth 15 % of throughput with 1,000 callers; costs 0.1 ms per commit.
_RELEASE_SECONDS = 50e-6
#: How many callers are woken in one turn of the loop, so that nobody else waits for all of a commit's to have run.
_ANSWERS_MAX = 50


class WriterStatus(StrEnum):
    """What the writer is doing; the table above says what follows from it."""

    DECIDING = "deciding"
    RECOVERING = "recovering"
    STOPPED = "stopped"


class WriterEvent(StrEnum):
    """What happens to the writer."""

    #: A commit failed, or a command damaged the state.
    LOST_STATE = "lost its state"
    REBUILT = "rebuilt"
    ENDED = "ended"


_ALWAYS = {WriterEvent.LOST_STATE: WriterStatus.RECOVERING, WriterEvent.ENDED: WriterStatus.STOPPED}
MOVES: Moves[WriterStatus, WriterEvent] = {
    WriterStatus.DECIDING: _ALWAYS,
    WriterStatus.RECOVERING: {**_ALWAYS, WriterEvent.REBUILT: WriterStatus.DECIDING},
    WriterStatus.STOPPED: {},
}


class Counts(msgspec.Struct):
    """What became of commands since the engine was opened."""

    commits: int = 0
    commands: int = 0
    refused: int = 0
    failed: int = 0
    batch_last: int = 0
    batch_max: int = 0

    def committed(self, commands: int) -> None:
        """One more commit, of so many commands."""
        self.commits += 1
        self.commands += commands
        self.batch_last = commands
        self.batch_max = max(self.batch_max, commands)


class _Flight(NamedTuple):
    """A commit that is being written."""

    draft: Draft
    commit: Commit
    landing: asyncio.Task[None]
    since: float


class Writer:
    """The actor. `run` is its life; `mailbox` is the only way in.

    Args:
        log: an open log; nobody else appends to it.
        limits: the engine's.
        clock: the time of day, for the record.
        followers: are offered every durable commit, in order, before its callers are answered.
        rebuild: makes the state anew, as the log has it, when it is lost.
        observer: is told of commits, and of what goes wrong.
    """

    def __init__(
        self,
        log: Log,
        limits: Limits,
        clock: Clock,
        *,
        followers: Sequence[Follower],
        rebuild: Callable[[Slicer], Awaitable[Rebuilt]],
        observer: Observer,
    ) -> None:
        self.mailbox = Mailbox(limits.mailbox_commands_max, limits.mailbox_entering_max, limits.mailbox_bytes_max)
        #: The write side, ahead of `head` by what is in flight or in the draft; None while RECOVERING.
        self.state: WriteState | None = None
        #: The last commit that is durable.
        self.head = Head()
        self.counts = Counts()
        self._store = log
        self._life = LifeCycle(MOVES, WriterStatus.DECIDING)
        self._repair = Repair(log, rebuild, observer)
        self._limits = limits
        self._clock = clock
        self._followers = followers
        self._observer = observer
        self._faults = Faults(observer, elapsed)
        self._tell_committed = observer.committed if has_hook(observer, "committed") else None
        self._slicer = Slicer(limits.slice_ms_max)
        self._sealed = Head()
        self._draft: Draft | None = None
        self._flight: _Flight | None = None
        #: Outcomes that stand, and are to be told: in the order in which their commands were decided.
        self._outcomes: deque[tuple[Promise, Receipt | MillstreamError]] = deque()
        self._closing = False
        self._settled = False

    def start(self, state: WriteState, head: Head, *, store_failed: bool = False) -> None:
        """Take commands from now on, on the state that the log has at ``head``; if the store takes any."""
        self.state, self.head, self._sealed = state, head, head
        if store_failed:
            self._repair.store_is_down()
            self._discard_state()
        self.mailbox.open()

    def stop(self) -> None:
        """Take no more commands; `run` ends once all that was taken is durable and answered."""
        self._closing = True
        self.mailbox.close(partial(EngineClosed, "closing"))

    @property
    def status(self) -> WriterStatus:
        """What it is doing."""
        return self._life.status

    @property
    def settled(self) -> WriteState | None:
        """The state, if it is that of `head` and nothing moves any more: `run` has ended in good order."""
        return self.state if self._settled else None

    def now(self) -> datetime:
        """The time of day, never before that of the last commit."""
        return max(self._clock(), _moment(self._sealed))

    def preview(self, command: Command, metadata: Metadata) -> list[Event]:
        """What deciding the command now would yield; nothing happens.

        Raises:
            Rejected, HandlerFailed, ImpureHandler, CommitTooLarge: as deciding does.
            WriterUnavailable: the state is being rebuilt. What the mailbox was closed with, if it is.
        """
        self.mailbox.require_open()
        if self.state is None:
            self.mailbox.wake()
            raise WriterUnavailable("its state is being rebuilt")
        try:
            return self.state.decide(command, Context(self.now(), None, metadata))
        except ImpureHandler:
            self._discard_state()
            self.mailbox.wake()
            raise

    async def run(self) -> None:
        """Decide, write, answer, until `stop` and then until nothing is left.

        Whatever ends it, every command that was taken is answered.

        Raises:
            Interrupted: a handler wants the program to end.
            Exception: a defect.
        """
        reason: Callable[[], MillstreamError] = partial(EngineClosed, "closed")
        try:
            while not self._closing or self.mailbox.queue or self._draft or self._flight or self._outcomes:
                await self._step()
            self._settled = True
        except Fenced as error:
            reason = partial(Fenced, error.log, error.commit, error.head)
            self._observer.fenced(log=error.log, commit=error.commit, head=error.head)
        except BaseException as error:
            reason = partial(WriterUnavailable, f"it stopped: {error!r}")
            self._observer.writer_stopped(log=self._store.name, commit=self.head.number, error=error)
            if isinstance(error, INTERRUPTS):
                raise Interrupted("the writer") from error
            raise
        finally:
            self.fail_all(reason)

    async def _step(self) -> None:
        """One turn: land what has arrived, decide what waits, launch what is ready, answer some who are owed; or wait.

        The next commit is launched before the callers of the last one are answered: they run while it is written.
        """
        if self._flight is not None and self._flight.landing.done():
            self._land(self._flight)
        more = self._decide() and bool(self.mailbox.queue)
        if self._draft is not None and self._flight is None and self._draft.records:
            await self._launch(self._draft)
            more = bool(self.mailbox.queue)  # and if not: nothing to do holds the interpreter's lock from the store
        if self._draft is not None and self._flight is None:  # refusals only, and all that they depend on is durable
            self._queue_outcomes(self._draft)
            self._draft = None
            more = True
        self._answer(_ANSWERS_MAX)
        if self.state is None and self._flight is None and self._draft is None and not self._outcomes:
            await self._rebuild()
        elif more or self._outcomes:
            await self._slicer.rest()
        elif self._flight is None:
            if not self._closing:
                await self.mailbox.wait()
        elif not self._flight.landing.done():
            await self.mailbox.wait()

    def _decide(self) -> bool:
        """Decide for a slice; whether it is worth going on at once."""
        queue = self.mailbox.queue
        if self.state is None or not queue:
            return False
        draft = self._draft
        if draft is None:
            draft = self._draft = Draft(self._sealed, self.now())
        elif draft.is_full(self._limits):
            return False
        decided, refused = len(draft.outcomes), draft.refused
        fill(draft, queue, self.state, self._limits)
        if draft.refused > refused:
            self._tell_faults(draft.outcomes[decided:])
        self.mailbox.skipped.extend(draft.skipped)
        draft.skipped.clear()
        self.mailbox.admit()
        if draft.is_damaged:
            self._discard_state()  # whatever was decided before stands; nothing more is decided on this state
        if not draft.promises:
            self._draft = None
        return not draft.is_full(self._limits)

    def _tell_faults(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, HandlerFailed):
                self._faults.tell(outcome.handler, outcome.command, outcome.__cause__ or outcome)
            elif isinstance(outcome, ApplyFailed):
                self._faults.tell(outcome.model, outcome.event, outcome.__cause__ or outcome)
            elif isinstance(outcome, ImpureHandler):
                self._faults.tell(outcome.function, outcome.message_type, outcome)

    async def _launch(self, draft: Draft) -> None:
        """Start to write the draft."""
        commit = seal(self._sealed, timestamp(draft.now), draft.records)
        self._sealed = Head.after(commit, draft.position - draft.start)
        landing = asyncio.create_task(self._write(commit), name=f"millstream-commit-{commit.number}")
        self._flight, self._draft = _Flight(draft, commit, landing, elapsed()), None
        if self._outcomes or self.mailbox.queue:
            await asyncio.sleep(0)  # the append's first step: it hands the commit to the store
            if not landing.done():
                release_gil(_RELEASE_SECONDS)

    async def _write(self, commit: Commit) -> None:
        try:
            await write(self._store, commit)
        finally:
            self.mailbox.wake()  # here and not in a callback of the task, which would come a turn of the loop later

    def _land(self, flight: _Flight) -> None:
        """Durable, then visible, then acknowledged; or failed, and the state rolled back."""
        try:
            flight.landing.result()
        except (CommitFailed, OutcomeUnknown) as error:
            self._flight = None
            self._roll_back(flight, error)
            return
        except Fenced as error:
            self._flight = None
            self._fail(flight.draft, partial(Fenced, error.log, error.commit, error.head))
            raise
        draft = flight.draft
        decoded = DecodedCommit.of(flight.commit, draft.position - draft.start, draft.events)
        self.head = decoded.head
        try:
            for follower in self._followers:
                follower.offer(decoded)
        finally:  # a follower that raises is a defect, and ends the writer; the commit stands, and its callers hear so
            self._flight = None
            self._queue_outcomes(draft)
        self.counts.committed(len(draft.records))
        seconds = elapsed() - flight.since
        if self._tell_committed is not None:
            self._tell_committed(
                commit=decoded.head.number,
                position=decoded.head.position,
                commands=len(draft.records),
                events=decoded.head.position - decoded.start,
                size_bytes=decoded.size_bytes,
                seconds=seconds,
            )
        if seconds * 1e3 > self._limits.slow_commit_ms:
            ms = round(seconds * 1e3)
            self._observer.slow_commit(commit=decoded.head.number, ms=ms, bytes=decoded.size_bytes)

    def _queue_outcomes(self, draft: Draft) -> None:
        """What the draft's callers are to hear stands."""
        self._outcomes.extend(zip(draft.promises, draft.outcomes, strict=True))
        self.counts.refused += draft.refused

    def _answer(self, most: int) -> None:
        """Tell so many of those who are owed an outcome; who has given up hears nothing."""
        owed = self._outcomes
        for _ in range(min(most, len(owed))):
            promise, outcome = owed.popleft()
            if promise.done():
                continue
            if isinstance(outcome, Receipt):
                promise.set_result(outcome)
            else:
                promise.set_exception(outcome)

    def _roll_back(self, flight: _Flight, error: CommitFailed | OutcomeUnknown) -> None:
        """Fail what was not written, and all that was decided on top of it."""
        self._repair.failed(flight.commit, error)
        number, problem = error.commit, error.problem
        failed = partial(type(error), number, problem)
        self._fail(flight.draft, failed, error.__cause__)
        if self._draft is not None:
            too = partial(CommitFailed, number + 1, f"the one before it failed: {problem}")
            self._fail(self._draft, too, error, before=failed)
            self._draft = None
        self._discard_state()
        self._sealed = self.head

    def _discard_state(self) -> None:
        self.state = None
        self._life.on(WriterEvent.LOST_STATE)

    def _fail(
        self,
        draft: Draft,
        error: Callable[[], MillstreamError],
        cause: BaseException | None = None,
        before: Callable[[], MillstreamError] | None = None,
    ) -> None:
        self.counts.failed += fail_draft(draft, self.head.number, error, cause, before)

    async def _rebuild(self) -> None:
        """The state from snapshots and log. If the store fails at that, those who wait are refused; if the log can't be
        believed, the writer stops.
        """
        try:
            rebuilt = await self._repair.attempt(self.head, self._slicer)
        except NotYet as error:
            await self._refuse_waiting(str(error), error.__cause__ or error)
            return
        self.state = rebuilt.state
        self._life.must(WriterEvent.REBUILT)
        if rebuilt.head.number > self.head.number:
            self.head = self._sealed = rebuilt.head
            for follower in self._followers:
                follower.resync(rebuilt.head)

    async def _refuse_waiting(self, reason: str, error: BaseException) -> None:
        self._observer.rebuild_failed(log=self._store.name, error=error)
        self.counts.failed += fail_queue(self.mailbox.queue, partial(WriterUnavailable, reason), error)
        self.mailbox.admit()
        if not self._closing:
            await self.mailbox.wait()

    def fail_all(self, reason: Callable[[], MillstreamError]) -> None:
        """Stop, and answer everyone who is left: what is in flight may yet land, all else never happened."""
        self._life.on(WriterEvent.ENDED)
        self.mailbox.close(reason)
        self._answer(len(self._outcomes))
        unknown: Callable[[], MillstreamError] | None = None
        if self._flight is not None:
            number = self._flight.commit.number
            self._flight.landing.cancel()
            unknown = partial(OutcomeUnknown, number, "the writer stopped while it was written")
            self._fail(self._flight.draft, unknown)
        if self._draft is not None:
            self._fail(self._draft, reason, before=unknown)
        self._flight = self._draft = None
        fail_queue(self.mailbox.queue, reason)


def _moment(head: Head) -> datetime:
    return datetime.fromisoformat(head.recorded_at) if head.recorded_at else _BEFORE


_BEFORE = datetime.min.replace(tzinfo=UTC)
