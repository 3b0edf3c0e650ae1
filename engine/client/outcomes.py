"""The outcomes of several calls, in order, while they are under way: what `execute_many` gathers.

Here: which are under way, and waiting for them. Not here: how a call gets where it goes (`write.admission`, `client`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from millstream.engine.errors import MillstreamError

__all__ = ["Outcomes"]

Result = TypeVar("Result")
#: What is known of a call beside its promise, such as its ticket in a mailbox.
Given = TypeVar("Given")


class Outcomes(Generic[Result, Given]):
    """Outcomes, and the promises of those that are not known yet."""

    __slots__ = ("_underway", "add", "outcomes")

    def __init__(self) -> None:
        #: As far as they are known without a gap: results and errors.
        self.outcomes: list[Result | MillstreamError] = []
        self._underway: deque[tuple[asyncio.Future[Result], Given]] = deque()
        #: Takes the next call's promise, and what is given of it.
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
            # Calls are done in order, so the last one of those that are to be over is over last; but one that was
            # refused before it got anywhere has been so from the beginning.
            last = underway[-1 - most][0]
            await asyncio.wait([underway[0][0] if last.done() else last])
            self._gather()

    def end(self, late: Callable[[int, Given], MillstreamError]) -> None:
        """Wait no more: the promises of those that are under way are cancelled.

        Args:
            late: gives the outcome of one that is not known, by the call's index and what was given of it.
        """
        for promise, given in self._underway:
            if promise.done():
                self.outcomes.append(self._outcome(promise))
            else:
                promise.cancel()
                self.outcomes.append(late(len(self.outcomes), given))
        self._underway.clear()

    def _gather(self) -> None:
        underway, outcomes = self._underway, self.outcomes
        while underway and underway[0][0].done():
            outcomes.append(self._outcome(underway.popleft()[0]))

    @staticmethod
    def _outcome(promise: asyncio.Future[Result]) -> Result | MillstreamError:
        error = promise.exception()
        if error is None:
            return promise.result()
        if isinstance(error, MillstreamError):
            return error
        raise error  # nothing else is given to a promise
