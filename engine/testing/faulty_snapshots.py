"""Snapshots that fail as their log does.

Here: a store for snapshots in memory behind something that takes time and may fail. Not here: how often (`faulty`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from millstream.engine.observers import Observer
from millstream.engine.snapshots.part import Snapshot
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["FaultySnapshots"]


class FaultySnapshots:
    """The `SnapshotStore` port on another store.

    Args:
        inner: where snapshots are kept.
        work: is awaited before each operation; takes its time, or raises.
    """

    def __init__(self, inner: SnapshotStore, work: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._work = work

    async def open(self, observer: Observer | None = None) -> None:
        await self._work()
        await self._inner.open(observer)

    async def attach(self) -> None:
        await self._work()
        await self._inner.attach()

    def taking(self) -> AbstractAsyncContextManager[None]:
        return self._inner.taking()

    async def kept(self) -> Sequence[Snapshot]:
        await self._work()
        return await self._inner.kept()

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        await self._work()
        return await self._inner.pieces(snapshot, start)

    async def add(self, part: str, index: int, piece: bytes) -> None:
        await self._work()
        await self._inner.add(part, index, piece)

    async def finish(self, snapshot: Snapshot) -> None:
        await self._work()
        await self._inner.finish(snapshot)

    async def drop(self, snapshots: Iterable[Snapshot]) -> None:
        await self._work()
        await self._inner.drop(snapshots)

    async def rest(self) -> None:
        await self._inner.rest()

    def doubt(self, problem: str) -> None:
        self._inner.doubt(problem)

    async def close(self) -> None:
        await self._inner.close()
