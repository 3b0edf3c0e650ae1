"""Snapshots in memory, for logs in memory: they outlive the engine as those do, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.engine.snapshots.port import Snapshot

__all__ = ["MemorySnapshots"]

_PIECES_AT_ONCE = 16


class MemorySnapshots:
    """The `SnapshotStore` port on two dicts."""

    def __init__(self) -> None:
        self.whole: dict[str, Snapshot] = {}
        self.kept: dict[tuple[str, int], dict[int, bytes]] = {}

    async def open(self) -> None:
        """Nothing to do."""

    async def latest(self) -> Sequence[Snapshot]:
        return list(self.whole.values())

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        kept = self.kept.get((snapshot.part, snapshot.head.number), {})
        stop = min(start + _PIECES_AT_ONCE, snapshot.pieces)
        return [kept[index] for index in range(start, stop) if index in kept]

    async def add(self, part: str, number: int, index: int, piece: bytes) -> None:
        self.kept.setdefault((part, number), {})[index] = piece

    async def finish(self, snapshot: Snapshot) -> None:
        self.whole[snapshot.part] = snapshot
        for part, number in list(self.kept):
            if part == snapshot.part and number != snapshot.head.number:
                del self.kept[part, number]

    async def close(self) -> None:
        """Nothing to do: what is kept stays for the next engine on the same log."""
