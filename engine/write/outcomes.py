"""The outcomes of an `execute_many`, in order, while its commands are decided.

Here: which are under way, and waiting for them. Not here: how a command gets to the writer (`admission`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from millstream.engine.application.messages import Receipt
from millstream.engine.errors import MillstreamError

__all__ = ["Outcome", "Outcomes"]

Outcome: TypeAlias = Receipt | MillstreamError


class Outcomes:
    """Outcomes, and the promises of those that are not known yet."""

    __slots__ = ("_underway", "add", "outcomes")

    def __init__(self) -> None:
        #: As far as they are known without a gap.
        self.outcomes: list[Outcome] = []
        self._underway: deque[tuple[asyncio.Future[Receipt], int]] = deque()
        #: Takes the next command's promise, and its ticket in the mailbox, 0 if it has none.
        self.add = self._underway.append

    @property
    def underway(self) -> int:
        """How many have no outcome that is gathered."""
        return len(self._underway)

    async def come_down_to(self, most: int) -> None:
        """Gather outcomes, and wait until at most so many are under way."""
        underway = self._underway
        self._gather()
        while len(underway) > most:
            # Commands are decided in order, so the last one of those that are to be over is over last; but one that
            # was refused before it got to the mailbox has been so from the beginning.
            last = underway[-1 - most][0]
            await asyncio.wait([underway[0][0] if last.done() else last])
            self._gather()

    def end(self, late: Callable[[int, int], MillstreamError]) -> None:
        """Wait no more: what is not decided yet never executes.

        Args:
            late: gives the outcome of one that is not known, by the command's index and its ticket.
        """
        for promise, ticket in self._underway:
            if promise.done():
                self.outcomes.append(_outcome(promise))
            else:
                promise.cancel()
                self.outcomes.append(late(len(self.outcomes), ticket))
        self._underway.clear()

    def _gather(self) -> None:
        underway, outcomes = self._underway, self.outcomes
        while underway and underway[0][0].done():
            outcomes.append(_outcome(underway.popleft()[0]))


def _outcome(promise: asyncio.Future[Receipt]) -> Outcome:
    error = promise.exception()
    if error is None:
        return promise.result()
    if isinstance(error, MillstreamError):
        return error
    raise error  # nothing else is given to a promise
