"""The promise that all commands of one `execute_many` share, and their outcomes in order.

Here: gathering outcomes as the writer tells them, and giving up. Not here: how commands get in (`admission`).

The writer decides commands in the order in which they were taken in, and tells outcomes in that order, also where it
fails them. So outcomes need no names: the next one is that of the next command. Futures of their own would cost
0.4 µs per command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from millstream.engine.application.messages import Receipt
from millstream.engine.errors import MillstreamError

__all__ = ["Together"]


class Together:
    """What some commands' outcomes are given to: a `Promise` for all of them."""

    __slots__ = ("_enough", "_given_up", "_outcomes", "_refused", "_told", "done", "tickets")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._outcomes: list[Receipt[Any] | MillstreamError] = []
        #: By index, those that never got into the mailbox.
        self._refused: dict[int, MillstreamError] = {}
        self._given_up: asyncio.Future[None] = loop.create_future()
        self._enough = 0
        self._told: asyncio.Future[None] | None = None
        #: Whether the caller has gone.
        self.done: Callable[[], bool] = self._given_up.done
        #: Of those that got into the mailbox, in order.
        self.tickets: list[int] = []

    def set_result(self, outcome: Receipt[Any] | MillstreamError, /) -> None:
        """The outcome of the next command."""
        outcomes = self._outcomes
        outcomes.append(outcome)
        if len(outcomes) == self._enough and self._told is not None and not self._told.done():
            self._told.set_result(None)

    def set_exception(self, exception: BaseException, /) -> None:
        """The next command is refused."""
        if not isinstance(exception, MillstreamError):
            raise exception  # nothing else is given to a promise
        self.set_result(exception)

    def refuse(self, index: int, error: MillstreamError) -> None:
        """A command does not get into the mailbox."""
        self._refused[index] = error

    @property
    def underway(self) -> int:
        """How many are in the mailbox, or were taken from it, and have no outcome."""
        return len(self.tickets) - len(self._outcomes)

    async def come_down_to(self, most: int) -> None:
        """Wait until at most so many are under way."""
        self._enough = len(self.tickets) - most
        if len(self._outcomes) < self._enough:
            self._told = asyncio.get_running_loop().create_future()
            await self._told

    def give_up(self) -> None:
        """Those that still wait in the mailbox never execute."""
        self._given_up.cancel()

    def results(self, count: int, late: Callable[[int, int], MillstreamError]) -> list[Receipt[Any] | MillstreamError]:
        """An outcome for each command.

        Args:
            count: how many commands there are.
            late: gives the outcome of one that is not known, by its index and its ticket: 0 if it never got in.
        """
        if len(self._outcomes) == count:
            return self._outcomes
        outcomes, tickets = iter(self._outcomes), iter(self.tickets)
        return [self._result(index, outcomes, tickets, late) for index in range(count)]

    def _result(
        self,
        index: int,
        outcomes: Iterator[Receipt[Any] | MillstreamError],
        tickets: Iterator[int],
        late: Callable[[int, int], MillstreamError],
    ) -> Receipt[Any] | MillstreamError:
        refused = self._refused.get(index)
        if refused is not None:
            return refused
        ticket, outcome = next(tickets, 0), next(outcomes, None)
        return late(index, ticket) if outcome is None else outcome
