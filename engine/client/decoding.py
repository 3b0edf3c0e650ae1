"""Answers from JSON to what their queries promise, and back into the errors that hold one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from millstream.engine.application.messages import Answered, Query
from millstream.engine.application.methods import answer_type
from millstream.engine.client.subscriptions import Subscription
from millstream.engine.errors import AnswerFailed, DefinitionError, MillstreamError, ViewIncomplete

__all__ = ["Answers"]


class Answers:
    """Reads answers; what each class of queries promises is found out once."""

    def __init__(self) -> None:
        self._readers: dict[type[Query[Any]], Callable[[bytes | Raw], Any]] = {}

    def read(self, query: Query[Any], result: Raw) -> Answered[Any]:
        """What `ask` gave.

        Raises:
            AnswerFailed: it is not what the query promises.
        """
        try:
            return self._reader(query)(result)  # type: ignore[no-any-return]
        except msgspec.DecodeError as error:
            raise _failed(query, f"its answer is not what the query promises: {error}") from error

    def mend(self, query: Query[Any], error: MillstreamError) -> None:
        """Give an error that holds an answer the one that the query promises; as it came, if it is not that."""
        if isinstance(error, ViewIncomplete):
            with suppress(msgspec.ValidationError, TypeError, DefinitionError):
                error.answer = msgspec.convert(error.answer, answer_type(type(query)), str_keys=True)

    async def follow(self, query: Query[Any], subscription: Subscription) -> AsyncGenerator[Answered[Any], None]:
        """The answers of a watch; none equal to the one before it, as the first one after a resumption may be."""
        given = b""
        try:
            while True:
                told = await subscription.next()
                content = bytes(told.content)
                if content == given:
                    continue
                answered = self._answered(query, content, told.position)
                # A set may be written in another order, by a server that was started again.
                if len(content) != len(given) or answered != self._answered(query, given, told.position):
                    given = content
                    yield answered
        except MillstreamError as error:
            self.mend(query, error)
            raise

    def _answered(self, query: Query[Any], content: bytes, position: int) -> Answered[Any]:
        return self.read(query, Raw(b'{"answer":%b,"position":%d}' % (content, position)))

    def _reader(self, query: Query[Any]) -> Callable[[bytes | Raw], Any]:
        kind = type(query)
        found = self._readers.get(kind)
        if found is None:
            try:
                found = msgspec.json.Decoder(Answered[answer_type(kind)]).decode  # type: ignore[misc]
            except Exception as error:
                raise _failed(query, f"JSON can't hold what the query promises: {error}") from error
            self._readers[kind] = found
        return found


def _failed(query: Query[Any], problem: str) -> AnswerFailed:
    name = type(query).__name__
    return AnswerFailed(f"that answers {name}", name, problem)
