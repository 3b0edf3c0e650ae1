"""Those who wait until a view has come to a position.

Here: who waits for what, and whose turn it is. Not here: why a query can't be answered (`actor`), which looks again
whenever it is woken.
"""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count

__all__ = ["Waiting"]

#: How many may have left the line, and still be in it, however few wait.
_LEFT_MAX = 64


class Waiting:
    """Tasks that wait, by position; those of one position in the order in which they came."""

    def __init__(self) -> None:
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        #: Those in the line who still wait. Who is cancelled leaves this at once, and the line when its turn comes, or
        #: when half of it has left: to look for one in ten thousand took 3 ms, and a connection can take 1,000 away.
        self._waiting: set[asyncio.Future[None]] = set()
        self._tickets = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, position: int) -> asyncio.Future[None]:
        """What is done when the view is at ``position`` or further, or all were woken. To be given to `until`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._line, (position, next(self._tickets), turn))
        self._waiting.add(turn)
        return turn

    async def until(self, turn: asyncio.Future[None]) -> None:
        """Wait for it. A task that is cancelled meanwhile waits no more."""
        try:
            await turn
        finally:
            self._waiting.discard(turn)
            if len(self._line) > 2 * len(self._waiting) + _LEFT_MAX:
                self._line = [entry for entry in self._line if entry[2] in self._waiting]
                heapify(self._line)

    def moved_to(self, position: int) -> None:
        """Wake those who wait for this position, or for one before it."""
        line = self._line
        while line and line[0][0] <= position:
            self._wake(heappop(line)[2])

    def wake_beyond(self, position: int) -> None:
        """Wake those who wait for a position after this one."""
        for entry in self._line:
            if entry[0] > position:
                self._wake(entry[2])
        self._line = [entry for entry in self._line if entry[0] <= position]
        heapify(self._line)

    def wake_all(self) -> None:
        """Wake everybody, wherever the view is."""
        for _, _, turn in self._line:
            self._wake(turn)
        self._line.clear()

    def _wake(self, turn: asyncio.Future[None]) -> None:
        self._waiting.discard(turn)
        if not turn.done():
            turn.set_result(None)
