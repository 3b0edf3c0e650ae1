"""Several questions at one position, as the users of an application ask them.

Here: the typed call, the same in process and elsewhere. Not here: how views are brought to one position
(`engine.read.together`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar, overload

from millstream.engine.application.messages import Answered, Query, Token

__all__ = ["AsksTogether"]

Answer1 = TypeVar("Answer1")
Answer2 = TypeVar("Answer2")
Answer3 = TypeVar("Answer3")
Answer4 = TypeVar("Answer4")
Answer5 = TypeVar("Answer5")


class AsksTogether(Protocol):
    """A running application whose views can be asked together."""

    @overload
    async def ask_all(
        self,
        query1: Query[Answer1],
        /,
        *,
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Answer1]: ...
    @overload
    async def ask_all(
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
    async def ask_all(
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
    async def ask_all(
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
    async def ask_all(
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
    async def ask_all(
        self,
        *queries: Query[Any],
        after: Token | None = ...,
        timeout: float | None = ...,
        incomplete: bool = ...,
    ) -> tuple[Any, ...]: ...
    async def ask_all(
        self,
        *queries: Query[Any],
        after: Token | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> tuple[Any, ...]:
        """The answers to several questions, to one view or to several, all of them true at one position.

        Views move by themselves, and are a few commits apart while much is written. Those that are ahead wait for the
        others, for ``ask_all_ms_max`` at most; nothing else waits, and where they stand together nothing is awaited.

        Args:
            queries: the questions; the answers come in their order, typed for up to five.
            after: as `ask` takes it, and so are the others.
            timeout: seconds to wait for the views, in all.
            incomplete: whether incomplete answers will do.

        Raises:
            UnknownMessage: no view answers one of them.
            InvalidMessage: ``after`` is no token, a refusal without a position, or above the
                log's head. A replica can't know the head, and waits.
            NotYetVisible: a view did not get there in time, or not to where the others are within ``ask_all_ms_max``.
            ViewBehind: too many queries wait for a view.
            ViewFaulted: a view could not apply an event, and answers no more.
            ViewIncomplete: a view has left out events; the error holds its answer.
            AnswerFailed: a view raised while answering.
            EngineClosed: the engine is not open.
            WrongLoop: it was opened on another event loop.
        """
        answered = await self.answer_all(queries, after=after, timeout=timeout, incomplete=incomplete)
        return answered.answer

    async def answer_all(
        self,
        queries: Iterable[Query[Any]],
        *,
        after: Token | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[tuple[Any, ...]]:
        """The same, with the position at which they are true: a token for the next question.

        Args:
            queries: the questions; the answers come in their order.
            after: as `ask_all` takes it, and so are the others.
            timeout: seconds.
            incomplete: whether incomplete answers will do.

        Raises:
            as `ask_all`.
        """
        ...
