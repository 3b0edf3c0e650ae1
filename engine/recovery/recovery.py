"""From snapshots and the log to states: what opening, a rebuild after a failure, and the next snapshot all begin with.

Here: which snapshots are believed, and the replay of what came after them. Not here: when it is done (`engine`,
`writer`, `snapshotter`).

A snapshot is believed if its pieces are whole, its fingerprint is today's, and the log has the very commit that it was
taken at. Otherwise it is set aside with a log line, and that part alone is made from the first commit on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec
import structlog

from millstream.engine.application.app import App
from millstream.engine.commits.chain import head_of
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.marks import LEDGER, model_part, view_part
from millstream.engine.errors import EventsUnreadable, LogCorrupt, SnapshotMismatch
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.read.state import ReadState
from millstream.engine.recovery.readability import check_events
from millstream.engine.snapshots.part import Part, Sealing, Snapshot
from millstream.engine.snapshots.shape import fingerprint_of, fits
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader, follow
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.write.index import INDEX_FINGERPRINT, WriteIndex
from millstream.engine.write.state import WriteState

__all__ = ["Recovered", "RecoveredViews", "Recovery"]

_log = structlog.get_logger("millstream")

#: Where a part stands that nobody wants: past every commit, so that none is applied to it.
_PAST_ALL = Head(number=sys.maxsize)


class Recovered(NamedTuple):
    """States at one head of the log."""

    write: WriteState
    reads: Sequence[ReadState]
    head: Head
    #: How many events had to be replayed.
    replayed: int
    #: Up to which event all states that can be put aside were in snapshots.
    saved: int


class RecoveredViews(NamedTuple):
    """The views' states at one head of the log, for who decides nothing."""

    reads: Sequence[ReadState]
    head: Head
    #: How many events had to be replayed.
    replayed: int


class _Wanted(NamedTuple):
    """A part that is to be made."""

    name: str
    fingerprint: str
    make: Callable[[], Any]


class Recovery:
    """Makes states from an open log and its snapshots.

    Args:
        app: the application.
        log: an open log.
        limits: the engine's.
        check_purity: the write state is to look at itself before and after each handler.
        snapshots: where snapshots are, already open; None to go without.
    """

    def __init__(
        self, app: App, log: Log, limits: Limits, *, check_purity: bool = False, snapshots: SnapshotStore | None = None
    ) -> None:
        self._app = app
        self._log = log
        self._limits = limits
        self._check_purity = check_purity
        self.snapshots = snapshots
        #: Held while snapshots are read beside whoever takes them, who takes it to replace one.
        self.loading = asyncio.Lock()
        #: The checksums of snapshots that were set aside: they are as good as none.
        self.useless: set[bytes] = set()
        #: Pieces were not what was stored, so that the store is not to be built on.
        self.doubted = False
        models = [_Wanted(model_part(model.__name__), fingerprint_of(model), model) for model in app.models]
        write_index = _Wanted(LEDGER, INDEX_FINGERPRINT, lambda: WriteIndex(limits.receipts_max))
        self._write_side = (*models, write_index)
        self._read_side = tuple(_Wanted(view_part(view.__name__), fingerprint_of(view), view) for view in app.views)
        #: The names of all parts.
        self.names = tuple(part.name for part in (*self._write_side, *self._read_side))
        #: The names of those of which there are snapshots.
        self.storable = frozenset(part.name for part in (*self._write_side, *self._read_side) if _is_storable(part))

    async def recover(
        self, slicer: Slicer, *, views: bool = True, wanted: Container[str] | None = None, quiet: bool = False
    ) -> Recovered:
        """Fresh states at the log's head.

        Args:
            slicer: says when to rest.
            views: make the views' states, too.
            wanted: for whoever takes snapshots, and so replaces none meanwhile: the names of the parts that are needed.
                The others stay as they begin, and what opening has checked of the log is not checked again.
            quiet: the live views have said already which events they leave out.

        Raises:
            LogCorrupt: the log is not what was written.
            EventsUnreadable: it holds events that the application can't read; names all kinds of them.
            ApplyFailed: a write model can't apply what the log holds.
            Exception: the store failed.
        """
        opening, wanted = wanted is None, self.names if wanted is None else wanted
        async with self.loading if opening else nullcontext():
            found = await self._believed(wanted)
            write_side = [await self._part(found, part, wanted, slicer) for part in self._write_side]
            read_side = [await self._part(found, part, wanted, slicer) for part in self._read_side if views]
        reads = [self._read_state(found, part, quiet) for part in read_side if part.name in wanted]
        *models, write_index = write_side
        write = WriteState(self._app, [m.state for m in models], write_index.state, check_purity=self._check_purity)
        heads = {part.name: part.head for part in write_side} | {view_part(read.name): read.head for read in reads}
        first = min(heads.values(), key=_number)
        if opening:
            await self._check_tail(first, slicer)
        head = await self._replay_all(first, reads, slicer, (write, [part.head.number for part in write_side]))
        saved = min((heads[name].position for name in self.storable & heads.keys()), default=head.position)
        return Recovered(write, reads, head, head.position - first.position, saved)

    async def recover_views(self, slicer: Slicer) -> RecoveredViews:
        """Fresh states of the views alone at the log's head; no write model is made.

        Args:
            slicer: says when to rest.

        Raises:
            LogCorrupt, EventsUnreadable, Exception: as `recover`.
        """
        names = [part.name for part in self._read_side]
        async with self.loading:
            found = await self._believed(names)
            read_side = [await self._part(found, part, names, slicer) for part in self._read_side]
        reads = [self._read_state(found, part, quiet=False) for part in read_side]
        first = min((read.head for read in reads), key=_number, default=Head())
        await self._check_tail(first, slicer)
        head = await self._replay_all(first, reads, slicer)
        return RecoveredViews(reads, head, head.position - first.position)

    async def _replay_all(
        self,
        first: Head,
        reads: Sequence[ReadState],
        slicer: Slicer,
        write_side: tuple[WriteState, Sequence[int]] | None = None,
    ) -> Head:
        """Hand what the log holds after ``first`` to each state that does not have it; returns the head."""
        reader = Reader(self._log, self._app, first, self._limits.read_bytes_max)
        try:
            while (page := await reader.page()) is not None:
                for decoded in page:
                    if write_side is not None:
                        _replay(*write_side, decoded)
                    for read in reads:
                        for _ in read.steps(decoded):
                            if slicer.is_over:
                                await slicer.rest()
                    if slicer.is_over:
                        await slicer.rest()
        except EventsUnreadable as error:
            found_all = await check_events(self._log, self._app, slicer=slicer)
            raise EventsUnreadable(self._log.name, self._app.name, found_all.unreadable) from error
        return reader.head

    async def _believed(self, wanted: Container[str]) -> Mapping[str, Snapshot]:
        """The snapshots that were taken of this very log, by part."""
        if self.snapshots is None:
            return {}
        try:
            latest = await self.snapshots.latest()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with them, the log makes it good
            _log.warning("snapshot_set_aside", part="all", reason=repr(error))
            return {}
        believed: dict[str, Snapshot] = {}
        digests: dict[int, bytes] = {}
        for snapshot in latest:
            number = snapshot.head.number
            if snapshot.part not in wanted:
                continue
            if number not in digests:
                digests[number] = await self._digest(number)
            if digests[number] == snapshot.head.digest:
                believed[snapshot.part] = snapshot
            else:
                self._set_aside(snapshot, f"the log has no such commit {number:,}")
        return believed

    async def _digest(self, number: int) -> bytes:
        """That of the commit with that number; none if it can't be read: the replay from the first one says why."""
        try:
            there = await self._commit(number)
        except LogCorrupt:
            return b""
        return there.digest if there else b""

    async def _commit(self, number: int) -> Commit | None:
        """The commit with that number, unverified; None if the log has none."""
        found = await self._log.read(number - 1, 1) if number > 0 else ()
        return found[0] if found and found[0].number == number else None

    async def _part(self, found: Mapping[str, Snapshot], part: _Wanted, wanted: Container[str], slicer: Slicer) -> Part:
        """A part as its snapshot has it; fresh if there is none that fits."""
        name, fingerprint, make = part
        if name not in wanted:
            return Part(name, fingerprint, make(), _PAST_ALL)
        snapshot = found.get(name)
        if snapshot is not None and self.snapshots is not None:
            try:
                if not fits(snapshot.fingerprint, fingerprint):
                    raise SnapshotMismatch(name, "its shape, its events or its code version are not today's")
                state = await self._restored(self.snapshots, snapshot, make(), slicer)
                return Part(name, fingerprint, state, snapshot.head, snapshot.notes)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the log makes it good
                self._set_aside(snapshot, str(error) or repr(error))
        return Part(name, fingerprint, make())

    async def _restored(self, store: SnapshotStore, snapshot: Snapshot, state: Any, slicer: Slicer) -> Any:
        sealing = Sealing()
        failure: Exception | None = None
        while sealing.pieces < snapshot.pieces:
            try:
                pieces = await store.pieces(snapshot, sealing.pieces)
            except Exception:
                self.doubted = True
                raise
            if not pieces:
                raise self._doubt(store, snapshot, f"piece {sealing.pieces:,} of {snapshot.pieces:,} is missing")
            for piece in pieces:
                sealing.add(piece)
                if failure is None:
                    failure = _failure(state, piece)
                if slicer.is_over:
                    await slicer.rest()
        if sealing.seal(snapshot.part, snapshot.head, snapshot.fingerprint, snapshot.notes) != snapshot:
            raise self._doubt(store, snapshot, "its pieces are damaged") from failure
        if failure is not None:
            raise failure
        return state

    def _doubt(self, store: SnapshotStore, snapshot: Snapshot, problem: str) -> SnapshotMismatch:
        self.doubted = True
        store.doubt(f"{snapshot.part}: {problem}")
        return SnapshotMismatch(snapshot.part, problem)

    def _set_aside(self, snapshot: Snapshot, reason: str) -> None:
        self.useless.add(snapshot.checksum)
        _log.warning("snapshot_set_aside", part=snapshot.part, reason=reason)

    def _read_state(self, found: Mapping[str, Snapshot], part: Part, quiet: bool) -> ReadState:
        app, view, parked_max = self._app, type(part.state), self._limits.view_parked_max
        try:
            return ReadState(app, view, part.state, part.head, part.notes, parked_max=parked_max, quiet=quiet)
        except msgspec.DecodeError as error:
            self._set_aside(found[part.name], f"what it has parked can't be read: {error}")
            return ReadState(app, view, parked_max=parked_max, quiet=quiet)

    async def _check_tail(self, first: Head, slicer: Slicer) -> None:
        """See that the last commits before ``first``, which are not replayed, are what was written."""
        base = (await self._log.head()).number - self._limits.verify_commits_min
        if base >= first.number or not first.number:
            return
        known = Head()
        if base > 0:
            commit = await self._commit(base)
            if commit is None:
                raise LogCorrupt(self._log.name, base, "it is missing, and later ones are there")
            known = head_of(self._log.name, commit)
        await follow(self._log, known, first.number, self._limits.read_bytes_max, slicer)


def _number(head: Head) -> int:
    return head.number


def _is_storable(part: _Wanted) -> bool:
    try:
        return part.make().snapshot() is not None
    except Exception:  # noqa: BLE001 - whoever takes it will log it
        return True


def _replay(write: WriteState, numbers: Sequence[int], decoded: DecodedCommit) -> None:
    """Apply a commit to each model, and to the write index, unless its snapshot has it already."""
    number = decoded.head.number
    *of_models, of_index = numbers
    if number > max(of_models):
        write.apply(decoded.events, decoded.start)
    else:
        for index, seen in enumerate(of_models):
            if number > seen:
                write.apply_to(index, decoded.events, decoded.start)
    if number > of_index:
        write.index.replay(number, decoded.start, decoded.records)


def _failure(state: Any, piece: bytes) -> Exception | None:
    """What a state raises when it is to take up a piece. That decides nothing while the piece may be damaged."""
    try:
        state.restore(piece)
    except Exception as error:  # noqa: BLE001 - raised when the other pieces were seen, too
        return error
    return None
