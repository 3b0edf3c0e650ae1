"""The edge of a running application: an engine or a replica with middleware around what callers ask for.

Here: the chain, and everything that passes it by. Not here: what a middleware is (`middleware`).

    passes the middleware                                 passes it by
    ---------------------                                 ------------
    `execute`, each command of an `execute_many`          what reactions, timers and outcomes of effects send
    `ask`, `answer`, each question of an `ask_all`        `follow`, the agenda, `stats`, `health`: roles are for these

A server is given the edge instead of the engine, and so is a `WebApp`: the chain is the same wherever a caller is. The
engine itself knows nothing of it, so an application without middleware pays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

from millstream.engine.application.app import App
from millstream.engine.application.happened import Following
from millstream.engine.application.messages import (
    Answered,
    At,
    Command,
    Event,
    Metadata,
    Query,
    Receipt,
    Token,
    position_of,
)
from millstream.engine.application.row_changes import RowChanges
from millstream.engine.application.together import AsksTogether
from millstream.engine.application.validation import checked_command_ids, checked_timeout
from millstream.engine.edge.middleware import Ask, Asking, Execute, Executing, Middleware, chained
from millstream.engine.errors import DefinitionError, MillstreamError
from millstream.engine.gateway import AgendaGateway
from millstream.engine.health import health_of
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.observers import Observer
from millstream.engine.read.row_watches import RowWatch
from millstream.engine.read.watches import Watch
from millstream.engine.server.backend import Backend, BackendStats
from millstream.engine.server.caller import role_of_caller
from millstream.engine.stats import Health
from millstream.engine.stores.port import Log

__all__ = ["Edge"]

Answer = TypeVar("Answer")
Row = TypeVar("Row")
E = TypeVar("E", bound=Event)

#: How many commands of one `execute_many` are under way at most.
_AT_ONCE = 1_000


class Edge(AsksTogether):
    """An engine or a replica with middleware around it: ``edge = Edge(engine, [Tenants(), Quotas()])``.

    It has the calls of a `Gateway`, and is what `Server` and `WebApp` are given in the engine's place. The first
    middleware is the outermost one. What it is put around stays the caller's to open and close.

    Args:
        backend: an open `Engine` or `Replica`.
        middleware: instances, in order.

    Raises:
        DefinitionError: one is a class, or no `Middleware`.
    """

    def __init__(self, backend: Backend, middleware: Iterable[Middleware]) -> None:
        self._backend = backend
        self._middleware = tuple(middleware)
        for each in self._middleware:
            if not isinstance(each, Middleware):
                raise DefinitionError(f"a middleware is an instance of Middleware, not {each!r:.80}", "Edge")
        self._run: Execute = chained([each.execute for each in self._middleware], self._execute)
        self._ask: Ask = chained([each.ask for each in self._middleware], self._answer)

    # What passes the middleware.

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
        """Decide a command and make its events durable; see `Engine.execute`.

        Raises:
            as `Engine.execute`, and what a middleware raises.
        """
        role = role_of_caller()
        return await self._run(Executing(command, command_id, expected_version, metadata, timeout, wait, role))

    async def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt[Answer] | MillstreamError]:
        """Execute commands in order; see `Engine.execute_many`. Each passes the middleware by itself.

        The next one begins when the one before it was handed to the engine, or was refused.

        Raises:
            InvalidMessage: there are more or fewer ids than commands, or the timeout is no number.
        """
        todo, role = list(commands), role_of_caller()
        ids = checked_command_ids(command_ids, len(todo))
        until = None if timeout is None else elapsed() + checked_timeout(timeout)
        tasks: list[asyncio.Task[Receipt[Any]]] = []
        try:
            for index, command in enumerate(todo):
                handed = asyncio.Event()
                asked = Executing(command, ids[index], None, metadata, _left(until), True, role)
                task = asyncio.get_running_loop().create_task(self._one(asked, handed))
                tasks.append(task)
                task.add_done_callback(lambda _, handed=handed: handed.set())  # type: ignore[misc]
                await handed.wait()
                if index >= _AT_ONCE:
                    await asyncio.wait([tasks[index - _AT_ONCE]])
            return [_outcome(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise

    async def ask(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answer:
        """The answer of the view that answers such queries; see `Engine.ask`.

        Raises:
            as `Engine.ask`, and what a middleware raises.
        """
        answered = await self.answer(query, after=after, at=at, timeout=timeout, incomplete=incomplete)
        return answered.answer

    async def answer(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[Answer]:
        """The same, with the position at which it is true; see `Engine.answer`.

        Raises:
            as `Engine.answer`, and what a middleware raises.
        """
        return await self._ask(Asking(query, after, at, timeout, incomplete, role_of_caller()))

    async def answer_all(
        self,
        queries: Iterable[Query[Any]],
        *,
        after: Token | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[tuple[Any, ...]]:
        """The answers to several questions, with the position at which all are true; see `Engine.answer_all`.

        Each question passes the middleware by itself, one after another, and is answered there: with
        ``asked.is_joint``. What the middleware made of them is then asked together. So all are answered twice.

        Raises:
            as `Engine.answer_all`, and what a middleware raises.
            DefinitionError: a middleware has changed an answer.
        """
        until = None if timeout is None else elapsed() + checked_timeout(timeout)
        let_through: list[Asking] = []
        for query in queries:
            asked = Asking(query, after, None, _left(until), incomplete, role_of_caller(), is_joint=True)
            let_through.append(await self._admitted(asked))
        return await self._backend.answer_all(
            [each.query for each in let_through],
            after=max((position_of(each.after) for each in let_through), default=position_of(after)),
            timeout=_left(until),
            incomplete=bool(let_through) and all(each.incomplete for each in let_through),
        )

    @asynccontextmanager
    async def watch(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        every: bool = False,
        incomplete: bool = False,
    ) -> AsyncGenerator[AsyncIterator[Answered[Answer]], None]:
        """The answer now, then each changed one; see `Engine.watch`. The middleware is passed when it begins.

        Raises (on entering, or while iterating):
            as `Engine.watch`, and what a middleware raises.
        """
        asked = await self._admitted(_watching(query, after, incomplete))
        watch = self._backend.watch(asked.query, after=asked.after, every=every, incomplete=asked.incomplete)
        async with watch as answers:
            yield answers

    @asynccontextmanager
    async def watch_rows(
        self,
        query: Query[list[Row]] | Query[tuple[Row, ...]],
        *,
        key: str | None = None,
        after: Token | None = None,
        incomplete: bool = False,
    ) -> AsyncGenerator[AsyncIterator[RowChanges[Row]], None]:
        """All rows now, then those that have changed; see `Engine.watch_rows`, and `watch`.

        Raises (on entering, or while iterating):
            as `Engine.watch_rows`, and what a middleware raises.
        """
        asked = await self._admitted(_watching(query, after, incomplete))
        watch = self._backend.watch_rows(asked.query, key=key, after=asked.after, incomplete=asked.incomplete)
        async with watch as changes:
            yield changes

    async def open_watch(
        self, query: Query[Any], *, after: int = 0, every: bool = False, incomplete: bool = False
    ) -> Watch:
        """A watch whose answers come as JSON; see `watch`."""
        asked = await self._admitted(_watching(query, after, incomplete))
        return await self._backend.open_watch(asked.query, after=after, every=every, incomplete=asked.incomplete)

    async def open_row_watch(
        self, query: Query[Any], *, key: str | None = None, after: int = 0, incomplete: bool = False
    ) -> RowWatch:
        """A watch of rows whose changes come as JSON; see `watch_rows`."""
        asked = await self._admitted(_watching(query, after, incomplete))
        return await self._backend.open_row_watch(asked.query, key=key, after=after, incomplete=asked.incomplete)

    # What passes it by.

    def follow(self, *, types: Iterable[type[E]], after: Token = 0, keys: Iterable[str] | None = None) -> Following[E]:
        """What happened after a position, and then what happens; see `Engine.follow`."""
        return self._backend.follow(types=types, after=after, keys=keys)

    @property
    def agenda(self) -> AgendaGateway:
        """What is owed, due later and parked."""
        return self._backend.agenda

    @property
    def within(self) -> Backend:
        """What it is put around."""
        return self._backend

    @property
    def app(self) -> App:
        """What it runs."""
        return self._backend.app

    @property
    def limits(self) -> Limits:
        """Its bounds."""
        return self._backend.limits

    @property
    def log(self) -> Log:
        """Where `follow` reads."""
        return self._backend.log

    @property
    def observers(self) -> Observer:
        """The observers of the engine, and of its server."""
        return self._backend.observers

    @property
    def status(self) -> str:
        """``open``, or what it is instead."""
        return self._backend.status

    @property
    def role(self) -> Literal["writer", "replica"]:
        """Whether it decides commands, or passes them on."""
        return self._backend.role

    @property
    def admission(self) -> None:
        """None: commands come by `execute`."""
        return

    @property
    def not_ready(self) -> list[str]:
        """What keeps it from deciding commands, in words."""
        return self._backend.not_ready

    @property
    def position(self) -> int:
        """The last event that it knows to be durable."""
        return self._backend.position

    def require_position(self, after: int) -> None:
        """Refuse a position that the log has not come to, where that is known."""
        self._backend.require_position(after)

    def require_loop(self) -> None:
        """Refuse to be used on another event loop than it was opened on."""
        self._backend.require_loop()

    def stats(self) -> BackendStats:
        """Figures of this moment."""
        return self._backend.stats()

    def health(self) -> Health:
        """Whether it is alive and of use now; see `Engine.health`."""
        return health_of(self._backend)

    def answer_now(self, query: Query[Any], after: int, incomplete: bool) -> None:
        """None: a middleware may wait."""
        return

    # Inside.

    async def _execute(self, asked: Executing) -> Receipt[Any]:
        if (handed := _handed.get()) is not None:
            handed.set()
        return await self._backend.execute(
            asked.command,
            command_id=asked.command_id,
            expected_version=asked.expected_version,
            metadata=asked.metadata,
            timeout=asked.timeout,
            wait=asked.wait,
        )

    async def _one(self, asked: Executing, handed: asyncio.Event) -> Receipt[Any]:
        _handed.set(handed)  # of this task's own context
        return await self._run(asked)

    async def _answer(self, asked: Asking) -> Answered[Any]:
        return await self._backend.answer(
            asked.query, after=asked.after, at=asked.at, timeout=asked.timeout, incomplete=asked.incomplete
        )

    async def _admitted(self, wanted: Asking) -> Asking:
        """What is asked when a watch begins, or with others, as the middleware lets it through.

        Raises:
            DefinitionError: a middleware has changed the answer.
        """
        let_through: list[tuple[Asking, Answered[Any]]] = []

        async def innermost(asked: Asking) -> Answered[Any]:
            let_through.append((asked, await self._answer(asked)))
            return let_through[-1][1]

        ask: Ask = chained([each.ask for each in self._middleware], innermost)
        given = await ask(wanted)
        if not let_through or given is not let_through[-1][1] or let_through[-1][0].at is not None:
            names = [type(each).__name__ for each in self._middleware]
            what, other, by = ("a watch of ", "later ones", "is_watch") if wanted.is_watch else ("", "that", "is_joint")
            name = type(wanted.query).__name__
            problem = f"the answer of {what}{name} was changed, and {other} would not be: refuse it, by asked.{by}"
            raise DefinitionError(problem, *names)
        return let_through[-1][0]


_handed: ContextVar[asyncio.Event | None] = ContextVar("millstream_handed", default=None)


def _watching(query: Query[Any], after: Token | None, incomplete: bool) -> Asking:
    return Asking(query, after, None, None, incomplete, role_of_caller(), is_watch=True)


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - elapsed())


def _outcome(found: Receipt[Any] | BaseException) -> Receipt[Any] | MillstreamError:
    if isinstance(found, BaseException) and not isinstance(found, MillstreamError):
        raise found
    return found
