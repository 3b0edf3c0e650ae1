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
from collections.abc import Iterable
from hashlib import blake2b

import structlog

from penstock.engine.clock import elapsed
from penstock.engine.commit import DIGEST_BYTES, Head
from penstock.engine.limits import Limits
from penstock.engine.recovery import Recovered, Recovery
from penstock.engine.replay import Slicer
from penstock.engine.snapshots import Part, Snapshot, SnapshotStore, drained

__all__ = ["Keeper"]

_log = structlog.get_logger("penstock")


class Keeper:
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

    def start(self, head: Head, replayed: int) -> None:
        """Count from here: the log is at ``head``, and so many of its events are in no snapshot."""
        self.position = head.position - replayed
        self._next = self.position + self._limits.snapshot_events_every
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
            started = elapsed()
            slicer = Slicer(self._limits.slice_ms_max, rest_ms=self._limits.slice_ms_max)
            async with self.busy:
                try:
                    recovered = await self._recovery.recover(slicer, quiet=True)
                except Exception as error:  # noqa: BLE001 - the log failed: whoever needs it will hear of it
                    _log.error("snapshot_failed", part="all", error=repr(error))
                    continue
                try:
                    await self.take(parts_of(recovered), slicer)
                finally:
                    await _let_go(recovered, slicer)
            self.position = recovered.head.position
            seconds = elapsed() - started
            _log.info("snapshots_taken", position=recovered.head.position, seconds=round(seconds, 3))

    async def take(self, parts: Iterable[Part], slicer: Slicer) -> None:
        """Store the parts as they are; the caller sees to it that they stay so, and holds `busy`.

        A part that can't be stored is logged.
        """
        for part in parts:
            try:
                await self._store_part(part, slicer)
            except Exception as error:  # noqa: BLE001 - a snapshot less is a slower opening, and nothing else
                _log.error("snapshot_failed", part=part.name, error=repr(error))

    async def close(self, parts: Iterable[Part], slicer: Slicer) -> None:
        """Store the parts that differ from their last snapshot, once `run` is over."""
        async with self.busy:
            try:
                kept = {each.part: (each.head, each.fingerprint, each.notes) for each in await self._store.latest()}
            except Exception as error:  # noqa: BLE001 - as above
                _log.error("snapshot_failed", part="all", error=repr(error))
                return
            moved = [part for part in parts if kept.get(part.name) != (part.head, part.fingerprint, part.notes)]
            await self.take(moved, slicer)

    async def _store_part(self, part: Part, slicer: Slicer) -> None:
        pieces = part.state.snapshot()
        if pieces is None or not part.head.number:
            return
        checksum, count = blake2b(digest_size=DIGEST_BYTES), 0
        for piece in pieces:
            checksum.update(piece)
            await self._store.add(part.name, part.head.number, count, piece)
            count += 1
            if slicer.is_over:
                await slicer.rest()
        snapshot = Snapshot(part.name, part.head, part.fingerprint, count, checksum.digest(), part.notes)
        async with self._recovery.loading:
            await self._store.finish(snapshot)


def parts_of(recovered: Recovered) -> list[Part]:
    """What there is to be stored; a view that has faulted is not."""
    reads = [read.part() for read in recovered.reads if read.is_sound]
    return [*recovered.write.parts(recovered.head), *reads]


async def _let_go(recovered: Recovered, slicer: Slicer) -> None:
    ledger = recovered.write.ledger
    for state in (*recovered.write.models, *(read.state for read in recovered.reads), ledger):
        for _ in drained(state):
            if slicer.is_over:
                await slicer.rest()
