"""The client for scripts: the same calls without ``await``, from any thread."""

from __future__ import annotations

import atexit
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload
from warnings import warn
from weakref import WeakSet

from anyio.from_thread import BlockingPortal, start_blocking_portal

from millstream.engine.application.agenda import PAGE_ENTRIES, AgendaItem, AgendaPage, EntryKind, Verdict
from millstream.engine.application.messages import Answered, At, Command, Metadata, Query, Receipt, Token
from millstream.engine.application.row_changes import RowChanges
from millstream.engine.client.agenda import ClientAgenda
from millstream.engine.client.client import Client
from millstream.engine.client.limits import ClientLimits
from millstream.engine.errors import EngineClosed, MillstreamError
from millstream.engine.stats import EngineStats, Health, ReplicaStats
from millstream.engine.wire.address import Address

__all__ = ["SyncAgenda", "SyncClient"]

Answer = TypeVar("Answer")
Answer1 = TypeVar("Answer1")
Answer2 = TypeVar("Answer2")
Answer3 = TypeVar("Answer3")
Answer4 = TypeVar("Answer4")
Answer5 = TypeVar("Answer5")
Result = TypeVar("Result")
Row = TypeVar("Row")


class SyncClient:
    """`Client` for programs without an event loop: ``with SyncClient("tcp://127.0.0.1:7411") as engine``.

    It runs a loop of its own in a thread of its own, and may be used from several threads at once.

    Args:
        address: as `Client` takes it, and so are the others.
        token: who calls.
        tls: for ``tls://``.
        name_commands: give each command an id.
        eager: connect on entering.
        limits: the bounds.

    Raises:
        as `Client` does.
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
    ) -> None:
        self._client = Client(address, token=token, tls=tls, name_commands=name_commands, eager=eager, limits=limits)
        #: What is owed, due later and parked there; see `Client.agenda`.
        self.agenda = SyncAgenda(self._client.agenda, self._run)
        self._portal: BlockingPortal | None = None
        self._open = ExitStack()
        self._state = "not open yet"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="millstream-client"))
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            self._open, self._portal = stack.pop_all(), portal
        _open.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _open.discard(self)
        self._portal, self._state = None, "closed"
        self._open.__exit__(kind, error, traceback)

    def execute(
        self,
        command: Command[Answer],
        *,
        command_id: str | None = None,
        expected_version: int | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> Receipt[Answer]:
        """Decide a command and make its events durable; see `Client.execute`."""
        return self._run(
            partial(
                self._client.execute,
                command,
                command_id=command_id,
                expected_version=expected_version,
                metadata=metadata,
                timeout=timeout,
                wait=wait,
            )
        )

    def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt[Answer] | MillstreamError]:
        """Execute commands in order; one outcome for each, in the same order; see `Client.execute_many`."""
        todo, ids = (
            list(commands),
            command_ids if command_ids is None or isinstance(command_ids, str) else list(command_ids),
        )
        return self._run(partial(self._client.execute_many, todo, command_ids=ids, metadata=metadata, timeout=timeout))

    def ask(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answer:
        """The answer of the view that answers such queries; see `Client.ask`."""
        return self.answer(query, after=after, at=at, timeout=timeout, incomplete=incomplete).answer

    def answer(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[Answer]:
        """The same, with the position at which it is true; see `Client.answer`."""
        return self._run(
            partial(self._client.answer, query, after=after, at=at, timeout=timeout, incomplete=incomplete)
        )

    @overload
    def ask_all(
        self,
        query1: Query[Answer1],
        /,
        *,
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Answer1]: ...
    @overload
    def ask_all(
        self,
        query1: Query[Answer1],
        query2: Query[Answer2],
        /,
        *,
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Answer1, Answer2]: ...
    @overload
    def ask_all(
        self,
        query1: Query[Answer1],
        query2: Query[Answer2],
        query3: Query[Answer3],
        /,
        *,
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Answer1, Answer2, Answer3]: ...
    @overload
    def ask_all(
        self,
        query1: Query[Answer1],
        query2: Query[Answer2],
        query3: Query[Answer3],
        query4: Query[Answer4],
        /,
        *,
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Answer1, Answer2, Answer3, Answer4]: ...
    @overload
    def ask_all(
        self,
        query1: Query[Answer1],
        query2: Query[Answer2],
        query3: Query[Answer3],
        query4: Query[Answer4],
        query5: Query[Answer5],
        /,
        *,
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Answer1, Answer2, Answer3, Answer4, Answer5]: ...
    @overload
    def ask_all(
        self,
        *queries: Query[Any],
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Any, ...]: ...
    def ask_all(
        self,
        *queries: Query[Any],
        after: Token | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> tuple[Any, ...]:
        """The answers to several questions, all true at one position; see `Client.ask_all`."""
        return self.answer_all(queries, after=after, timeout=timeout, incomplete=incomplete).answer

    def answer_all(
        self,
        queries: Iterable[Query[Any]],
        *,
        after: Token | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[tuple[Any, ...]]:
        """The same, with the position at which they are true; see `Client.answer_all`."""
        asked = partial(self._client.answer_all, list(queries), after=after, timeout=timeout, incomplete=incomplete)
        return self._run(asked)

    @contextmanager
    def watch(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        every: bool = False,
        incomplete: bool = False,
    ) -> Generator[Iterator[Answered[Answer]], None, None]:
        """The answer now, then each changed one, as they come; see `Client.watch`."""
        watched = self._client.watch(query, after=after, every=every, incomplete=incomplete)
        with self._running.wrap_async_context_manager(watched) as answers:
            yield self._each(answers)

    @contextmanager
    def watch_rows(
        self,
        query: Query[list[Row]] | Query[tuple[Row, ...]],
        *,
        key: str | None = None,
        after: Token | None = None,
        incomplete: bool = False,
    ) -> Generator[Iterator[RowChanges[Row]], None, None]:
        """All rows of an answer now, then those that have changed, as they come; see `Client.watch_rows`."""
        watched = self._client.watch_rows(query, key=key, after=after, incomplete=incomplete)
        with self._running.wrap_async_context_manager(watched) as changes:
            yield self._each(changes)

    def _each(self, answers: AsyncIterator[Result]) -> Iterator[Result]:
        while True:
            yield self._run(partial(_next, answers))

    def _run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Let the loop do it, and wait; an interrupt meanwhile cancels it."""
        future = self._running.start_task_soon(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def _running(self) -> BlockingPortal:
        if self._portal is None:
            raise EngineClosed(self._state)
        return self._portal

    def health(self) -> Health:
        """Whether what it leads to is alive and of use; see `Client.health`."""
        return self._run(self._client.health)

    def stats(self) -> EngineStats | ReplicaStats:
        """The figures of what it leads to; see `Client.stats`."""
        return self._run(self._client.stats)


class SyncAgenda:
    """`Client.agenda` for programs without an event loop. Each call raises what it raises there.

    Args:
        agenda: the client's.
        run: lets its loop do something, and waits.
    """

    def __init__(self, agenda: ClientAgenda, run: Callable[[Callable[[], Awaitable[Any]]], Any]) -> None:
        self._agenda = agenda
        self._run = run

    def page(
        self,
        *,
        kind: EntryKind | None = None,
        parked: bool | None = None,
        after: str | None = None,
        entry: str | None = None,
        limit: int = PAGE_ENTRIES,
    ) -> AgendaPage:
        """Some of its entries; see `ClientAgenda.page`."""
        asked = partial(self._agenda.page, kind=kind, parked=parked, after=after, entry=entry, limit=limit)
        return cast(AgendaPage, self._run(asked))

    def entries(self, *, kind: EntryKind | None = None, parked: bool | None = None) -> list[AgendaItem]:
        """All entries; see `ClientAgenda.entries`."""
        return cast("list[AgendaItem]", self._run(partial(self._agenda.entries, kind=kind, parked=parked)))

    def find(self, entry: str) -> AgendaItem:
        """One entry; see `ClientAgenda.find`."""
        return cast(AgendaItem, self._run(partial(self._agenda.find, entry)))

    def settle(self, entry: str, verdict: Verdict, *, again: bool = False) -> Receipt:
        """Let something become of an entry; see `ClientAgenda.settle`."""
        return cast(Receipt, self._run(partial(self._agenda.settle, entry, verdict, again=again)))

    def retry(self, entry: str, *, again: bool = False) -> bool:
        """Let what is parked be decided once more; see `ClientAgenda.retry`."""
        return bool(self._run(partial(self._agenda.retry, entry, again=again)))

    def fire_now(self, entry: str) -> bool:
        """Send the command of a timer before its time; see `ClientAgenda.fire_now`."""
        return bool(self._run(partial(self._agenda.fire_now, entry)))

    def drop(self, entry: str) -> None:
        """Strike an entry; see `ClientAgenda.drop`."""
        self._run(partial(self._agenda.drop, entry))


async def _next(answers: AsyncIterator[Result]) -> Result:
    return await anext(answers)


@atexit.register
def _exiting() -> None:
    """Close what is open while its thread still runs: a later close would wait for that thread without end."""
    for client in list(_open):
        problem = f"the client of {client._client.link.name} was never closed: use it inside 'with'"
        warn(problem, ResourceWarning, stacklevel=1, source=client)
        client.__exit__(None, None, None)


_open: WeakSet[SyncClient] = WeakSet()
