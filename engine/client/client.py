"""The client: an application that runs elsewhere, with the types, the calls and the errors of an engine.

Here: from commands and queries to what is sent, and back. Not here: how it gets there (`link`).
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import CancelledError
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import msgspec
from msgspec import Raw

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
from millstream.engine.application.options import Options
from millstream.engine.application.row_changes import RowChanges, changes_reader
from millstream.engine.application.together import AsksTogether
from millstream.engine.application.validation import checked_command_ids, checked_metadata
from millstream.engine.client.agenda import ClientAgenda
from millstream.engine.client.calls import Call
from millstream.engine.client.decoding import Answers, RowsTold
from millstream.engine.client.executions import (
    as_asked,
    as_told,
    deadline_in,
    execution,
    json_of,
    mended,
    receipt_of,
)
from millstream.engine.client.following import following
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.link import Link
from millstream.engine.client.parcels import parcels_of
from millstream.engine.client.questions import question, questions
from millstream.engine.client.randomness import command_ids as new_command_ids
from millstream.engine.client.sending import Sending
from millstream.engine.client.subscriptions import Policy
from millstream.engine.errors import (
    AnswerUnreadable,
    ConnectionLost,
    DeadlineExceeded,
    MillstreamError,
    NotYetVisible,
    RemoteError,
)
from millstream.engine.observers import Observer, Observers
from millstream.engine.stats import EngineStats, Health, ReplicaStats
from millstream.engine.wire.address import Address
from millstream.engine.wire.errors import INTERNAL_ERROR

__all__ = ["Client"]

Answer = TypeVar("Answer")
Row = TypeVar("Row")
T = TypeVar("T")
E = TypeVar("E", bound=Event)


class Client(AsksTogether):
    """Uses an application that a server runs: ``async with Client("tcp://127.0.0.1:7411") as engine``.

    It is used as an `Engine` is: the same calls, the same types, the same errors, from as many tasks as there are. They
    share one connection, and none waits for another's answer. When the connection is lost it is made again, and
    what was sent is sent again where that is safe: what changes nothing, and commands with a ``command_id``, which the
    server executes once however often they come. A command without one whose answer was lost ends with
    ``ConnectionLost(sent=True)``, and so does one with an id that is out of time or attempts: it may have happened.

    Leaving the block waits for commands that were given to it, and closes the connection.

    Args:
        address: ``tcp://HOST:PORT``, ``tls://HOST:PORT`` or ``unix://PATH``. Or several, of the servers of one log, of
            which one writes: the client finds that one, and the next one after it. Where a server says that the writer
            is elsewhere, the client goes there.
        token: who calls, where the server wants to know.
        tls: for ``tls://``; see `client_tls`. By default the authorities of the system are trusted.
        name_commands: give each command without an id a unique one, so that all are safe to send again.
            The server keeps ids with the commands, and remembers as many as its ``receipts_max``.
        eager: connect on entering; otherwise with the first call, so that a server may start later.
        limits: the bounds. Without, where several addresses are given, ``quiet_seconds_max`` is 1.
        observers: are called when the connection is lost and there again, beside the log lines.

    Raises:
        DefinitionError: the address is none, or an observer is a class, or has a hook that is async or yields.
        ConnectionLost (on entering): no server is there. Only one attempt is made.
        NotAuthenticated (on entering): the server does not know the token.
    """

    def __init__(
        self,
        address: str | Address | Iterable[str | Address],
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        name_commands: bool = False,
        eager: bool = True,
        limits: ClientLimits | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        self.link = Link(address, token=token, tls=tls, eager=eager, limits=limits, observer=Observers(observers))
        #: What is owed, due later and parked there: to look at, to try again, to drop.
        self.agenda = ClientAgenda(self.link)
        self._names: Iterator[str] | None = new_command_ids() if name_commands else None
        self._answers = Answers()

    async def __aenter__(self) -> Self:
        await self.link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.link.__aexit__(kind, error, traceback)

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
        """Decide a command and make its events durable; see `Engine.execute`.

        Args:
            command: the command.
            command_id: the caller's own name for it. With one it may be sent again when the connection is lost, and
                happens once; the receipt then says ``repeated`` if an earlier attempt had arrived.
            expected_version: execute only if the command's key is at this version.
            metadata: is kept with it in the log.
            timeout: seconds for all of it, waiting for a connection included.
            wait: whether to wait for room when the server's mailbox is full.

        Raises:
            as `Engine.execute` does, and:
            AnswerUnreadable: also where the server answers what the command's class does not promise here.
            DeadlineExceeded: with ``decided`` false also where it was not sent in time; ``__cause__`` says why.
            ConnectionLost: the server is out of reach; ``sent`` tells whether the command may have happened.
            NotPermitted, NotAuthenticated: the token is for less than that, or there is none.
            NotLeader: the server does not write, and neither knows who does nor is there another address.
            ProtocolViolated: the command is longer than ``frame_bytes_max``.
            LimitReached: too many calls wait.
        """
        if command_id is None and self._names is not None:
            command_id = next(self._names)
        options, deadline = None, None
        asks = command_id is not None or expected_version is not None or metadata is not None or timeout is not None
        if asks or not wait:
            options, deadline = Options(command_id, expected_version, metadata, timeout, wait), deadline_in(timeout)
        promise, link = self.link.new_promise(), self.link
        call = execution(command, options, promise, deadline)
        try:
            if deadline is not None:
                return receipt_of(command, await link.outcome(call))
            link.send(call)
            return receipt_of(command, await promise)  # a coroutine less than `outcome`
        except CancelledError as error:
            call.note_cancelled(error)
            raise
        except DeadlineExceeded as error:
            raise as_told(error, command, call.deadline) from error.__cause__
        except AnswerUnreadable as error:
            raise mended(error) from error.__cause__
        except ConnectionLost as error:
            if error.sent and command_id is not None:
                error.add_note(f"millstream: it was sent under the command_id {command_id!r}")
            raise

    async def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt[Answer] | MillstreamError]:
        """Execute commands in order; one outcome for each, in the same order; see `Engine.execute_many`.

        They are sent many in one request, up to ``in_flight_max`` of them without waiting for their outcomes. Those of
        one request are answered together, and in doubt together when that answer is lost: they are sent again if each
        has an id.

        Args:
            commands: any number.
            command_ids: an id for each of them, as with `execute`; or none at all.
            metadata: is kept with each of them.
            timeout: seconds for all of them together.

        Returns:
            For each command its receipt, or the error that `execute` would have raised.

        Raises:
            InvalidMessage: metadata or timeout are not what they should be, there are more or fewer ids than
                commands, or None is one of them. Nothing is sent.
        """
        self.link.require_loop()
        todo = list(commands)
        if metadata is not None:
            metadata = checked_metadata(metadata)
        if command_ids is None and self._names is not None:
            command_ids = islice(self._names, len(todo))
        ids = checked_command_ids(command_ids, len(todo))
        if not todo:
            return []
        told: dict[int, Receipt[Any] | MillstreamError] = {}
        parcels = parcels_of(todo, ids, metadata, self.link.limits, told)
        return await Sending(self.link, todo, told, deadline_in(timeout)).all(parcels)

    # Asking questions.

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

        Args:
            query: the question.
            after: a receipt, a refusal, an earlier answer, or a position: wait until the view has applied it.
            at: yesterday's answer instead: as of a position, or of a time with a zone.
            timeout: seconds for all of it, waiting for a connection included.
            incomplete: take an answer, too, from a view that has parked or skipped events.

        Raises:
            UnknownMessage: no view answers this query.
            InvalidMessage: ``after`` is no token, a refusal without a position, or above the
                head of the server's log. A replica waits for it.
            NotYetVisible: the view did not get there in time; a write with a receipt stands all the same.
            ViewBehind, ViewFaulted, ViewIncomplete: the view can't answer now, not at all, or not with all events.
            AnswerFailed: the view raised while answering, or the answer is not what the query promises.
            DeadlineExceeded: it was not sent in time, or not answered; ``__cause__`` says why.
            ConnectionLost: the server is out of reach.
            NotAuthenticated: the server wants a token.
            ProtocolViolated: the query is longer than ``frame_bytes_max``.
            LimitReached: too many calls wait.
            EngineClosed: the client, or what the server serves, is closed.
        """
        call = question(query, self.link.new_promise(), after, at, timeout, incomplete)
        try:
            answered = self._answers.read(query, await self._outcome(call))
        except MillstreamError as error:
            raise self._mended(query, call, error) from error.__cause__
        return cast("Answer", answered.answer)

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
                head of the server's log. A replica waits for it.
            NotYetVisible: the view did not get there in time; a write with a receipt stands all the same.
            ViewBehind, ViewFaulted, ViewIncomplete: the view can't answer now, not at all, or not with all events.
            AnswerFailed: the view raised while answering, or the answer is not what the query promises.
            DeadlineExceeded: it was not sent in time, or not answered; ``__cause__`` says why.
            ConnectionLost: the server is out of reach.
            NotAuthenticated: the server wants a token.
            ProtocolViolated: the query is longer than ``frame_bytes_max``.
            LimitReached: too many calls wait.
            EngineClosed: the client, or what the server serves, is closed.
        """
        call = question(query, self.link.new_promise(), after, at, timeout, incomplete)
        try:
            return cast("Answered[Answer]", self._answers.read(query, await self._outcome(call)))
        except MillstreamError as error:
            raise self._mended(query, call, error) from error.__cause__

    async def answer_all(
        self,
        queries: Iterable[Query[Any]],
        *,
        after: Token | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[tuple[Any, ...]]:
        """The answers to several questions, with the position at which all are true; see `Engine.answer_all`.

        Args:
            queries: the questions, in one request: as many as the server's ``turn_requests_max``.
            after: as `ask` takes it, and so are the others.
            timeout: seconds.
            incomplete: whether incomplete answers will do.

        Raises:
            as `ask`, and:
            NotYetVisible: also where the views did not meet within the server's ``ask_all_ms_max``.
            ProtocolViolated: also where the server answers fewer at once.
        """
        todo = tuple(queries)
        if not todo:
            deadline_in(timeout)
            return Answered((), max(0, position_of(after)))
        call = questions(todo, self.link.new_promise(), after, timeout, incomplete)
        try:
            return self._answers.read_all(todo, await self._outcome(call))
        except MillstreamError as error:
            raise self._mended(self._meant(todo, error), call, error) from error.__cause__

    def _meant(self, queries: Sequence[Query[Any]], error: MillstreamError) -> Query[Any]:
        """The question that an error is about, where it says which."""
        name = getattr(error, "query", None)
        return next((query for query in queries if type(query).__name__ == name), queries[0])

    def _outcome(self, call: Call) -> Awaitable[Raw]:
        """What is to be waited for: the promise itself where there is no deadline, which saves a coroutine."""
        if call.deadline is not None:
            return self.link.outcome(call)
        self.link.send(call)
        return cast("asyncio.Future[Raw]", call.promise)

    def _mended(self, query: Query[Any], call: Call, error: MillstreamError) -> MillstreamError:
        """The error of a question as its caller is to see it."""
        if isinstance(error, NotYetVisible):
            return as_asked(error, call.deadline)
        self._answers.mend(query, error)
        return error

    @asynccontextmanager
    async def watch(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        every: bool = False,
        incomplete: bool = False,
    ) -> AsyncGenerator[AsyncIterator[Answered[Answer]], None]:
        """The answer now, then each changed one; see `Engine.watch`.

        When the connection is lost the watch goes on with the next one, from the position of its last answer. A watch
        of every answer can't do that without a gap, and ends.

        Args:
            query: the question.
            after: begin with an answer that reflects this token.
            every: get every change. Up to the client's ``watch_answers_max`` of them wait, besides the server's.
            incomplete: take answers, too, from a view that has parked or skipped events.

        Raises (on entering, or while iterating):
            as `Engine.watch` does, and:
            ConnectionLost: the server is out of reach; or ``every`` change was wanted, and the connection was lost.
            LimitReached: the connection, or the server, has as many watches as it may.
            NotAuthenticated: the server wants a token.
        """
        params: dict[str, Any] = {"query": Raw(json_of(query)), "every": every, "incomplete": incomplete}
        policy = Policy.EVERY if every else Policy.NEWEST
        try:
            subscription = await self.link.subscribe(
                "watch", params, after=max(0, position_of(after)), policy=policy, name=type(query).__name__
            )
        except MillstreamError as error:
            self._answers.mend(query, error)
            raise
        try:
            yield self._answers.follow(query, subscription)
        finally:
            subscription.close()

    @asynccontextmanager
    async def watch_rows(
        self,
        query: Query[list[Row]] | Query[tuple[Row, ...]],
        *,
        key: str | None = None,
        after: Token | None = None,
        incomplete: bool = False,
    ) -> AsyncGenerator[AsyncIterator[RowChanges[Row]], None]:
        """All rows of an answer now, then what has changed; see `Engine.watch_rows`.

        When the connection is lost, or changes are taken too slowly, the next one has all rows again, and is ``whole``.

        Args:
            query: the question.
            key: the field that tells rows apart; by default that of the table which answers there.
            after: begin with an answer that reflects this token.
            incomplete: take answers, too, from a view that has parked or skipped events.

        Raises (on entering, or while iterating):
            as `Engine.watch_rows` does, and:
            AnswerFailed: also where rows are not what the query promises here.
            ConnectionLost: the server is out of reach.
            LimitReached: the connection, or the server, has as many watches as it may.
            NotAuthenticated: the server wants a token.
        """
        read = changes_reader(type(query))
        params: dict[str, Any] = {
            "query": Raw(json_of(query)),
            "rows": True if key is None else key,
            "incomplete": incomplete,
        }
        name, position = type(query).__name__, max(0, position_of(after))
        subscription = await self.link.subscribe("watch", params, after=position, policy=Policy.STREAM, name=name)
        try:
            yield RowsTold(query, subscription, read)
        finally:
            subscription.close()

    def follow(self, *, types: Iterable[type[E]], after: Token = 0, keys: Iterable[str] | None = None) -> Following[E]:
        """What happened after a position, and then what happens there: ``async for happened in client.follow(…)``.

        As `Engine.follow`, over lost connections and restarts of the server: it goes on where it was.

        Args:
            types: the classes of the events, as the application there has them today.
            after: a position, or a token. 0 is the beginning.
            keys: only events with one of these keys.

        Raises (at once):
            InvalidMessage: ``after`` is no token, ``types`` has none or what is no event, or a key is no text.

        Raises (while it is taken from):
            UnknownMessage: one of ``types`` is no event of the application there.
            InvalidMessage: ``after`` is above the head of the log there.
            LimitReached: the connection, or the server, is followed by as many as it may.
            RemoteError: what came is not what the classes say; or the log there can't be read on.
            ConnectionLost: the server is out of reach.
            NotAuthenticated: the server wants a token.
            EngineClosed: the client is closed.
            WrongLoop: it was opened on another event loop.
        """
        return following(self.link, after, types, keys)

    # How it is doing.

    async def health(self) -> Health:
        """Whether what it leads to is alive and of use, as `Engine.health` says there.

        Raises:
            ConnectionLost: the server is out of reach.
            EngineClosed: the client is closed.
            WrongLoop: it was opened on another event loop.
            RemoteError: what came back is no such answer.
        """
        return _read(await self.link.call("health"), Health)

    async def stats(self) -> EngineStats | ReplicaStats:
        """The figures of what it leads to, as `Engine.stats` or `Replica.stats` says them there.

        Raises:
            NotAuthenticated, NotPermitted: the server wants a token, or one of another role.
            and what `health` raises.
        """
        told = await self.link.call("stats")
        if "writer" in _read(told, dict[str, Raw]):
            return _read(told, EngineStats)
        return _read(told, ReplicaStats)


def _read(told: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(told, type=kind)
    except msgspec.DecodeError as error:
        raise RemoteError(INTERNAL_ERROR, f"what came back is no {kind.__name__}: {error}") from error
