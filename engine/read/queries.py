"""What an `Engine` and a `Replica` have in common: views that answer, at once, later, or again and again.

Here: from a query to the view that answers it. Not here: how views move (`actor`), and how watches are kept
(`watches`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, wraps
from threading import get_ident
from typing import Any, Self, TypeVar, cast

import msgspec
from msgspec.structs import replace

from millstream.engine.application.app import App
from millstream.engine.application.copies import own_event, with_own_answer
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Answered, At, Query, Token, position_of
from millstream.engine.application.methods import answer_type
from millstream.engine.application.purity import fingerprint
from millstream.engine.application.row_changes import RowChanges, changes_reader, default_of, row_key
from millstream.engine.application.validation import checked_timeout, reader
from millstream.engine.errors import (
    AnswerFailed,
    DefinitionError,
    ImpureHandler,
    InvalidMessage,
    MillstreamError,
    NotKept,
    UnknownMessage,
    WatchesFull,
)
from millstream.engine.errors.said import said_by
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import Clock, elapsed
from millstream.engine.loop.home import Home
from millstream.engine.observers import Fault
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.parked import Parked
from millstream.engine.read.past import PastStates
from millstream.engine.read.row_watches import RowWatch
from millstream.engine.read.state import ReadState
from millstream.engine.read.stored_actor import StoredActor
from millstream.engine.read.together import Together
from millstream.engine.read.watches import Question, Watch
from millstream.engine.stats import RebuildStats, ViewStats

__all__ = ["Queries"]

Answer = TypeVar("Answer")
Row = TypeVar("Row")


class Queries(Together):
    """The read side of a running application. A class with this base has a `log` and a clock.

    Args:
        app: the application.
        limits: the bounds.
        views: the actor of each of its views, in its order.
        home: the loop that it is opened on.
        check_purity: look at a view's state before and after each answer.
    """

    _clock: Clock

    def __init__(
        self, app: App, limits: Limits, views: Sequence[ViewActor], home: Home, *, check_purity: bool = False
    ) -> None:
        super().__init__(app, limits, home)
        self._views = views
        self._past = PastStates(app, limits, lambda: self.log, lambda: self._clock())
        #: By query, who answers it, and how: for those who get the answer as JSON.
        self._as_json: dict[type[Query[Any]], tuple[ViewActor, Callable[[Any, Any], Any]]] = {}
        #: The same for those who get the answer itself: what can change is a copy.
        self._answers: dict[type[Query[Any]], tuple[ViewActor, Callable[[Any, Any], Any]]] = {}
        for query, entry in app.queries.items():
            view, answer = views[entry.view], entry.method.function
            if isinstance(view, StoredActor):  # what comes out of a database is the caller's own
                self._as_json[query] = self._answers[query] = view, answer
                continue
            own_answer = with_own_answer(answer, _promised(query))
            self._as_json[query] = view, _purity_checked(view, answer) if check_purity else answer
            self._answers[query] = view, _purity_checked(view, own_answer) if check_purity else own_answer

    async def ask(
        self,
        query: Query[Answer],
        # By name, as to a `Gateway`. CPython looks for the default of each keyword-only one in a dict: 13 % of it all.
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answer:
        """The answer of the view that answers such queries, from memory.

        The answer reflects whole commits only, at least up to ``after``. What can change in it is the caller's own
        copy. When the view is there already, nothing is awaited and no other task runs.

        Args:
            query: the question.
            after: a receipt, a refusal, an earlier answer, or a position: wait until the view has applied it.
            at: yesterday's answer instead: what today's code says of the events up to a position, with all of the
                commit that holds that one, or up to a time. The state is made from the log, which takes as long as that
                is, and ``past_states_max`` are kept for callers that ask again.
            timeout: seconds to wait for that.
            incomplete: take an answer, too, from a view that has parked or skipped events.

        Raises:
            UnknownMessage: no view answers this query.
            InvalidMessage: ``after`` is no token, a refusal without a position, or above the
                log's head. A replica can't know the head, and waits. ``at`` is before the log, in the future, or a time
                without a zone; or both are given.
            NotYetVisible: the view did not get there in time; a write with a receipt stands all the same. What was made
                of an earlier state is there for the next caller.
            ViewBehind: too many queries wait for this view.
            ViewFaulted: the view could not apply an event, and answers no more.
            ViewIncomplete: the view has left out events; the error holds its answer.
            AnswerFailed: the view raised while answering.
            EngineClosed: the engine is not open.
            WrongLoop: it was opened on another event loop.
        """
        if get_ident() != self._home.thread:
            self._home.require()  # and another loop of the same thread waits for nothing: all is still meanwhile
        view, answer = self._answers.get(type(query)) or self._unknown(query)
        if after is not None or at is not None or not view.ready:
            if at is not None:
                return cast("Answer", (await self._answer_at(query, after, at, timeout, incomplete)).answer)
            position = position_of(after)
            if not view.ready or view.position < position:
                self._home.require()
                await view.reach(position, timeout)
                if isinstance(view, StoredActor):  # which is never `ready`
                    return cast("Answer", (await self._answer_stored(view, answer, query, incomplete)).answer)
        read = view.read
        try:  # as `_answer` does, a call less: 10 % of a question
            answered: Answer = answer(read.state, query)
        except BaseException as error:
            raise _failed(view, answer, query, error) from error
        if read.is_incomplete and not incomplete:
            raise read.incomplete(query, answered)
        return answered

    async def answer(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[Answer]:
        """The same with the position at which the answer is true, which is a token for the next question.

        Args:
            query: the question.
            after: as `ask` takes it, and so are the others.
            at: a position or a time.
            timeout: seconds.
            incomplete: whether an incomplete answer will do.

        Raises:
            UnknownMessage: no view answers this query.
            InvalidMessage: ``after`` is no token, a refusal without a position, or above the
                log's head. A replica can't know the head, and waits.
            NotYetVisible: the view did not get there in time; a write with a receipt stands all the same.
            ViewBehind: too many queries wait for this view.
            ViewFaulted: the view could not apply an event, and answers no more.
            ViewIncomplete: the view has left out events; the error holds its answer.
            AnswerFailed: the view raised while answering.
            EngineClosed: the engine is not open.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        if at is not None:
            return await self._answer_at(query, after, at, timeout, incomplete)
        view, answer = self._asked(query)
        if not view.ready or view.position < position_of(after):
            await view.reach(position_of(after), timeout)
        if isinstance(view, StoredActor):
            return await self._answer_stored(view, answer, query, incomplete)
        return Answered(self._answer(view, view.read, answer, query, incomplete), view.position)

    def answer_now(self, query: Query[Any], after: int, incomplete: bool) -> tuple[Any, int] | None:
        """An answer and its position, if nothing has to be waited for; else None, and `answer` waits.

        Raises:
            UnknownMessage: no view answers this query.
            ViewFaulted: the view could not apply an event, and answers no more.
            ViewIncomplete: the view has left out events; the error holds its answer.
            AnswerFailed: the view raised while answering.
            EngineClosed: the engine is not open.
        """
        view, answer = self._as_json.get(type(query)) or self._unknown(query)
        if not view.ready or view.position < after:
            return None
        return self._answer(view, view.read, answer, query, incomplete), view.position

    @asynccontextmanager
    async def watch(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        every: bool = False,
        incomplete: bool = False,
    ) -> AsyncGenerator[AsyncIterator[Answered[Answer]], None]:
        """The answer now, then each changed one: ``async with engine.watch(query) as answers: async for … in answers``.

        Each answer is that of whole commits, differs from the one before it, and is not older. It is the watcher's
        own copy. The iteration has no end but an error: ``anext`` may be cancelled, or timed out, and asked again.

        Args:
            query: the question.
            after: begin with an answer that reflects this token: to go on where an earlier watch ended.
            every: get every change, instead of only the newest answer when several came since the last one that was
                taken. Up to ``watch_answers_max`` of them wait.
            incomplete: take answers, too, from a view that has parked or skipped events.

        Raises (on entering, or while iterating):
            UnknownMessage: no view answers this query.
            InvalidMessage: ``after`` is no token, a refusal without a position, or above the
                log's head. A replica can't know the head, and waits.
            WatchesFull: ``watches_max`` watches are open.
            WatchOverrun: ``every`` change was wanted, and more than wait may came; all up to then were given.
            ViewBehind: too many queries wait for this view.
            ViewFaulted: the view could not apply an event, and answers no more.
            ViewIncomplete: the view has left out events; the error holds its answer.
            AnswerFailed: the view raised while answering, or its answer is not what JSON or the query can hold.
            EngineClosed: the engine is not open, or was closed.
            WrongLoop: it was opened on another event loop.
        """
        watch = await self.open_watch(query, after=position_of(after), every=every, incomplete=incomplete)
        try:
            yield _Told(watch.next, lambda data, position: Answered(watch.decode(data), position), self._home)
        finally:
            watch.close()

    async def open_watch(
        self, query: Query[Any], *, after: int = 0, every: bool = False, incomplete: bool = False
    ) -> Watch:
        """A watch whose answers come as JSON; it is to be closed.

        Raises:
            UnknownMessage: no view answers this query.
            InvalidMessage: ``after`` is no token, or above the log's head. A replica can't know the head, and waits.
            WatchesFull: ``watches_max`` watches are open.
            ViewBehind: too many queries wait for this view.
            ViewFaulted: the view could not apply an event, and answers no more.
            EngineClosed: the engine is not open.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        view, answer = self._as_json.get(type(query)) or self._unknown(query)
        self._require_room()
        question = Question(query, answer, self._decoder(view, type(query)))
        await view.reach(after, None)
        self._require_room()
        if isinstance(view, StoredActor):
            return await view.watches.open(question, every=every, incomplete=incomplete)
        return view.watches.join(question, every=every, incomplete=incomplete)

    @asynccontextmanager
    async def watch_rows(
        self,
        query: Query[list[Row]] | Query[tuple[Row, ...]],
        *,
        key: str | None = None,
        after: Token | None = None,
        incomplete: bool = False,
    ) -> AsyncGenerator[AsyncIterator[RowChanges[Row]], None]:
        """All rows now, then those that have changed: ``async with engine.watch_rows(query) as changes: async for …``.

        For a query whose answer is a list of rows, as that of a `TableView` may be. Each change has the rows that are
        new or other, and the keys of those that are gone, since the one before it; a slow watcher gets
        several in one. The order of rows is not part of it.

        Args:
            query: the question.
            key: the field that tells rows apart; by default that of the table which answers.
            after: begin with an answer that reflects this token.
            incomplete: take answers, too, from a view that has parked or skipped events.

        Raises (on entering, or while iterating):
            InvalidMessage: the answer is no list of rows, or they have no such field; ``after`` as for `watch`.
            AnswerFailed: the view raised, or two rows have one key.
            UnknownMessage: no view answers this query.
            WatchesFull: ``watches_max`` watches are open.
            ViewBehind: too many queries wait for this view.
            ViewFaulted: the view could not apply an event, and answers no more.
            ViewIncomplete: the view has left out events; the error holds its answer.
            EngineClosed: the engine is not open, or was closed.
            WrongLoop: it was opened on another event loop.
        """
        read = self._changes_reader(query)
        watch = await self.open_row_watch(query, key=key, after=position_of(after), incomplete=incomplete)
        try:
            yield _Told(watch.next, read, self._home)
        finally:
            watch.close()

    async def open_row_watch(
        self, query: Query[Any], *, key: str | None = None, after: int = 0, incomplete: bool = False
    ) -> RowWatch:
        """A watch of rows whose changes come as JSON; it is to be closed.

        Raises:
            InvalidMessage: the answer is no list of rows, or they have no such field; ``after`` as for `open_watch`.
            MillstreamError: as `open_watch`.
        """
        self._home.require()
        view, _ = self._as_json.get(type(query)) or self._unknown(query)
        field = row_key(type(query), getattr(view.read.state, "__row_key__", None) if key is None else key)
        watch = await self.open_watch(query, after=after, incomplete=incomplete)
        return RowWatch(watch, field.encode_name, default_of(type(query), field))

    def require_loop(self) -> None:
        """See that this is used on the loop that it was opened on, if it is open.

        Raises:
            WrongLoop: it is not.
        """
        self._home.require()

    def parked(self) -> list[Parked]:
        """The events that views have parked, view by view, in order; see `View.poison`. They are the caller's own."""
        there = (each for view in self._views for each in view.read.left_out)
        parked = [replace(each, event=own_event(each.event)) for each in there]
        return sorted(parked, key=lambda each: (each.view, each.position))

    # Inside.

    @property
    def _states(self) -> list[ReadState]:
        """The states of all views that are in memory."""
        return [view.read for view in self._views if not isinstance(view, StoredActor)]

    def _asked(self, query: Query[Any]) -> tuple[ViewActor, Callable[[Any, Any], Any]]:
        return self._answers.get(type(query)) or self._unknown(query)

    def _answer(
        self,
        view: ViewActor,
        read: ReadState,
        answer: Callable[[Any, Any], Any],
        query: Query[Any],
        incomplete: bool,
    ) -> Any:
        try:
            answered = answer(read.state, query)
        except BaseException as error:
            raise _failed(view, answer, query, error) from error
        if read.is_incomplete and not incomplete:
            raise read.incomplete(query, answered)
        return answered

    async def _answer_stored(
        self, view: StoredActor, answer: Callable[[Any, Any], Any], query: Query[Any], incomplete: bool
    ) -> Answered[Any]:
        try:
            answered, position = await view.ask(answer, query)
        except Exception as error:
            raise _failed(view, answer, query, error) from error
        if view.read.is_incomplete and not incomplete:
            raise view.read.incomplete(query, answered)
        return Answered(answered, position)

    async def _answer_at(
        self, query: Query[Any], after: Token | None, at: At, timeout: float | None, incomplete: bool
    ) -> Answered[Any]:
        """What an earlier state of a view answers."""
        self._home.require()
        view, answer = self._asked(query)
        if isinstance(view, StoredActor):
            raise NotKept(view.name, "earlier state", "ask a view in memory, or keep the past in its tables")
        if after is not None:
            raise InvalidMessage("at", "an answer is `at` a position or `after` one, not both")
        seconds = None if timeout is None else checked_timeout(timeout)
        async with self._while_open():
            read = await self._past.state(self._views.index(view), at, seconds)
            return Answered(self._answer(view, read, answer, query, incomplete), read.head.position)

    def _unknown(self, query: Query[Any]) -> tuple[ViewActor, Callable[[Any, Any], Any]]:
        known = tuple(entry.tag for entry in self.app.queries.values())
        raise UnknownMessage("query", type(query).__name__, self.app.name, known)

    def _decoder(self, view: ViewActor, query: type[Query[Any]]) -> Callable[[bytes], Any]:
        try:
            return _reader_of(query)
        except Exception as error:
            problem = f"JSON can't hold what the query promises: {error}"
            raise AnswerFailed(view.name, query.__name__, problem) from error

    def _changes_reader(self, query: Query[Any]) -> Callable[[bytes, int], RowChanges[Any]]:
        read, (view, _) = changes_reader(type(query)), self._asked(query)

        def checked(data: bytes, position: int) -> RowChanges[Any]:
            try:
                return read(data, position)
            except msgspec.DecodeError as error:
                problem = f"its rows are not what the query promises: {error}"
                raise AnswerFailed(view.name, type(query).__name__, problem) from error

        return checked

    def _require_room(self) -> None:
        watches, watches_max = sum(view.watches.count for view in self._views), self.limits.watches_max
        if watches >= watches_max:
            raise WatchesFull(watches, watches_max)

    def _view_stats(self) -> dict[str, ViewStats]:
        return {
            view.name: ViewStats(
                view.status,
                view.position,
                view.lag,
                view.queued,
                view.detached,
                view.read.left_out.count,
                view.read.left_out.skipped,
                view.watches.count,
                None if view.rebuilding is None else _progress(*view.rebuilding, view.position),
            )
            for view in self._views
        }


@lru_cache(maxsize=1_024)
def _reader_of(query: type[Query[Any]]) -> Callable[[bytes], Any]:
    return reader(answer_type(query))


def _progress(made: ReadState, started: float, position: int) -> RebuildStats:
    events, seconds = made.head.position, elapsed() - started
    rate = events / seconds if seconds else 0.0
    left = max(0, position - events) / rate if rate else None
    return RebuildStats(events, max(position, events), round(rate), None if left is None else round(left, 1))


class _Told:
    """What a watch gives. No generator, which would be over when a task that waits for the next one is cancelled."""

    def __init__(
        self, take: Callable[[], Awaitable[tuple[bytes, int]]], read: Callable[[bytes, int], Any], home: Home
    ) -> None:
        self._take = take
        self._read = read
        self._home = home

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        self._home.require()
        return self._read(*await self._take())


def _failed(
    view: ViewActor, answer: Callable[[Any, Any], Any], query: Query[Any], error: BaseException
) -> AnswerFailed:
    """What the caller gets when answering failed with ``error``.

    Raises:
        MillstreamError, KeyboardInterrupt, SystemExit: ``error`` itself, if it is one.
    """
    if isinstance(error, (MillstreamError, *INTERRUPTS)):
        raise error
    view.faults.tell(Fault(f"{view.name}.{getattr(answer, '__name__', 'answer')}", type(query).__name__, error))
    return AnswerFailed(view.name, type(query).__name__, said_by(error))


def _promised(query: type[Query[Any]]) -> Any:
    """What a query promises; anything, if it does not say, and its view is of another base than `View`."""
    try:
        return answer_type(query)
    except DefinitionError:
        return Any


def _purity_checked(view: ViewActor, answer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The answering method, with a look at the view's state before and after it."""

    @wraps(answer)
    def checked(state: Any, query: Query[Any]) -> Any:
        before = fingerprint(state)
        try:
            return answer(state, query)
        finally:
            if fingerprint(state) != before:
                error = ImpureHandler(f"{view.name}.{answer.__name__}", type(query).__name__)
                view.fault(error)
                raise error

    return checked
