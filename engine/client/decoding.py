"""Answers from JSON to what their queries promise, and back into the errors that hold one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import msgspec
from msgspec import Raw

from millstream.engine.application.messages import Answered, Query
from millstream.engine.application.methods import answer_type
from millstream.engine.application.row_changes import RowChanges
from millstream.engine.client.subscriptions import Subscription
from millstream.engine.errors import AnswerFailed, DefinitionError, MillstreamError, RemoteError, ViewIncomplete
from millstream.engine.wire.errors import INTERNAL_ERROR
from millstream.engine.wire.messages import AnsweredAll

__all__ = ["Answers", "RowsTold"]

_read_all = msgspec.json.Decoder(AnsweredAll[list[Raw]]).decode


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
            return (self._readers.get(type(query)) or self._reader(query))(result)  # type: ignore[no-any-return]
        except msgspec.DecodeError as error:
            raise _failed(query, f"its answer is not what the query promises: {error}") from error

    def read_all(self, queries: Sequence[Query[Any]], result: Raw) -> Answered[tuple[Any, ...]]:
        """What `ask_all` gave.

        Raises:
            AnswerFailed: an answer is not what its query promises.
            RemoteError: it is no answer to each query.
        """
        try:
            found = _read_all(result)
            pairs = list(zip(queries, found.answers, strict=True))
        except (msgspec.DecodeError, ValueError) as error:
            raise RemoteError(INTERNAL_ERROR, f"what came back has no answer for each query: {error}") from error
        position = found.position
        return Answered(tuple(self.answered(query, bytes(raw), position).answer for query, raw in pairs), position)

    def mend(self, query: Query[Any], error: MillstreamError) -> None:
        """Give an error that holds an answer the one that the query promises; as it came, if it is not that."""
        if isinstance(error, ViewIncomplete):
            with suppress(msgspec.ValidationError, TypeError, DefinitionError):
                error.answer = msgspec.convert(error.answer, answer_type(type(query)), str_keys=True)

    def follow(self, query: Query[Any], subscription: Subscription) -> AsyncIterator[Answered[Any]]:
        """The answers of a watch; none equal to the one before it, as the first one after a resumption may be.

        A task that waits for the next one may be cancelled, and ask again.
        """
        return _Following(self, query, subscription)

    def is_same(self, query: Query[Any], one: bytes, other: bytes, position: int) -> bool:
        """Whether two contents are one answer. A server that was restarted may write a set in another order."""
        if one == other or len(one) != len(other):
            return one == other
        return bool(self.answered(query, one, position) == self.answered(query, other, position))

    def answered(self, query: Query[Any], content: bytes, position: int) -> Answered[Any]:
        """What came, as the query promises it."""
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


class _Following:
    """No generator, which would be over when a task that waits for the next answer is cancelled."""

    def __init__(self, answers: Answers, query: Query[Any], subscription: Subscription) -> None:
        self._answers = answers
        self._query = query
        self._subscription = subscription
        self._given = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answered[Any]:
        answers, query = self._answers, self._query
        try:
            while True:
                told = await self._subscription.next()
                content = bytes(told.content)
                if not answers.is_same(query, content, self._given, told.position):
                    self._given = content
                    return answers.answered(query, content, told.position)
        except MillstreamError as error:
            answers.mend(query, error)
            raise


class RowsTold:
    """What a watch of rows tells. No generator, as above.

    Args:
        query: whose answer it is.
        subscription: what the server tells.
        read: from JSON and a position to changes.
    """

    def __init__(
        self, query: Query[Any], subscription: Subscription, read: Callable[[bytes | Raw, int], RowChanges[Any]]
    ) -> None:
        self._query = query
        self._subscription = subscription
        self._read = read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RowChanges[Any]:
        told = await self._subscription.next()
        try:
            return self._read(told.content, told.position)
        except msgspec.DecodeError as error:
            raise _failed(self._query, f"its rows are not what the query promises: {error}") from error


def _failed(query: Query[Any], problem: str) -> AnswerFailed:
    name = type(query).__name__
    return AnswerFailed(f"that answers {name}", name, problem)
