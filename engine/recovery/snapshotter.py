"""Keeps snapshots: takes one every so many events, and one at closing.

Here: when they are taken and of what. Not here: pieces and their stores (`snapshots`), which are believed (`recovery`).

While the engine runs a snapshot is never taken of the live state, which would have to stand still for as long as that
takes, and is ahead of the log besides. It is made the way an opening makes states: from the snapshot before it and the
log, beside the live state, in slices with a rest after each, and let go of in slices when it is stored. The price is
the memory for a second state meanwhile, and the replay of the events since the last one. At closing nothing moves any
more, and the live state itself is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TypeAlias

import structlog

from millstream.engine.commits.commit import Head
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.collector import collecting_young_only
from millstream.engine.loop.releasing import drained
from millstream.engine.loop.slices import Slicer
from millstream.engine.recovery.recovery import Recovered, Recovery
from millstream.engine.snapshots.part import Part, Sealing
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["Snapshotter"]

_log = structlog.get_logger("millstream")

_Kept: TypeAlias = tuple[Head, str, bytes]


class Snapshotter:
    """The actor that takes snapshots. `run` is its life.

    Args:
        recovery: makes the states that are stored.
        store: where they go; open.
        limits: the engine's.
    """

    def __init__(self, recovery: Recovery, store: SnapshotStore, limits: Limits) -> None:
        self._recovery = recovery
        self._store = store
        self._limits = limits
        self._next = limits.snapshot_events_every
        self._due = asyncio.Event()
        #: Held from taking states up to having stored them: one made from older snapshots never replaces a later one.
        self.busy = asyncio.Lock()
        #: Up to which event the states are in snapshots.
        self.position = 0
        #: States that could not be put into pieces. They are not made again beside the live ones, which costs a replay
        #: of the whole log; closing tries them once more.
        self._broken: set[str] = set()

    def start(self, head: Head, saved: int) -> None:
        """Count from here: the log is at ``head``, and the states are in snapshots up to event ``saved``."""
        self.position = saved
        self._next = saved + self._limits.snapshot_events_every
        self.note(head)

    def note(self, head: Head) -> None:
        """The log has grown up to ``head``."""
        if head.position >= self._next:
            self._next = head.position + self._limits.snapshot_events_every
            self._due.set()

    async def run(self) -> None:
        """Take snapshots when they are due, until cancelled; one that fails is logged, and costs nothing but itself."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                async with self.busy:
                    await self._take_all()
            except Exception as error:  # noqa: BLE001 - the log failed: whoever needs it will hear of it
                _log.error("snapshot_failed", part="all", error=repr(error))

    async def _take_all(self) -> None:
        """Make the states beside the live ones, store those that have moved, and let go of them."""
        started = elapsed()
        wanted = self._recovery.storable - self._broken
        if not wanted:
            return
        slicer = Slicer(self._limits.slice_ms_max, rest_ms=self._limits.slice_ms_max)
        with collecting_young_only():
            recovered = await self._recovery.recover(slicer, wanted=wanted, quiet=True)
            try:
                moved = _moved(_parts(recovered, wanted), await self._kept())
                stored = [part for part in moved if await self._store_part(part, slicer)]
            finally:
                await _let_go(recovered, slicer)
        if len(stored) == len(moved):
            self.position, self._recovery.doubted = recovered.head.position, False
        if stored:
            seconds = elapsed() - started
            _log.info("snapshots_taken", position=recovered.head.position, parts=len(stored), seconds=round(seconds, 3))

    async def take(self, parts: Iterable[Part], slicer: Slicer) -> None:
        """Store the parts as they are; the caller sees to it that they stay so, and holds `busy`.

        A part that can't be stored is logged.
        """
        for part in parts:
            await self._store_part(part, slicer)

    async def close(self, parts: Iterable[Part], slicer: Slicer) -> None:
        """Store the parts that differ from their last snapshot, once `run` is over, and drop those of no part."""
        async with self.busy:
            try:
                await self.take(_moved(parts, await self._kept()), slicer)
                names = {snapshot.part for snapshot in await self._store.latest()}
                await self._store.forget(sorted(names - set(self._recovery.names)))
            except Exception as error:  # noqa: BLE001 - as above
                _log.error("snapshot_failed", part="all", error=repr(error))

    async def _kept(self) -> Mapping[str, _Kept]:
        """What need not be stored again, by part."""
        latest, useless = await self._store.latest(), self._recovery.useless
        kept = {each.part: (each.head, each.fingerprint, each.notes) for each in latest if each.checksum not in useless}
        return {} if self._recovery.doubted else kept

    async def _store_part(self, part: Part, slicer: Slicer) -> bool:
        """Store one part. Returns False if it has no snapshots, or if storing failed (logged)."""
        if part.name not in self._recovery.storable or not part.head.number:
            return False
        try:
            await self._write_part(part, slicer)
        except Exception as error:  # noqa: BLE001 - a snapshot less is a slower opening, and nothing else
            _log.error("snapshot_failed", part=part.name, error=repr(error))
            return False
        return True

    async def _write_part(self, part: Part, slicer: Slicer) -> None:
        sealing = Sealing()
        for piece in self._pieces(part):
            await self._store.add(part.name, sealing.pieces, piece)
            sealing.add(piece)
            if slicer.is_over:
                await slicer.rest()
        snapshot = sealing.seal(part.name, part.head, part.fingerprint, part.notes)
        async with self._recovery.loading:
            await self._store.finish(snapshot)
        self._recovery.useless.discard(snapshot.checksum)

    def _pieces(self, part: Part) -> Iterator[bytes]:
        try:
            yield from part.state.snapshot()
        except Exception:
            self._broken.add(part.name)
            raise


def _parts(recovered: Recovered, wanted: Container[str]) -> list[Part]:
    """What there is to be stored; a view that has faulted is not."""
    reads = [read.part() for read in recovered.reads if read.is_sound]
    return [part for part in (*recovered.write.parts(recovered.head), *reads) if part.name in wanted]


def _moved(parts: Iterable[Part], kept: Mapping[str, _Kept]) -> list[Part]:
    """Those that differ from their last snapshot."""
    return [part for part in parts if kept.get(part.name) != (part.head, part.fingerprint, part.notes)]


async def _let_go(recovered: Recovered, slicer: Slicer) -> None:
    write_index = recovered.write.index
    for state in (*recovered.write.models, *(read.state for read in recovered.reads), write_index):
        for _ in drained(state):
            if slicer.is_over:
                await slicer.rest()
