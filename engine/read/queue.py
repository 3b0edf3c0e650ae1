"""The commits that wait for one view: bounded by number and by bytes.

Here: how many there may be, and waiting for room. Not here: what becomes of a view that is too slow (`actor`).

Invariant: one commit is always taken, however large it is, because a view that is empty has nothing else to do.
"""

from __future__ import annotations

import asyncio
from collections import deque

from millstream.engine.commits.decoded import DecodedCommit

__all__ = ["CommitQueue"]


class CommitQueue:
    """Commits in order.

    Args:
        commits_max: how many may wait.
        bytes_max: how many encoded bytes they may have.
    """

    def __init__(self, commits_max: int, bytes_max: int) -> None:
        self._commits_max = commits_max
        self._bytes_max = bytes_max
        self._commits: deque[DecodedCommit] = deque()
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._commits)

    @property
    def first(self) -> DecodedCommit | None:
        """The one that is next; None if none waits."""
        return self._commits[0] if self._commits else None

    def has_room(self, decoded: DecodedCommit) -> bool:
        """Whether this commit would fit now."""
        queued = len(self._commits)
        return not queued or (queued < self._commits_max and self._bytes + decoded.size_bytes <= self._bytes_max)

    async def room_for(self, decoded: DecodedCommit) -> None:
        """Wait until this commit fits. For one task, which puts all there is.

        When the queue was full that takes until half of it is gone, so that not each commit costs a task switch.
        """
        while not self.has_room(decoded):
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None

    def put(self, decoded: DecodedCommit) -> None:
        """Add one at the end. The caller has looked for room."""
        self._commits.append(decoded)
        self._bytes += decoded.size_bytes

    def take(self) -> DecodedCommit:
        """Remove the first one, and return it.

        Raises:
            IndexError: none waits.
        """
        decoded = self._commits.popleft()
        self._bytes -= decoded.size_bytes
        if self._room is not None:
            self._make_room()
        return decoded

    def clear(self) -> None:
        """Drop them all."""
        self._commits.clear()
        self._bytes = 0
        self._make_room()

    def _make_room(self) -> None:
        room = self._room
        if room is None or room.done():
            return
        if len(self._commits) <= self._commits_max // 2 and self._bytes <= self._bytes_max // 2:
            room.set_result(None)
