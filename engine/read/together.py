"""Several questions at one position: what `ask_all` does.

Here: bringing the views that are asked to one position, and asking them in one turn. Not here: one question
(`queries`), and what holds a view (`holds`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from millstream.engine.application.messages import Answered, Query, Token, position_of
from millstream.engine.application.together import AsksTogether
from millstream.engine.application.validation import checked_timeout
from millstream.engine.errors import NotYetVisible
from millstream.engine.loop.clock import elapsed
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.follow import Follows
from millstream.engine.read.state import ReadState
from millstream.engine.read.stored_actor import StoredActor

__all__ = ["Together"]


class Together(Follows, AsksTogether):
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

    async def answer_all(
        self,
        queries: Iterable[Query[Any]],
        *,
        after: Token | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answered[tuple[Any, ...]]:
        """The answers to several questions, with the position at which all are true.

        Args:
            queries: the questions; the answers come in their order.
            after: as `ask_all` takes it, and so are the others.
            timeout: seconds.
            incomplete: whether incomplete answers will do.

        Raises:
            as `ask_all`.
        """
        self._home.require()
        asked = [(*self._asked(query), query) for query in queries]
        views = list(dict.fromkeys(view for view, _, _ in asked))
        over = None if timeout is None else elapsed() + checked_timeout(timeout)
        await _meet(views, position_of(after), _left(over))
        with ExitStack() as held:
            if not _stand_together(views):
                most = self.limits.ask_all_ms_max / 1_000
                async with AsyncExitStack() as stills:
                    for view in views:
                        if isinstance(view, StoredActor):  # what it writes just now may go beyond what it shows
                            await stills.enter_async_context(view.still)
                    await _meet(views, 0, _left(over, most))  # and no await from here on: nothing is half applied
                    position = max(view.position for view in views)
                    for view in views:
                        held.enter_context(view.hold(position))
                await _meet(views, position, _left(over, most))
            stored = {
                index: await self._at_one_position(view, answer, query, incomplete)
                for index, (view, answer, query) in enumerate(asked)
                if isinstance(view, StoredActor)
            }
            answers = tuple(
                stored[index] if index in stored else self._answer(view, view.read, answer, query, incomplete)
                for index, (view, answer, query) in enumerate(asked)
            )
            return Answered(answers, views[0].position if views else max(0, position_of(after)))

    async def _at_one_position(
        self, view: StoredActor, answer: Callable[[Any, Any], Any], query: Query[Any], incomplete: bool
    ) -> Any:
        """What a view answers that is held, and whose state lies in a database."""
        position = view.position
        answered = await self._answer_stored(view, answer, query, incomplete)
        if answered.position != position:  # another process, whose database it is, too, does not wait
            raise NotYetVisible(view.name, answered.position, position, self.limits.ask_all_ms_max / 1_000)
        return answered.answer


def _left(over: float | None, most: float | None = None) -> float | None:
    """How many seconds there are until a moment, and so many at most."""
    left = None if over is None else max(0.0, over - elapsed())
    return left if most is None else most if left is None else min(left, most)


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
