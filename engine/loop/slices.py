"""How work shares the loop's thread: in slices, with others in between."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from millstream.engine.loop.clock import elapsed

__all__ = ["Slicer"]


class Slicer:
    """Gives the loop to others whenever work has held it for a slice.

    Args:
        slice_ms_max: how long work may hold the loop.
        rest_ms: how long it then rests. 0: only until everyone else has run once.
    """

    def __init__(self, slice_ms_max: float, rest_ms: float = 0.0) -> None:
        self._slice_seconds = slice_ms_max / 1e3
        self._rest_seconds = rest_ms / 1e3
        self.begin()

    def begin(self) -> None:
        """A slice begins now."""
        self._until = elapsed() + self._slice_seconds

    @property
    def is_over(self) -> bool:
        return elapsed() > self._until

    async def rest(self) -> None:
        """Let everyone else run."""
        if self._rest_seconds:
            await anyio.sleep(self._rest_seconds)
        else:
            await anyio.lowlevel.checkpoint()
        self.begin()
