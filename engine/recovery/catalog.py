"""The one catalog of snapshots: which are believed, what is wrong with the others, and what need not be stored again.

Here: all that is known of snapshots, of any part. Not here: when they are taken (`snapshotter`), and what comes after
them in the log (`recovery`).

A snapshot is believed if its pieces are whole, its fingerprint is today's, and the log has the very commit that it was
taken at. Otherwise it is set aside and counts as none: its part begins with an older one, or with the first commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext

from millstream.engine.errors import LogCorrupt, SnapshotMismatch
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.recovery.retention import spare
from millstream.engine.snapshots.part import Part, Sealing, Snapshot
from millstream.engine.snapshots.shape import fits
from millstream.engine.stores.finding import commit_at
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["Catalog", "attached_catalog", "has_snapshots"]

_DIGESTS_MAX = 1_000
#: How often a snapshot is looked for that another process drops meanwhile.
_TRIES = 3
_NOT_TODAYS = "its shape, its events or its code version are not today's"


class _Dropped(Exception):
    """A snapshot was dropped while it was read. That is no damage."""


class Catalog:
    """The snapshots of one log.

    Args:
        store: where they are, open or attached; None to go without.
        log: an open log.
        observer: is called with those that are set aside.
        kept_max: how many are kept of a view, spread over its past. Of other parts it is one.
    """

    def __init__(self, store: SnapshotStore | None, log: Log, observer: Observer, *, kept_max: int = 1) -> None:
        self._kept_max = kept_max
        self._store = store
        self._log = log
        self._observer = observer
        #: Held while snapshots are read beside a task that takes them, and by that task to replace one.
        self._loading = asyncio.Lock()
        #: The checksums of those that were set aside.
        self._useless: set[bytes] = set()
        #: Those of commits at which there are snapshots, as far as they were looked at.
        self._digests: dict[int, bytes] = {}
        #: The names of parts that were restored.
        self._restored: set[str] = set()
        #: Pieces were not what was stored, so that nothing in the store is to be built on.
        self._is_doubted = False
        #: Parts that could not be put into pieces. They are not made again beside the live ones, which costs a replay
        #: of the whole log; closing tries them once more.
        self._broken: set[str] = set()
        #: Of the pieces that were stored, all together.
        self.stored_bytes = 0

    @classmethod
    async def opened(cls, store: SnapshotStore | None, log: Log, observer: Observer, *, kept_max: int) -> Catalog:
        """The catalog of a store that is opened for it. Where it can't be, there are no snapshots: opening is slower
        then, and nothing else.
        """
        try:
            if store is not None:
                await to_the_end(store.open(observer))
        except Exception as error:  # noqa: BLE001 - reported
            observer.snapshots_unavailable(log=log.name, error=error)
            store = None
        return cls(store, log, observer, kept_max=kept_max)

    @property
    def is_kept(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    @property
    def broken(self) -> frozenset[str]:
        """The names of parts that could not be put into pieces."""
        return frozenset(self._broken)

    def give_up(self, names: Iterable[str]) -> None:
        """These parts could not be put into pieces elsewhere: `wants` says no of them."""
        self._broken.update(names)

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        """A block in which no other process takes snapshots: see `SnapshotStore.taking`, and what it raises."""
        if self._store is None:
            yield
            return
        try:
            async with self._store.taking():
                yield
        finally:
            await self._store.rest()

    def wants(self, part: Part) -> bool:
        """Whether a part, as new, is to be stored beside the live one: it has snapshots, and they could be made."""
        return part.name not in self._broken and has_snapshots(part)

    async def restore(
        self, parts: Sequence[Part], slicer: Slicer, *, alone: bool = False, until: int | None = None
    ) -> None:
        """Give new parts the states of the latest snapshots that are believed; the others stay new.

        Args:
            parts: each is at the head of its snapshot afterwards, or at the beginning.
            slicer: says when to rest.
            alone: no other process drops a snapshot meanwhile. Otherwise dropping waits.
            until: the number of the last commit that may be in a snapshot. By default any may.
        """
        store = self._store
        if store is None:
            return
        async with nullcontext() if alone else self._loading:
            kept = await self._readable(store)
            for part in parts:
                for _ in range(_TRIES):
                    try:
                        await self._restore(store, kept, part, slicer, until)
                        break
                    except _Dropped:  # by another process, which has taken a later one: look again
                        part.reset()
                        kept = await self._readable(store)
            await store.rest()

    async def _restore(
        self, store: SnapshotStore, there: Sequence[Snapshot], part: Part, slicer: Slicer, until: int | None
    ) -> None:
        kept = [each for each in there if each.part == part.name]
        fitting = [each for each in kept if fits(each.fingerprint, part.fingerprint)]
        if kept and not fitting and until is None:  # it stays: it may be that of other code that runs beside this
            self._observer.snapshot_set_aside(part=part.name, reason=str(SnapshotMismatch(part.name, _NOT_TODAYS)))
        for snapshot in fitting:
            if until is not None and snapshot.head.number > until:
                continue
            if await self._digest(snapshot.head.number) != snapshot.head.digest:
                self._set_aside(snapshot, f"the log has no such commit {snapshot.head.number:,}")
                continue
            try:
                await self._take_up(store, snapshot, part, slicer, doubts=until is None)
            except _Dropped:
                raise
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the log makes it good
                part.reset()
                self._set_aside(snapshot, str(error) or repr(error))
            else:
                self._restored.add(part.name)
                return

    async def moved(self, parts: Iterable[Part]) -> list[Part]:
        """Those that differ from their snapshots, and are to be stored.

        Raises:
            Exception: the store failed.
        """
        kept = () if self._store is None or self._is_doubted else await self._store.kept()
        stored = {
            (each.part, each.head, each.fingerprint, each.notes) for each in kept if each.checksum not in self._useless
        }
        return [part for part in parts if (part.name, part.head, part.fingerprint, part.notes()) not in stored]

    async def keep(self, part: Part, slicer: Slicer, *, alone: bool = False) -> bool:
        """Store one part, which stands still meanwhile. Returns False if it has no snapshots, or if that failed.

        Args:
            part: one of those.
            slicer: says when to rest.
            alone: drop the others of the same code, once this one is stored.
        """
        if self._store is None or not part.head.number:
            return False
        try:
            return await self._write(self._store, part, slicer, alone=alone)
        except Exception as error:  # noqa: BLE001 - a snapshot less is a slower opening, and nothing else
            self._observer.snapshot_failed(part=part.name, error=error)
            return False
        finally:
            await self._store.rest()

    async def of_use(self) -> Mapping[str, bool]:
        """By part: whether its snapshot is of use, as far as `restore` has looked. A part without one is not in it.

        Raises:
            Exception: the store failed.
        """
        kept = () if self._store is None else await self._store.kept()
        return {snapshot.part: snapshot.part in self._restored for snapshot in kept}

    def trust(self) -> None:
        """Everything was stored anew: the store may be built on."""
        self._is_doubted = False

    async def forget(self, part: Part) -> None:
        """Drop the snapshots of a part, whose state is not to come back; those of other code stay.

        Raises:
            Exception: the store failed.
        """
        if self._store is not None:
            async with self._loading:
                kept = await self._store.kept()
                same = [each for each in kept if each.part == part.name and fits(each.fingerprint, part.fingerprint)]
                await self._store.drop(same)
            await self._store.rest()

    async def tidy(self, names: Iterable[str], before: int) -> None:
        """Drop the snapshots that were set aside; and those of parts that are none of these, and were taken before a
        position. Later ones stay: other code may be about to take over.

        Raises:
            Exception: the store failed.
        """
        if self._store is not None:
            known, kept = set(names), await self._store.kept()
            strange = (each for each in kept if each.part not in known and each.head.position < before)
            await self._store.drop([*strange, *(each for each in kept if each.checksum in self._useless)])

    async def _readable(self, store: SnapshotStore) -> Sequence[Snapshot]:
        try:
            return await store.kept()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with them, the log makes it good
            self._observer.snapshot_set_aside(part="all", reason=repr(error))
            return ()

    async def _digest(self, number: int) -> bytes:
        """The digest of the commit with that number; none if it can't be read: the replay says why."""
        if number in self._digests:
            return self._digests[number]
        try:
            there = await commit_at(self._log, number)
        except LogCorrupt:
            there = None
        if there is None:
            return b""
        while len(self._digests) >= _DIGESTS_MAX:
            del self._digests[next(iter(self._digests))]
        self._digests[number] = there.digest
        return there.digest

    async def _take_up(
        self, store: SnapshotStore, snapshot: Snapshot, part: Part, slicer: Slicer, *, doubts: bool
    ) -> None:
        """Raises if anything is wrong with the snapshot. The part may be half restored then.

        Args:
            store: where it is.
            snapshot: which.
            part: takes it up.
            slicer: says when to rest.
            doubts: whether damage means that nothing in the store is to be built on; else it is that of an old one.
        """
        sealing = Sealing()
        failure: Exception | None = None
        while sealing.pieces < snapshot.pieces:
            try:
                pieces = await store.pieces(snapshot, sealing.pieces)
            except Exception:
                self._is_doubted = self._is_doubted or doubts
                raise
            if not pieces:
                if snapshot not in await store.kept():
                    raise _Dropped
                problem = f"piece {sealing.pieces:,} of {snapshot.pieces:,} is missing"
                raise self._damaged(store if doubts else None, snapshot, problem)
            for piece in pieces:
                sealing.add(piece)
                if failure is None:
                    failure = _failure(part, piece)
                if slicer.is_over:
                    await slicer.rest()
        if sealing.seal(snapshot.part, snapshot.head, snapshot.fingerprint, snapshot.notes) != snapshot:
            raise self._damaged(store if doubts else None, snapshot, "its pieces are damaged") from failure
        if failure is not None:
            raise failure
        part.restored(snapshot.head, snapshot.notes)

    def _damaged(self, doubted: SnapshotStore | None, snapshot: Snapshot, problem: str) -> SnapshotMismatch:
        if doubted is not None:
            self._is_doubted = True
            doubted.doubt(f"{snapshot.part}: {problem}")
        return SnapshotMismatch(snapshot.part, problem)

    def _set_aside(self, snapshot: Snapshot, reason: str) -> None:
        self._useless.add(snapshot.checksum)
        self._observer.snapshot_set_aside(part=snapshot.part, reason=reason)

    async def _write(self, store: SnapshotStore, part: Part, slicer: Slicer, *, alone: bool) -> bool:
        sealing, pieces = Sealing(), self._pieces(part)
        if pieces is None:
            return False
        for piece in pieces:
            await store.add(part.name, sealing.pieces, piece)
            sealing.add(piece)
            self.stored_bytes += len(piece)
            if slicer.is_over:
                await slicer.rest()
        snapshot = sealing.seal(part.name, part.head, part.fingerprint, part.notes())
        async with self._loading:
            await store.finish(snapshot)
            self._useless.discard(snapshot.checksum)
            beside = [each for each in await store.kept() if each.part == part.name]
            self._digests[part.head.number] = part.head.digest
            lost = {each.checksum for each in beside if await self._digest(each.head.number) != each.head.digest}
            most = self._kept_max if part.has_past else 1
            if alone:
                same = (each for each in beside if fits(each.fingerprint, part.fingerprint))
                lost.update(each.checksum for each in same if each != snapshot)
            await store.drop(spare(beside, part.fingerprint, most, self._useless | lost))
        return True

    def _pieces(self, part: Part) -> Iterator[bytes] | None:
        """The part's pieces; one that can't be put into pieces is noted. None if it has no snapshots."""
        try:
            pieces = part.snapshot()
        except Exception:
            self._broken.add(part.name)
            raise
        return None if pieces is None else self._noted(part, pieces)

    def _noted(self, part: Part, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except Exception:
            self._broken.add(part.name)
            raise


@asynccontextmanager
async def attached_catalog(store: SnapshotStore | None, log: Log, observer: Observer) -> AsyncIterator[Catalog]:
    """The catalog of a store as it is now, while it is read; without snapshots if there are none, or none can be read.

    Args:
        store: not open; None to go without.
        log: an open log.
        observer: is called with why they can't be read.
    """
    there = False
    try:
        if store is not None:
            try:
                await to_the_end(store.attach())
                there = True
            except FileNotFoundError:
                pass  # none was taken yet
            except Exception as error:  # noqa: BLE001 - without them opening is slower, and nothing else
                observer.snapshots_unavailable(log=log.name, error=error)
        yield Catalog(store if there else None, log, observer)
    finally:
        if store is not None:
            await to_the_end(store.close())


def has_snapshots(part: Part) -> bool:
    """Whether there are snapshots of a part, which is new. One that can't be put into pieces is tried."""
    try:
        return part.snapshot() is not None
    except Exception:  # noqa: BLE001 - taking it will say so
        return True


def _failure(part: Part, piece: bytes) -> Exception | None:
    """What a part raises when it is to take up a piece. That decides nothing while the piece may be damaged."""
    try:
        part.restore(piece)
    except Exception as error:  # noqa: BLE001 - raised when the other pieces were seen, too
        return error
    return None
