"""The way to an application: one protocol, whether it runs here (`Engine`), elsewhere (`Client`), or both (`Replica`).

Code that is written for a `Gateway` does not notice which it has: the same calls, the same types, the same errors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from millstream.engine.application.agenda import PAGE_ENTRIES, AgendaPage, EntryKind, Verdict
from millstream.engine.application.happened import Following
from millstream.engine.application.messages import Answered, At, Command, Event, Metadata, Query, Receipt, Token
from millstream.engine.application.row_changes import RowChanges
from millstream.engine.application.together import AsksTogether
from millstream.engine.errors import MillstreamError

__all__ = ["AgendaGateway", "Gateway"]

Answer = TypeVar("Answer")
Row = TypeVar("Row")
E = TypeVar("E", bound=Event)


class AgendaGateway(Protocol):
    """What an application owes and has parked, wherever it runs. `Engine.agenda` says what each call promises."""

    async def page(
        self,
        *,
        kind: EntryKind | None = None,
        parked: bool | None = None,
        after: str | None = None,
        entry: str | None = None,
        limit: int = PAGE_ENTRIES,
    ) -> AgendaPage:
        """Some of its entries."""
        ...

    async def settle(self, entry: str, verdict: Verdict, *, again: bool = False) -> Receipt:
        """Let something become of one."""
        ...


class Gateway(AsksTogether, Protocol):
    """What can be done with an application, wherever it runs. `Engine` says what each call promises, and its errors.

    Where the application runs elsewhere there is one more error: `ConnectionLost`, which says whether what was sent may
    have happened.
    """

    @property
    def agenda(self) -> AgendaGateway:
        """What is owed, due later and parked."""
        ...

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
        """Decide a command and make its events durable."""
        ...

    async def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[Receipt[Answer] | MillstreamError]:
        """Execute commands in order; one outcome for each, in the same order."""
        ...

    async def ask(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answer:
        """The answer of the view that answers such queries."""
        ...

    async def answer(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        at: At | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[Answer]:
        """The same, with the position at which it is true: a token for the next question."""
        ...

    def watch(
        self,
        query: Query[Answer],
        *,
        after: Token | None = None,
        every: bool = False,
        incomplete: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Answered[Answer]]]:
        """The answer now, then each changed one."""
        ...

    def watch_rows(
        self,
        query: Query[list[Row]] | Query[tuple[Row, ...]],
        *,
        key: str | None = None,
        after: Token | None = None,
        incomplete: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[RowChanges[Row]]]:
        """All rows of an answer now, then those that have changed."""
        ...

    def follow(self, *, types: Iterable[type[E]], after: Token = 0, keys: Iterable[str] | None = None) -> Following[E]:
        """What happened after a position, and then what happens: events of these classes, and what is known about each.

        Where the application runs here, ``types`` may be left out: all of them, then.
        """
        ...
