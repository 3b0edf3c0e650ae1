"""Snapshots in memory, for logs in memory: they outlive the engine as those do, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from millstream.engine.observers import Observer
from millstream.engine.snapshots.part import Snapshot
from millstream.engine.stores.errors import SnapshotsLocked

__all__ = ["MemorySnapshots"]

_PIECES_AT_ONCE = 16


class _Kept(NamedTuple):
    snapshot: Snapshot
    pieces: list[bytes]


class _Turn:
    """Whether a process takes snapshots. A copy of the store is another store, of which none does."""

    is_taken = False

    def __deepcopy__(self, _: object) -> _Turn:
        return _Turn()


class MemorySnapshots:
    """The `SnapshotStore` port on a list and a dict."""

    def __init__(self) -> None:
        self._turn = _Turn()
        #: As they were finished.
        self._whole: list[_Kept] = []
        self._begun: dict[str, list[bytes]] = {}

    async def open(self, observer: Observer | None = None) -> None:
        """Nothing to do."""

    async def attach(self) -> None:
        """Nothing to do."""

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        if self._turn.is_taken:
            raise SnapshotsLocked("memory:")
        self._turn.is_taken = True
        try:
            yield
        finally:
            self._turn.is_taken = False

    async def kept(self) -> Sequence[Snapshot]:
        latest_first = [each.snapshot for each in reversed(self._whole)]
        return sorted(latest_first, key=lambda each: (each.part, -each.head.number))

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        for kept in self._whole:
            if kept.snapshot == snapshot:
                return kept.pieces[start : start + _PIECES_AT_ONCE]
        return []

    async def add(self, part: str, index: int, piece: bytes) -> None:
        if index == 0:
            self._begun[part] = []
        self._begun[part].append(piece)

    async def finish(self, snapshot: Snapshot) -> None:
        pieces = self._begun.pop(snapshot.part, [])
        await self.drop([snapshot])
        self._whole.append(_Kept(snapshot, pieces if snapshot.pieces else []))

    async def drop(self, snapshots: Iterable[Snapshot]) -> None:
        dropped = {each.checksum for each in snapshots}
        self._whole = [kept for kept in self._whole if kept.snapshot.checksum not in dropped]

    async def rest(self) -> None:
        """Nothing to do."""

    def doubt(self, problem: str) -> None:
        """Nothing to do: a list is not damaged by what goes on in it."""

    async def close(self) -> None:
        """Nothing to do: what is kept stays for the next engine on the same log."""
