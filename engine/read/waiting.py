"""Those who wait until a view has come to a position.

Here: who waits for what, and whose turn it is. Not here: why a query can't be answered (`actor`), which looks again
whenever it is woken.
"""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count

__all__ = ["Waiting"]


class Waiting:
    """Tasks that wait, by position; those of one position in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, position: int) -> asyncio.Future[None]:
        """What is done when the view is at ``position`` or further, or all were woken. To be given to `until`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (position, next(self._tickets), turn))
        return turn

    async def until(self, turn: asyncio.Future[None]) -> None:
        """Wait for it. A task that is cancelled meanwhile waits no more."""
        try:
            await turn
        except asyncio.CancelledError:
            left = [entry for entry in self._waiting if entry[2] is not turn]
            if len(left) < len(self._waiting):
                self._waiting = left
                heapify(left)
            raise

    def moved_to(self, position: int) -> None:
        """Wake those who wait for this position, or for one before it."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= position:
            turn = heappop(waiting)[2]
            if not turn.done():
                turn.set_result(None)

    def wake_all(self) -> None:
        """Wake everybody, wherever the view is."""
        for _, _, turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()
