"""Waiting at the end of a log: what the `follow` of every store is made of.

Here: what followers wait for, and the loop around a store's `read`. Not here: how a store learns of what others append
(`sqlite.pulse`).

Invariant: nothing is missed. A follower takes the mark first and reads then: what is appended after that read
moves the mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from millstream.engine.commits.commit import Commit

__all__ = ["AppendSignal", "followed"]


class AppendSignal:
    """Tells those who wait that something was appended. While no task waits, that costs 0.1 µs."""

    def __init__(self) -> None:
        self._appends = 0
        self._is_over = False
        self._turns: set[asyncio.Future[None]] = set()

    def mark(self) -> int:
        """What `moved` compares with. To be taken before reading."""
        return self._appends

    async def moved(self, mark: int) -> bool:
        """Wait until there may be something that was not there when the mark was taken.

        Returns:
            False if nothing comes any more.
        """
        if self._appends == mark and not self._is_over:
            turn = asyncio.get_running_loop().create_future()
            self._turns.add(turn)
            try:
                await turn
            finally:
                self._turns.discard(turn)
        return not self._is_over

    def tell(self) -> None:
        """There may be something new."""
        self._appends += 1
        if self._turns:
            self._wake()

    def end(self) -> None:
        """Nothing comes any more."""
        self._is_over = True
        self._wake()

    def _wake(self) -> None:
        for turn in self._turns:
            if not turn.done():
                turn.set_result(None)


async def followed(
    read: Callable[[int, int], Awaitable[Sequence[Commit]]], appended: AppendSignal, after: int, bytes_max: int
) -> AsyncGenerator[Sequence[Commit], None]:
    """What `Log.follow` promises, for a store that says when something was appended.

    Args:
        read: the store's `read`.
        appended: moves after each append, by any process; ends when the log is closed.
        after: the number of the last commit that is known.
        bytes_max: about how large a page may be.
    """
    while True:
        mark = appended.mark()
        page = await read(after, bytes_max)
        if page:
            after = page[-1].number
            yield page
        elif not await appended.moved(mark):
            return
