"""The writer: the one actor that changes anything.

Here: when a draft is decided, launched and landed. Not here: how a command is decided (`kernel`), what a commit is
(`commits`), where it goes (`stores`), what its callers get when it fails (`failure`).

One commit is in flight at most. While it is, the next draft is decided on the speculative state; it is launched when
the one before has landed, so nothing of it is acknowledged before that.

A store that keeps failing costs a small write per command, and no rebuild until it works again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from math import inf

import anyio

from millstream.engine.application.app import App
from millstream.engine.application.interrupts import INTERRUPTS, Interrupted
from millstream.engine.application.messages import Command, Context, Metadata, Preview
from millstream.engine.commits.body import body_reader
from millstream.engine.commits.commit import Head, moment_of, seal, timestamp
from millstream.engine.commits.follower import Follower
from millstream.engine.commits.record import Tenure
from millstream.engine.errors import (
    CommitFailed,
    CommitsLost,
    EngineClosed,
    Fenced,
    ImpureHandler,
    MillstreamError,
    OutcomeUnknown,
    WriterUnavailable,
)
from millstream.engine.lifecycle import LifeCycle
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock, elapsed, utc_now
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.steady import SteadyClock
from millstream.engine.observers import Faults, Observer
from millstream.engine.stores.capabilities import Launching
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.port import Log
from millstream.engine.write.append import meaning_of, settle, write
from millstream.engine.write.batch import Draft, fill
from millstream.engine.write.failure import NotYet, Rebuilt, Repair, fail_draft, fail_queue
from millstream.engine.write.flight import Counts, Flight, Tellers
from millstream.engine.write.gather import Gather
from millstream.engine.write.mailbox import Mailbox
from millstream.engine.write.owed import Owed
from millstream.engine.write.patience import Patience
from millstream.engine.write.state import WriteState
from millstream.engine.write.status import MOVES, WriterEvent, WriterStatus
from millstream.engine.write.timetable import Timetable

__all__ = ["Writer"]

#: How many callers are woken in one turn of the loop, so that no other task waits for all of a commit's to have run.
_ANSWERS_MAX = 50
#: Up to so many commands are a small commit, which a store may write at once where no other task needs the loop.
_ALONE_COMMANDS_MAX = 64
#: What an append ends with that is certain, or can't be known.
_TOLD = (Fenced, CommitFailed, CommitsLost, OutcomeUnknown)


class Writer:
    """The actor. `run` is its life; `mailbox` is the only way in.

    Args:
        app: the application.
        log: an open log, to which only this writer appends.
        limits: the engine's.
        clock: the time of day, for the record.
        tenure: by its term, what the first commit after each opening says of who writes.
        followers: are offered every durable commit, in order, before its callers are answered.
        rebuild: makes the state anew, as the log has it, when it is lost.
        observer: is called with commits, and with what goes wrong.
    """

    def __init__(
        self,
        app: App,
        log: Log,
        limits: Limits,
        clock: Clock,
        *,
        tenure: Callable[[int], Tenure],
        followers: Sequence[Follower],
        rebuild: Callable[[Slicer], Awaitable[Rebuilt]],
        observer: Observer,
    ) -> None:
        self.mailbox = Mailbox(limits.mailbox_commands_max, limits.mailbox_entering_max, limits.mailbox_bytes_max)
        #: The write side, ahead of `head` by what is in flight or in the draft; None while RECOVERING.
        self.state: WriteState | None = None
        #: The last commit that is durable.
        self.head = Head()
        self.leadership = Leadership()
        self.counts = Counts()
        self._store = log
        self._launching = log if isinstance(log, Launching) else None
        self._life = LifeCycle(MOVES, WriterStatus.DECIDING)
        self._patience = Patience(limits.store_retry_seconds)
        self._repair = Repair(log, rebuild, self._patience, observer)
        self._limits = limits
        jump = limits.clock_jump_seconds_max if clock is utc_now else None  # one that is given is meant
        self.clock = SteadyClock(clock, jump, partial(observer.clock_leaps, log=log.name))
        self._timetable = Timetable(self.clock)
        self._app = app
        self._read_body = body_reader(app.stored)
        self._tenure = tenure
        #: How many openings had written before this one.
        self._term = 0
        #: No commit since the opening has said who writes.
        self._is_new = True
        self._followers = followers
        self._observer = observer
        self._faults = Faults(observer, elapsed)
        self._tellers = Tellers(observer, limits.slow_commit_ms)
        self._slicer = Slicer(limits.slice_ms_max)
        self._sealed = Head()
        self._gather = Gather(limits.gather_ms_max / 1e3)
        self._draft: Draft | None = None
        self._flight: Flight | None = None
        #: Outcomes that stand, and are to be given: in the order in which their commands were decided.
        self._owed = Owed()
        #: What went wrong outside of `run`, which raises it.
        self._defect: BaseException | None = None
        self._closing = False
        #: No caller gets in any more, and no timer is sent.
        self._is_left_alone = False
        self._keeps_agenda = app.keeps_agenda  # or its log has one
        self._settled = False

    def start(self, state: WriteState, head: Head, *, store_failed: bool = False) -> None:
        """Take commands from now on, on the state that the log has at ``head``; if the store takes any."""
        self.state, self.head, self._sealed = state, head, head
        self._term = state.index.term
        self._keeps_agenda = self._app.keeps_agenda or len(state.agenda) > 0
        self._timetable.follow(state.agenda)
        if (ahead := moment_of(head) - self.clock.now()).total_seconds() > self._limits.clock_jump_seconds_max:
            self._observer.log_ahead(log=self._store.name, seconds=ahead.total_seconds())
        if store_failed:
            self._repair.store_is_down()
            self._discard_state()
        self.mailbox.open()

    def holds(self, leadership: Leadership) -> None:
        """The log is ours, until that is lost: then what is in flight fails, and nothing more is written."""
        self.leadership = leadership
        leadership.on_lost(self.mailbox.wake)

    def close_to_callers(self) -> None:
        """Take no more commands, and send none; what came of effects is taken still, until `stop`."""
        self._is_left_alone = True
        self.mailbox.close(partial(EngineClosed, "closing"))

    def stop(self) -> None:
        """Take nothing any more; `run` ends once all that was taken is durable and answered."""
        self._closing = True
        self.close_to_callers()

    @property
    def status(self) -> WriterStatus:
        """What it is doing."""
        return self._life.status

    @property
    def position_max(self) -> int | None:
        """The highest position that a caller can have been given; None if that can't be known any more.

        No caller gets a receipt before its commit is durable here, but a replica may have read that commit by then: of
        one that is being written, and of one that failed and may be there all the same. Another process may write too.
        """
        is_known = self.status is not WriterStatus.STOPPED and self.leadership.is_held
        return self._sealed.position if is_known else None

    @property
    def settled(self) -> WriteState | None:
        """The state, if `run` has ended in good order: it is that of `head`, and nothing moves any more."""
        return self.state if self._settled else None

    def _now(self) -> datetime:
        return max(self.clock.now(), moment_of(self._sealed))

    def preview(self, command: Command, metadata: Metadata) -> Preview:
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
            return self.state.decide(command, Context(self._now(), None, metadata))
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
        process = os.getpid()
        try:
            while self._has_work():
                await self._step()
            self._settled = True
        except (Fenced, CommitsLost) as error:
            reason = partial(type(error), error.log, error.commit, error.head)
            tell = self._observer.fenced if isinstance(error, Fenced) else self._observer.commits_lost
            tell(log=error.log, commit=error.commit, head=error.head)
        except BaseException as error:
            if self._closing and isinstance(error, asyncio.CancelledError):
                raise  # `drain_seconds_max` is over: that is no defect
            reason = partial(WriterUnavailable, f"it stopped: {error!r}")
            if os.getpid() == process:  # a forked child says nothing of its parent's writer
                self._observer.writer_stopped(log=self._store.name, commit=self.head.number, error=error)
            if isinstance(error, INTERRUPTS):
                raise Interrupted("the writer") from error
            raise
        finally:
            self.fail_all(reason)

    def _has_work(self) -> bool:
        underway = self.mailbox.queue or self._draft or self._flight or self._owed or self._defect
        return bool(not self._closing or underway)

    @property
    def _is_asked(self) -> bool:
        """Whether there is something to decide."""
        if self.mailbox.queue:
            return True
        return self.state is not None and (self.state.is_due or self._is_time)

    @property
    def _is_time(self) -> bool:
        """Whether a timer is due that can be sent, or the timetable has more to look at.

        What comes due while there is a draft waits for the next one: no commit is recorded before what it sends is due.
        """
        if self._is_left_alone:
            return False
        if self._draft is not None:
            return bool(self._timetable.due) and not self._draft.holds
        return self._timetable.look()

    async def _step(self) -> None:
        """One turn: decide what waits, launch what is ready, answer some who are owed; or wait.

        What has landed was published by `_arrived`, in a turn of its own.
        """
        if self._defect is not None:
            raise self._defect
        if self.leadership.is_lost and self._flight is None:
            raise Fenced(self._store.name, self.head.number + 1, self.head.number)
        if self._flight is not None and self._flight.error is not None:
            self._lost(self._flight, self._flight.error)
        more = self._decide() and self._is_asked
        if self._draft is not None and self._flight is None and self._is_due(self._draft):
            self._launch(self._draft)
            more = self._is_asked
        if self._draft is not None and self._flight is None and self._draft.is_empty:  # refusals, of what is durable
            self._queue_outcomes(self._draft)
            self._draft, more = None, True
        self._owed.tell(_ANSWERS_MAX)
        if self.state is None and self._flight is None and self._draft is None and not self._owed:
            await self._rebuild()
        elif more or self._owed:
            await self._slicer.rest()
        elif self._flight is None:
            if self._draft is not None or not self._closing:
                await self._wait(inf if self._draft is None else self._gather.until - elapsed())
        elif self._flight.error is None:
            await self._wait()

    async def _wait(self, within: float = inf) -> None:
        """Wait for a command, for the next timer, or for so many seconds."""
        looks = self._draft is None and self.state is not None  # else what is due comes after the draft
        self._timetable.arm(self.mailbox.wake, within=within, looks=looks)
        await self.mailbox.wait()

    def _decide(self) -> bool:
        """Decide for a slice; whether it is worth going on at once."""
        queue = self.mailbox.queue
        if self.state is None or not self._is_asked:
            return False
        draft = self._draft
        if draft is None:
            clock = self.clock.now()
            if not self._is_left_alone:
                self._timetable.look(clock)
            draft = self._draft = Draft(self._sealed, max(clock, moment_of(self._sealed)), clock)
        elif draft.is_full(self._limits):
            return False
        fill(draft, queue, self.state, self._limits, self._timetable.due if self._is_time else None)
        for timer, is_measured in draft.timed:
            self._timetable.add(timer, is_measured=is_measured)
        draft.timed.clear()
        for fault in draft.faults:
            self._faults.tell(fault)
        draft.faults.clear()
        self.mailbox.skipped.extend(draft.skipped)
        draft.skipped.clear()
        self.mailbox.admit()
        if draft.is_damaged:
            self._discard_state()  # whatever was decided before stands; nothing more is decided on this state
        if not draft.promises and draft.is_empty:
            self._draft = None
        return not draft.is_full(self._limits)

    def _is_due(self, draft: Draft) -> bool:
        """Whether to launch it, if nothing is in flight.

        While many are to be answered it waits for what they send next: with 1,000 callers 500 share a commit then, and
        not 130, which is worth 15 %. For few it waits for a moment, where that pays.
        """
        if draft.is_empty or draft.is_full(self._limits) or len(self._owed) > _ANSWERS_MAX:
            return not draft.is_empty and draft.is_full(self._limits)
        return self._closing or not self._gather.lasts(len(draft.outcomes) + len(self.mailbox.queue), elapsed())

    def _launch(self, draft: Draft) -> None:
        """Start to write the draft."""
        body = draft.body(self._app, self._tenure(self._term + 1) if self._is_new else None)
        commit = seal(self._sealed, timestamp(draft.now), body)
        draft.sealed(commit.digest)
        self._sealed = Head.after(commit, draft.position - draft.start)
        self._flight = flight = Flight(draft, commit)
        self._draft = None
        if self._launching is None:
            flight.wait_for(write(self._store, commit, self._patience), self._arrived)
            return
        try:
            few = len(draft.outcomes) <= _ALONE_COMMANDS_MAX
            alone = few and not self._is_asked and not self._owed
            self._launching.launch(commit, partial(self._arrived, flight), alone=alone)
        except CommitFailed as error:
            self._arrived(flight, error)

    def _arrived(self, flight: Flight, error: BaseException | None) -> None:
        """The store says what became of a commit. Here between two turns of `run`, so nothing may be raised.

        The next commit, if it is ready, is launched before the callers of this one are answered: they run while it is
        written.
        """
        if flight is not self._flight:
            return  # it was given up meanwhile
        try:
            if error is None:
                self._land(flight)
                draft = self._draft
                if draft and self._is_due(draft) and (not self._is_asked or draft.is_full(self._limits)):
                    self._launch(draft)
                if self.mailbox.is_waited_for:  # else `run` answers some in this very turn
                    self._owed.tell(_ANSWERS_MAX)
            elif isinstance(error, _TOLD) or not isinstance(error, Exception):
                flight.error = meaning_of(error)
            else:
                flight.wait_for(settle(self._store, flight.commit, error, self._patience), self._arrived)
        except BaseException as defect:  # noqa: BLE001 - `run` raises it
            self._defect = defect
        self.mailbox.wake()

    def _lost(self, flight: Flight, error: BaseException) -> None:
        """A commit failed: it is rolled back, or the writer stops."""
        self._flight = None
        if isinstance(error, CommitFailed | OutcomeUnknown):
            self._roll_back(flight, error)
            return
        if isinstance(error, Fenced | CommitsLost):
            self._fail(flight.draft, partial(type(error), error.log, error.commit, error.head))
        else:
            self._flight = flight
        raise error

    def _land(self, flight: Flight) -> None:
        """Durable, then visible, then acknowledged."""
        draft = flight.draft
        decoded = flight.decoded(self._read_body)
        self.head = decoded.head
        try:
            for follower in self._followers:
                follower.offer(decoded)
        finally:  # a follower that raises is a defect, and ends the writer; the commit stands, and its callers get that
            self._flight = None
            self._queue_outcomes(draft)
        self._has_said_who(self._term + 1)
        ready = len(self.mailbox.queue) + (0 if self._draft is None else len(self._draft.outcomes))
        seconds = (now := elapsed()) - flight.since
        self._gather.landed(len(draft.outcomes), ready, now, seconds)
        self.counts.committed(draft.accepted, seconds)
        self._tellers.committed(draft, decoded, seconds)

    def _has_said_who(self, term: int) -> None:
        """A commit that is durable says who writes in this term."""
        if self._is_new and term > self._term:
            self._is_new = False
            if self.state is not None:
                self.state.index.term = term

    def _queue_outcomes(self, draft: Draft) -> None:
        """The outcomes of the draft's callers stand."""
        self._owed.add(draft.promises, draft.outcomes)
        self.counts.told(draft)

    def _roll_back(self, flight: Flight, error: CommitFailed | OutcomeUnknown) -> None:
        """Fail what was not written, and all that was decided on top of it."""
        self._repair.failed(flight.commit, error, alone=not flight.draft.promises)
        number, problem = error.commit, error.problem
        failed = partial(type(error), number, problem)
        self._fail(flight.draft, failed, error.__cause__)
        if self._draft is not None:
            too = partial(CommitFailed, number + 1, f"the one before it failed: {problem}")
            self._fail(self._draft, too, error, before=failed)
            self._draft = None
        self._discard_state()
        if not isinstance(error, OutcomeUnknown):
            self._recede()

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
        self._owed.tell(len(self._owed))  # in the order in which commands were decided: some share a promise
        self.counts.failed += fail_draft(draft, self.head.number, error, cause, before)

    async def _rebuild(self) -> None:
        """The state from snapshots and log. If the store fails at that, those who wait are refused; if the log can't be
        believed, the writer stops.
        """
        try:
            rebuilt = await self._repair.attempt(self.head, self._slicer)
        except NotYet as error:
            if self._patience.is_over:
                await self._refuse_waiting(str(error), error.__cause__ or error)
            else:
                await anyio.sleep(self._patience.pause())
            return
        self.state = rebuilt.state
        self._timetable.follow(rebuilt.state.agenda)
        self._has_said_who(rebuilt.state.index.term)
        self._life.must(WriterEvent.REBUILT)
        if rebuilt.head.number > self.head.number:
            self.head = rebuilt.head
            for follower in self._followers:
                follower.resync(rebuilt.head)
        self._recede()

    def _recede(self) -> None:
        """What was sealed and is not durable never will be."""
        self._sealed = self.head
        for follower in self._followers:
            follower.recede(self.head)

    async def _refuse_waiting(self, reason: str, error: BaseException) -> None:
        self._observer.rebuild_failed(log=self._store.name, error=error)
        self.counts.failed += fail_queue(self.mailbox.queue, partial(WriterUnavailable, reason), error)
        self.mailbox.admit()
        if not self._closing:
            # Callers try again by themselves. One that has set a timer, which may be in what has failed, relies on us.
            seconds = self._patience.pause() if self._keeps_agenda else inf
            await self._wait(seconds)

    def fail_all(self, reason: Callable[[], MillstreamError]) -> None:
        """Stop, and answer everyone who is left: what is in flight may yet land, all else never happened."""
        self._life.on(WriterEvent.ENDED)
        self._timetable.disarm()
        self.mailbox.close(reason)
        self._owed.tell(len(self._owed))
        unknown: Callable[[], MillstreamError] | None = None
        if self._flight is not None:
            if self._flight.task is not None:
                self._flight.task.cancel()  # the store goes on with it, and is waited for when it is closed
            unknown = partial(OutcomeUnknown, self._flight.commit.number, "the writer stopped while it was written")
            self._fail(self._flight.draft, unknown)
        if self._draft is not None:
            self._fail(self._draft, reason, before=unknown)
        self._flight = self._draft = None
        fail_queue(self.mailbox.queue, reason)
