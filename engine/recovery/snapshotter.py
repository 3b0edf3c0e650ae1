"""Takes snapshots: one every so many events, and one at closing.

Here: when they are taken and of what. Not here: which are believed, and storing them (`catalog`).

While the engine runs a snapshot is never taken of the live state, which would have to stand still for as long as that
takes, and is ahead of the log besides. It is made the way an opening makes states: from the snapshot before it and the
log, beside the live state, in slices with a rest after each, and emptied in slices when it is stored. The price is
the memory for a second state meanwhile, and the replay of the events since the last one. Another process can pay it
(`process`). At closing nothing moves any more, and the live state itself is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import anyio

from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.observers import Observer
from millstream.engine.recovery.catalog import Catalog
from millstream.engine.recovery.process import SnapshotProcess
from millstream.engine.recovery.recovery import Recovery
from millstream.engine.recovery.taking import Taken, take
from millstream.engine.snapshots.part import Part

__all__ = ["Snapshotter"]


class Snapshotter:
    """The follower that takes snapshots.

    Args:
        recovery: brings new parts to the log's head.
        catalog: where they are stored.
        limits: the engine's.
        new: makes all parts of the application, as new; what they leave out is not reported, as the live ones did.
        live: the parts as they are, once nothing moves any more.
        saved: up to which event all parts are in snapshots.
        observer: is called with snapshots.
        process: takes those that are due while the engine runs; without it this one's loop does.
    """

    task_name = "millstream-snapshotter"

    def __init__(
        self,
        recovery: Recovery,
        catalog: Catalog,
        limits: Limits,
        *,
        new: Callable[[], Sequence[Part]],
        live: Callable[[], Iterable[Part]],
        saved: int,
        observer: Observer,
        process: SnapshotProcess | None = None,
    ) -> None:
        self._recovery = recovery
        self._catalog = catalog
        self._limits = limits
        self._new = new
        self._live = live
        self._observer = observer
        self._process = process
        #: Up to which event the states are in snapshots.
        self.position = saved
        self._next = saved + limits.snapshot_events_every
        self._due = asyncio.Event()
        self._life = anyio.CancelScope()
        #: Held from taking states up to having stored them, also by another process: one that is made from older
        #: snapshots never replaces a later one.
        self._busy = asyncio.Lock()

    def start(self, head: Head) -> None:
        """Count from here on; what the log had before counts, too."""
        self.resync(head)

    def offer(self, decoded: DecodedCommit) -> None:
        """Count a commit's events."""
        if decoded.head.position >= self._next:
            self.resync(decoded.head)

    def resync(self, head: Head) -> None:
        """The log has grown up to ``head``."""
        if head.position >= self._next:
            self._next = head.position + self._limits.snapshot_events_every
            self._due.set()

    def recede(self, head: Head) -> None:
        """Only what is durable was counted."""

    async def run(self) -> None:
        """Take snapshots when they are due, until `stop`; one that fails is reported, and costs nothing but itself."""
        with self._life:
            while True:
                await self._due.wait()
                self._due.clear()
                try:
                    self._note(await (self._take() if self._process is None else self._have_taken(self._process)))
                except Exception as error:  # noqa: BLE001 - the log failed: the next task that needs it raises
                    self._observer.snapshot_failed(part="all", error=error)

    def stop(self) -> None:
        """Let `run` end, also in the middle of a snapshot: the one before it stays whole."""
        self._life.cancel()

    async def close(self) -> None:
        """Store the live parts that differ from their last snapshots, and drop what is of no use."""
        parts, slicer = [part for part in self._live() if part.is_sound], Slicer(self._limits.slice_ms_max)
        with anyio.move_on_after(self._limits.drain_seconds_max):
            try:
                async with self.alone():
                    for part in await self._catalog.moved(parts):
                        await self._catalog.keep(part, slicer)
                    head = max((part.head.position for part in parts), default=0)
                    long_ago = head - 2 * self._limits.snapshot_events_every
                    await self._catalog.tidy((part.name for part in self._new()), long_ago)
            except Exception as error:  # noqa: BLE001 - as above
                self._observer.snapshot_failed(part="all", error=error)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """A block in which snapshots of this log are not taken otherwise, here or in another process.

        Raises:
            SnapshotsLocked: another process does, and not for this engine.
            Exception: the store failed.
        """
        async with self._busy, self._catalog.taking():
            yield

    async def _take(self) -> Taken:
        """Make the states beside the live ones, store those that have moved, and empty them."""
        slicer = Slicer(self._limits.slice_ms_max, rest_ms=self._limits.slice_ms_max)
        async with self.alone():
            return await take(self._recovery, self._catalog, self._new(), slicer, beside=True)

    async def _have_taken(self, process: SnapshotProcess) -> Taken:
        """The same in another process, which holds the lock that keeps others from it."""
        async with self._busy:
            taken = await process.take(self._catalog.broken)
        self._catalog.give_up(taken.broken)
        return taken

    def _note(self, taken: Taken) -> None:
        if taken.is_whole:
            self.position = taken.position
            self._catalog.trust()
        if taken.stored:
            self._observer.snapshots_taken(position=taken.position, parts=len(taken.stored), seconds=taken.seconds)
