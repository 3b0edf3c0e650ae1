"""The port of stores for snapshots.

What such a store holds is derived from the log and may be lost at any time: nothing in it is worth a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from millstream.engine.observers import Observer
from millstream.engine.snapshots.part import Snapshot

__all__ = ["SnapshotStore"]


class SnapshotStore(Protocol):
    """Keeps whole snapshots of parts, as many of each as its user does not drop.

    Several tasks may use it at once, and processes, but only one of them takes snapshots, within `taking`. Every method
    may raise what it likes; a reader looks at the checksum. This contract is a suite for every store:
    `engine/testing/stores`.
    """

    async def open(self, observer: Observer | None = None) -> None:
        """Make ready; a store that is damaged starts empty, and tells ``observer``; log lines by default."""
        ...

    async def attach(self) -> None:
        """Make ready for reading only, beside a taker of snapshots: nothing is made or changed, not even repaired.

        Raises:
            Exception: there is nothing to read, or it can't be read.
        """
        ...

    def taking(self) -> AbstractAsyncContextManager[None]:
        """A block in which snapshots are not taken otherwise, neither by another handle nor in another process.

        It begins before states are taken up, which may be before `open`, and ends when they are stored: what is made
        from older snapshots never replaces a later one, and pieces of two takers are never mixed. The death of a taker
        ends its block.

        Raises:
            SnapshotsLocked: another handle does, or this one does already; raised at once, without waiting.
            Exception: that can't be known.
        """
        ...

    async def kept(self) -> Sequence[Snapshot]:
        """The whole snapshots, by the part's name; of a part the one of the latest commit first, and of one commit the
        one that was finished last.
        """
        ...

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        """Some of a snapshot's pieces from index ``start`` on, in order; none if it is not there any more."""
        ...

    async def add(self, part: str, index: int, piece: bytes) -> None:
        """Keep a piece of a new snapshot of ``part``, in order from index 0.

        Index 0 begins the snapshot, and clears away what was left of one that was never finished.
        """
        ...

    async def finish(self, snapshot: Snapshot) -> None:
        """Make the pieces that were added a whole snapshot, durably, beside the others of its part.

        One with the same checksum is the same, and is replaced.
        """
        ...

    async def drop(self, snapshots: Iterable[Snapshot]) -> None:
        """Drop these snapshots and their pieces; one that is not there any more is passed over."""
        ...

    async def rest(self) -> None:
        """Nothing is needed for a while: release what the next call can take up again, such as a connection.

        Does nothing within `taking`, while another call runs, and after `attach`. Never raises.
        """
        ...

    def doubt(self, problem: str) -> None:
        """A snapshot's pieces are not what was finished: what the store holds is not to be built on.

        What can be read stays; the next snapshot that is taken may begin an empty store.
        """
        ...

    async def close(self) -> None:
        """Close the store. Closing twice, or without opening, is allowed."""
        ...
