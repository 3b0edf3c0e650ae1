"""What becomes of `ask`, `ask_all`, `watch`, `unwatch` and `follow`.

Here: answers at once where they are there, later where they are not, and streams of them. Not here: what changes
something (`commands`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from functools import partial
from typing import Any, TypeVar

import anyio

from millstream.engine.application.happened import Following
from millstream.engine.application.messages import Answered, Query
from millstream.engine.application.validation import at_in, encode
from millstream.engine.errors import (
    AnswerFailed,
    EngineClosed,
    InvalidMessage,
    LimitReached,
    MillstreamError,
    ProtocolViolated,
    UnknownMessage,
)
from millstream.engine.loop.clock import elapsed
from millstream.engine.read.row_watches import RowWatch
from millstream.engine.read.watches import Watch
from millstream.engine.server.asked import Asked
from millstream.engine.server.backend import Backend, not_yet
from millstream.engine.server.caller import calling_as
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.output import Batch
from millstream.engine.server.peer import Peer
from millstream.engine.server.shares import Shares
from millstream.engine.stores.events import event_pages
from millstream.engine.wire.errors import INVALID_PARAMS
from millstream.engine.wire.messages import AnsweredAll, Watching, answer_line, ended_line, events_line, rows_line

__all__ = ["NUMBER_BYTES", "Queries"]

T = TypeVar("T")

#: Events in one notification of `follow`; and how many may be left out before a notification says so.
_FOLLOW_EVENTS_MAX = 500
_FOLLOW_SILENT_EVENTS_MAX = 1_000
_INT_MAX = 2**63 - 1
#: A longer text is written by itself, so that its bytes are counted.
_SMALL_CHARS = 256
#: What a reply with a number has, at most, its id not counted.
NUMBER_BYTES = 128


class Queries:
    """The handlers of all methods that ask an application something.

    Args:
        backend: who answers.
        limits: the server's.
    """

    def __init__(self, backend: Backend, limits: ServerLimits) -> None:
        self._backend = backend
        self._limits = limits
        self._asked = Asked(limits)
        self._follows = Shares("follows_max", limits.follows_max)
        engine = backend.limits  # which counts for itself, too, as not all that it is asked comes through sockets
        self._watches = Shares("watches_max", engine.watches_max, says_full=False)
        #: Of questions that wait, by the place of their view in the application.
        self._waiting = [
            Shares("view_waiters_max", engine.view_waiters_max, says_full=False) for _ in backend.app.views
        ]

    def ask(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """An answer, and the position at which it is true."""
        params = request.params
        found = None
        if params.at is None:
            found = self._backend.answer_now(params.query, params.after, params.incomplete)
        if found is not None:
            if _is_small(found[0]) and (batch is None or self._is_room_in(batch, found[0])):
                connection.confirm(request.id, Answered(*found), batch, NUMBER_BYTES)
            else:
                self._reply(connection, request, batch, Answered(*found))
        else:
            self._later(connection, request, batch, params.query, (params.query,), partial(self._answer, params))

    def ask_all(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """Several answers, and the position at which all are true.

        Raises:
            ProtocolViolated: they are more than may be answered in one turn.
        """
        params, most = request.params, self._limits.turn_requests_max
        if len(params.queries) > most:
            most_said = f"at most turn_requests_max={most:,} queries in one request"
            raise ProtocolViolated(INVALID_PARAMS, f"params of 'ask_all': {most_said}, not {len(params.queries):,}")
        self._later(connection, request, batch, params.queries, params.queries, partial(self._answer_all, params))

    def watch(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """The answer now and each changed one, as notifications."""
        self._stream(self._watches, connection, partial(self._watch, connection, request, batch))

    def unwatch(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """No more of them: what `watch` or `follow` began ends before this is answered, if it has not already."""
        connection.end_stream(request.params.watch)
        connection.confirm(request.id, Watching(request.params.watch), batch)

    def follow(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """The log's events from a position on, and then each new one, as notifications."""
        params = request.params
        self._backend.require_position(params.after)
        pages = self._understood(params) if params.today else self._stored(params)
        most = self._limits.connection_follows_max
        if self._follows.of(connection) >= most:
            raise LimitReached("connection_follows_max", most)
        self._stream(self._follows, connection, partial(self._follow, pages, connection, request, batch))

    def _stream(self, shares: Shares, connection: Peer, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        shares.take(connection)
        try:
            task = connection.stream(work)
        except MillstreamError:
            shares.give_back(connection)
            raise
        task.add_done_callback(lambda _: shares.give_back(connection))

    def _is_room_in(self, batch: Batch, answer: Any) -> bool:
        """Whether an answer surely finds room in a batch, without a look at its bytes."""
        return type(answer) is not str and batch.size_bytes + NUMBER_BYTES <= self._limits.output_bytes_max

    def _waiting_for(self, query: Query[Any]) -> Shares:
        return self._waiting[self._backend.app.queries[type(query)].view]

    # Answers.

    def _later(
        self,
        connection: Peer,
        request: Any,
        batch: Batch | None,
        asked: Any,
        queries: Iterable[Query[Any]],
        answer: Callable[[float], Awaitable[Answered[Any]]],
    ) -> None:
        """Answer in a task.

        Args:
            connection: which one asks.
            request: its request.
            batch: the batch that it is in.
            asked: what is held until it is answered.
            queries: the same, one by one.
            answer: answers it, and waits for so many seconds at most.

        Raises:
            LimitReached: as many as may wait for a view wait for it.
        """
        with ExitStack() as taken:
            for waiting in {id(each): each for each in map(self._waiting_for, queries)}.values():
                taken.enter_context(waiting.holding(connection))
            task = connection.spawn(self._answer_later(connection, request, batch, asked, answer))
            connection.in_flight += 1
            connection.questions += 1
            held = taken.pop_all()
            task.add_done_callback(lambda _: held.close())

    async def _answer_later(
        self,
        connection: Peer,
        request: Any,
        batch: Batch | None,
        asked: Any,
        answer: Callable[[float], Awaitable[Answered[Any]]],
    ) -> None:
        """Answer once the view is there and the other side takes it: an answer that waits to be sent would only age."""
        try:
            with self._asked.holding(connection, asked), calling_as(connection.role):
                answered = await self._waited_for(connection, request.params, answer)
            self._reply(connection, request, batch, answered)
        except Exception as error:  # noqa: BLE001 - sent to the caller
            connection.fail(request.id, error, batch)
        connection.questions -= 1
        connection.settled()

    async def _answer(self, params: Any, timeout: float) -> Answered[Any]:
        return await self._backend.answer(
            params.query,
            after=params.after or None,
            at=at_in(params.at) if isinstance(params.at, str) else params.at,
            timeout=timeout,
            incomplete=params.incomplete,
        )

    async def _answer_all(self, params: Any, timeout: float) -> Answered[Any]:
        return await self._backend.answer_all(
            params.queries, after=params.after or None, timeout=timeout, incomplete=params.incomplete
        )

    async def _waited_for(
        self, connection: Peer, params: Any, answer: Callable[[float], Awaitable[Answered[Any]]]
    ) -> Answered[Any]:
        limit = self._limits.answer_seconds_max
        seconds = limit if params.timeout is None else min(params.timeout, limit)
        until = elapsed() + seconds
        with anyio.CancelScope() as scope, _among(connection.waits, scope):
            while True:
                await connection.writable()
                answered = await answer(max(0.0, until - elapsed()))
                if connection.has_room:
                    return answered
        raise not_yet(self._backend, _first(params), params.after, self._limits.ended_seconds_max)

    def _reply(self, connection: Peer, request: Any, batch: Batch | None, answered: Answered[Any]) -> None:
        result: Any = answered
        several = getattr(request.params, "queries", None)
        if several is not None:
            result = AnsweredAll(answered.answer, answered.position)
        try:
            connection.reply(request.id, result, batch)
        except MillstreamError:
            raise
        except Exception as error:
            query = type(_unwritten(several, answered.answer) if several is not None else request.params.query)
            view = self._backend.app.views[self._backend.app.queries[query].view]
            problem = f"its answer can't be written as JSON: {error}"
            raise AnswerFailed(view.__name__, query.__name__, problem) from error

    # Streams.

    async def _watch(self, connection: Peer, request: Any, batch: Batch | None, number: int) -> None:
        try:
            with self._asked.holding(connection, request.params.query):
                await self._watch_on(connection, request, batch, number)
        except LimitReached as error:
            connection.fail(request.id, error, batch)

    async def _watch_on(self, connection: Peer, request: Any, batch: Batch | None, number: int) -> None:
        try:
            with self._waiting_for(request.params.query).holding(connection), calling_as(connection.role):
                watch = await self._open(request.params)
        except asyncio.CancelledError:
            connection.fail(request.id, EngineClosed("closing"), batch)
            raise
        except Exception as error:  # noqa: BLE001 - sent to the caller
            connection.fail(request.id, error, batch)
            return
        try:
            connection.confirm(request.id, Watching(number), batch)
            line = answer_line if request.params.rows is False else rows_line
            while True:
                await connection.writable()
                answer, position = await watch.next()
                connection.notify(number, line(number, answer, position))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - sent to the watcher
            _tell(connection, "watch", number, error)
        finally:
            watch.close()

    async def _open(self, params: Any) -> Watch | RowWatch:
        seconds = self._limits.answer_seconds_max
        if params.rows is not False and params.every:
            raise InvalidMessage("watch", "`rows` tell what has changed since the last ones: there is no `every`")
        with anyio.move_on_after(seconds):
            if params.rows is not False:
                key = params.rows if isinstance(params.rows, str) else None
                return await self._backend.open_row_watch(
                    params.query, key=key, after=params.after, incomplete=params.incomplete
                )
            return await self._backend.open_watch(
                params.query, after=params.after, every=params.every, incomplete=params.incomplete
            )
        raise not_yet(self._backend, params.query, params.after, seconds)

    async def _follow(
        self,
        pages: AsyncGenerator[tuple[Sequence[Any], int], None],
        connection: Peer,
        request: Any,
        batch: Batch | None,
        number: int,
    ) -> None:
        connection.confirm(request.id, Watching(number), batch)
        try:
            async with aclosing(pages):
                async for events, position in pages:
                    await connection.writable()
                    connection.notify(number, events_line(number, events, position))
            raise EngineClosed("closed")
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - sent to the follower
            _tell(connection, "follow", number, error)

    async def _stored(self, params: Any) -> AsyncGenerator[tuple[Sequence[Any], int], None]:
        """The events as they are stored, some at a time, and the position of the last one."""
        log = self._backend.log
        pages = event_pages(log, after=params.after, keys=params.keys, tags=params.types, endless=True)
        async with aclosing(pages):
            async for events in pages:
                for some in _apart(events, lambda each: each.position):
                    yield some, some[-1].position

    def _understood(self, params: Any) -> AsyncGenerator[tuple[Sequence[Any], int], None]:
        """The same as they are understood today, and how far they go: said now and then, where all are left out.

        Raises:
            UnknownMessage: one of the types is none of the application's events.
        """
        by_tag = {entry.tag: event for event, entry in self._backend.app.events.items()}
        unknown = sorted(set(params.types or ()) - by_tag.keys())
        if unknown:
            raise UnknownMessage("event", unknown[0], self._backend.app.name, tuple(by_tag))
        types = [by_tag[tag] for tag in (by_tag if params.types is None else params.types)]
        return self._parts_of(self._backend.follow(after=params.after, types=types, keys=params.keys))

    async def _parts_of(self, following: Following[Any]) -> AsyncGenerator[tuple[Sequence[Any], int], None]:
        told = following.position
        try:
            async for page in following.pages():
                *parts, last = _apart(page.happened, lambda each: each.about.position) or [()]
                for some in parts:
                    yield some, some[-1].about.position
                if last or page.position - told >= _FOLLOW_SILENT_EVENTS_MAX:
                    yield last, (told := page.position)
        finally:
            await following.aclose()


def _apart(events: Sequence[T], position: Callable[[T], int]) -> list[Sequence[T]]:
    """Events in parts of some. Those that have one position are in one part: a follower goes on behind them."""
    parts, start = [], 0
    while start < len(events):
        end = start + _FOLLOW_EVENTS_MAX
        while end < len(events) and position(events[end]) == position(events[end - 1]):
            end += 1
        parts.append(events[start:end])
        start = end
    return parts


def _first(params: Any) -> Query[Any]:
    """The question of an `ask`, or the first of an `ask_all`."""
    query: Query[Any] = params.query if hasattr(params, "query") else params.queries[0]
    return query


def _unwritten(queries: Sequence[Query[Any]], answers: Sequence[Any]) -> Query[Any]:
    """The first question whose answer can't be written as JSON."""
    for query, answer in zip(queries, answers, strict=True):
        try:
            encode(answer)
        except Exception:  # noqa: BLE001 - what it is was raised already, when all were written
            return query
    return queries[-1]


def _is_small(answer: Any) -> bool:
    """Whether an answer is short, and surely written as JSON: it is written with all that go out together."""
    kind = type(answer)
    if kind is int:
        return bool(-_INT_MAX <= answer <= _INT_MAX)
    if kind is str:
        return len(answer) <= _SMALL_CHARS and answer.isascii()
    return answer is None or kind is bool or kind is float


@contextmanager
def _among(waits: set[anyio.CancelScope], scope: anyio.CancelScope) -> Iterator[None]:
    waits.add(scope)
    try:
        yield
    finally:
        waits.discard(scope)


def _tell(connection: Peer, method: str, number: int, error: BaseException) -> None:
    """Say why a stream ends, except to a caller that ended it."""
    if isinstance(error, asyncio.CancelledError):
        if connection.reason is None:
            return
        error = EngineClosed("closing")
    connection.server.failed(error)
    connection.notify(number, ended_line(method, number, error))
