"""The port of stores for snapshots, and the values that go through it.

What such a store holds is derived from the log and may be lost at any time: nothing in it is worth a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from penstock.engine.commit import Head

__all__ = ["Part", "Snapshot", "SnapshotStore"]


class Part(NamedTuple):
    """One of the states that follow the log, as it is at ``head``."""

    name: str
    #: What must be the same for a snapshot to fit.
    fingerprint: str
    #: Whatever has `snapshot` and `restore`: a write model, a view, the ledger.
    state: Any
    head: Head = Head()
    #: What belongs to it and is not in its state: for a view, what it has parked.
    notes: bytes = b""


class Snapshot(msgspec.Struct, frozen=True):
    """What is known of a whole snapshot: which part, where in the log, and what its pieces must come to."""

    part: str
    head: Head
    fingerprint: str
    pieces: int
    #: BLAKE2b over all pieces in order.
    checksum: bytes
    notes: bytes = b""


class SnapshotStore(Protocol):
    """Keeps one whole snapshot of each part. Used by one task at a time; every method may raise what it likes."""

    async def open(self) -> None:
        """Make ready; a store that is damaged starts empty."""
        ...

    async def latest(self) -> Sequence[Snapshot]:
        """The whole snapshots, one per part."""
        ...

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        """Some of a snapshot's pieces from index ``start`` on, in order; at least one if there is one."""
        ...

    async def add(self, part: str, number: int, index: int, piece: bytes) -> None:
        """Keep a piece of the snapshot of ``part`` at commit ``number``, which is not whole yet."""
        ...

    async def finish(self, snapshot: Snapshot) -> None:
        """Make the snapshot whole, durably, in place of the one before, whose pieces go."""
        ...

    async def close(self) -> None:
        """Let go of the store. Closing twice, or without opening, is allowed."""
        ...
