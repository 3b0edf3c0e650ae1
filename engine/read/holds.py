"""Who wants a view to go no further for a moment, so that several can be asked at one position.

Here: the positions at which it is held, and waiting until that is over. Not here: what is held (`actor`), and for how
long (`queries`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Holds"]


class Holds:
    """The holds of one view. False if there are none.

    Where several views are held at several positions, the holder of the lowest one is served first: none of its
    views is held before that. So holders never wait for each other.
    """

    __slots__ = ("_changed", "_positions")

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._changed: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._positions)

    def forbid(self, position: int) -> bool:
        """Whether there is a hold before that position."""
        return bool(self._positions) and min(self._positions) < position

    async def changed(self) -> None:
        """Wait until there is one less. For one task, which applies."""
        self._changed = asyncio.get_running_loop().create_future()
        try:
            await self._changed
        finally:
            self._changed = None

    @contextmanager
    def at(self, position: int) -> Iterator[None]:
        """Hold the view at that position, until the block ends."""
        self._positions.append(position)
        try:
            yield
        finally:
            self._positions.remove(position)
            if self._changed is not None and not self._changed.done():
                self._changed.set_result(None)
