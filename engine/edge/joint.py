"""Several questions at one position, each of which passes the middleware by itself.

Here: waiting until all have passed it, and asking them together. Not here: one question, and the chain's order
(`edge`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from millstream.engine.application.messages import Answered, position_of
from millstream.engine.application.together import AsksTogether
from millstream.engine.edge.middleware import Ask, Asking, Middleware, chained
from millstream.engine.errors import DefinitionError

__all__ = ["Joint"]


class Joint:
    """One `ask_all` at the edge.

    Args:
        backend: answers in the end.
        middleware: in order.
    """

    def __init__(self, backend: AsksTogether, middleware: Sequence[Middleware]) -> None:
        self._backend = backend
        self._middleware = middleware
        #: What has come through the middleware, by its place.
        self._through: dict[int, Asking] = {}

    async def ask(self, wanted: Sequence[Asking]) -> Answered[tuple[Any, ...]]:
        """Ask all; used once.

        Args:
            wanted: the questions, as they came.

        Raises:
            as `Edge.answer_all`.
        """
        loop = asyncio.get_running_loop()
        all_through: asyncio.Future[None] = loop.create_future()
        promises: list[asyncio.Future[Answered[Any]]] = [loop.create_future() for _ in wanted]

        async def innermost(index: int, asked: Asking) -> Answered[Any]:
            self._through[index] = asked
            if len(self._through) == len(wanted) and not all_through.done():
                all_through.set_result(None)
            return await promises[index]

        async def one(index: int, asked: Asking) -> Any:
            async def last(changed: Asking) -> Answered[Any]:
                return await innermost(index, changed)

            ask: Ask = chained([each.ask for each in self._middleware], last)
            answered = await ask(asked)
            if index not in self._through:
                name = type(asked.query).__name__
                raise DefinitionError(f"{name} was answered by a middleware: it has no position with others", "Edge")
            return answered.answer

        if not wanted:
            return await self._backend.answer_all(())
        tasks = [loop.create_task(one(index, asked)) for index, asked in enumerate(wanted)]
        answers = asyncio.gather(*tasks)
        try:
            either: list[asyncio.Future[Any]] = [all_through, answers]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            position = await self._settle(promises) if all_through.done() else 0
            return Answered(tuple(await answers), position)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, promises: Sequence[asyncio.Future[Answered[Any]]]) -> int:
        """Ask together what came through, and tell each question its answer; returns the position of all."""
        asked = [self._through[index] for index in range(len(promises))]
        try:
            if any(each.at is not None for each in asked):
                raise DefinitionError("a middleware asks for another time, where several are asked together", "Edge")
            timeouts = [each.timeout for each in asked if each.timeout is not None]
            answered = await self._backend.answer_all(
                [each.query for each in asked],
                after=max(position_of(each.after) for each in asked) or None,
                timeout=min(timeouts, default=None),
                incomplete=all(each.incomplete for each in asked),
            )
        except Exception as error:  # noqa: BLE001 - each question gets it
            for promise in promises:
                if not promise.done():  # a middleware may have waited long enough
                    promise.set_exception(error)
                    promise.exception()  # as nothing may take it
            return 0
        for promise, answer in zip(promises, answered.answer, strict=True):
            if not promise.done():
                promise.set_result(Answered(answer, answered.position))
        return answered.position
