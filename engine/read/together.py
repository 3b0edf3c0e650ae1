"""Several questions at one position: what `ask_all` is.

Here: bringing the views that are asked to one position, and asking them in one turn. Not here: one question
(`queries`), and what holds a view (`holds`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any, TypeVar, overload

from millstream.engine.application.messages import Answered, Query, Token, position_of
from millstream.engine.application.validation import checked_timeout
from millstream.engine.errors import NotYetVisible
from millstream.engine.loop.clock import elapsed
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.follow import Follows
from millstream.engine.read.state import ReadState
from millstream.engine.read.stored_actor import StoredActor

__all__ = ["Together"]

Answer1 = TypeVar("Answer1")
Answer2 = TypeVar("Answer2")
Answer3 = TypeVar("Answer3")
Answer4 = TypeVar("Answer4")
Answer5 = TypeVar("Answer5")


class Together(Follows):
    """A running application whose views can be asked together."""

    @abstractmethod
    def _asked(self, query: Query[Any]) -> tuple[ViewActor, Callable[[Any, Any], Any]]:
        """The view that answers a query, and the method that gives the answer itself.

        Raises:
            UnknownMessage: none does.
        """

    @abstractmethod
    def _answer(
        self,
        view: ViewActor,
        read: ReadState,
        answer: Callable[[Any, Any], Any],
        query: Query[Any],
        incomplete: bool,
    ) -> Any:
        """What a state of a view answers.

        Raises:
            ViewIncomplete: the state lacks events, and that will not do.
            AnswerFailed: the view raised.
        """

    @abstractmethod
    async def _answer_stored(
        self, view: StoredActor, answer: Callable[[Any, Any], Any], query: Query[Any], incomplete: bool
    ) -> Answered[Any]:
        """What a view answers whose state lies in a database; raises the same."""

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
        self._home.require()
        asked = [(*self._asked(query), query) for query in queries]
        views = list(dict.fromkeys(view for view, _, _ in asked))
        await _meet(views, position_of(after), None if timeout is None else checked_timeout(timeout))
        with ExitStack() as held:
            if not _stand_together(views):
                seconds = self.limits.ask_all_ms_max / 1_000
                async with AsyncExitStack() as stills:
                    for view in views:
                        if isinstance(view, StoredActor):  # what it writes just now may go beyond what it shows
                            await stills.enter_async_context(view.still)
                    await _meet(views, 0, seconds)  # and no await from here on: nothing is half applied
                    position = max(view.position for view in views)
                    for view in views:
                        held.enter_context(view.hold(position))
                await _meet(views, position, seconds)
            stored = {
                index: await self._at_one_position(view, answer, query, incomplete)
                for index, (view, answer, query) in enumerate(asked)
                if isinstance(view, StoredActor)
            }
            return tuple(
                stored[index] if index in stored else self._answer(view, view.read, answer, query, incomplete)
                for index, (view, answer, query) in enumerate(asked)
            )

    async def _at_one_position(
        self, view: StoredActor, answer: Callable[[Any, Any], Any], query: Query[Any], incomplete: bool
    ) -> Any:
        """What a view answers that is held, and whose state lies in a database."""
        position = view.position
        answered = await self._answer_stored(view, answer, query, incomplete)
        if answered.position != position:  # another process, whose database it is, too, does not wait
            raise NotYetVisible(view.name, answered.position, position, self.limits.ask_all_ms_max / 1_000)
        return answered.answer


async def _meet(views: Iterable[ViewActor], position: int, timeout: float | None) -> None:
    """Wait until all views are at a position, or further.

    Raises:
        MillstreamError: as `ViewActor.reach`.
    """
    over = None if timeout is None else elapsed() + timeout
    while behind := [view for view in views if not view.answers or view.position < position]:
        await behind[0].reach(position, None if over is None else max(0.0, over - elapsed()))


def _stand_together(views: Sequence[ViewActor]) -> bool:
    """Whether all may answer, at one position."""
    in_memory = not any(isinstance(view, StoredActor) for view in views)  # else it must be held while it is asked
    return in_memory and all(view.ready and view.position == views[0].position for view in views)
