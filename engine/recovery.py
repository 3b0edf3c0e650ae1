"""From snapshots and the log to states: what opening, a rebuild after a failure, and the next snapshot all begin with.

Here: which snapshots are believed, and the replay of what came after them. Not here: when it is done (`engine`,
`writer`, `keeper`).

A snapshot is believed if its pieces are whole, its fingerprint is today's, and the log has the very commit that it was
taken at. Otherwise it is set aside with a log line, and that part alone is made from the first commit on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import structlog

from penstock.engine.app import App
from penstock.engine.commit import DIGEST_BYTES, Head, events_in
from penstock.engine.deciding import WriteState
from penstock.engine.errors import EventsUnreadable, SnapshotMismatch
from penstock.engine.ledger import LEDGER, LEDGER_FINGERPRINT, Ledger
from penstock.engine.limits import Limits
from penstock.engine.log import Log
from penstock.engine.reading import ReadState
from penstock.engine.replay import Chapter, Reader, Slicer, follow
from penstock.engine.snapshots import Part, Snapshot, SnapshotStore, fingerprint_of
from penstock.engine.survey import survey

__all__ = ["Recovered", "Recovery"]

_log = structlog.get_logger("penstock")


class Recovered(NamedTuple):
    """States at one head of the log."""

    write: WriteState
    reads: Sequence[ReadState]
    head: Head
    #: How many events had to be replayed.
    replayed: int


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
        #: Held while snapshots are read; whoever replaces one takes it, too.
        self.loading = asyncio.Lock()

    async def recover(self, slicer: Slicer, *, views: bool = True, quiet: bool = False) -> Recovered:
        """Fresh states at the log's head.

        Args:
            slicer: says when to rest.
            views: make the views' states, too.
            quiet: the live views have said already which events they leave out.

        Raises:
            LogCorrupt: the log is not what was written.
            EventsUnreadable: it holds events that the application can't read; names all kinds of them.
            ApplyFailed: a write model can't apply what the log holds.
            Exception: the store failed.
        """
        app, limits = self._app, self._limits
        async with self.loading:
            found = await self._believed()
            models = [await self._part(found, f"model {m.__name__}", fingerprint_of(m), m, slicer) for m in app.models]
            ledger = await self._part(found, LEDGER, LEDGER_FINGERPRINT, lambda: Ledger(limits.receipts_max), slicer)
            reads = [await self._read_state(found, view, slicer, quiet) for view in app.views] if views else []
        parts = [*models, ledger]
        write = WriteState(app, [part.state for part in models], ledger.state, check_purity=self._check_purity)
        heads = [part.head for part in parts] + [read.head for read in reads]
        first = min(heads, key=lambda head: head.number)
        await self._check_tail(first, slicer)
        reader = Reader(self._log, app, first, limits.read_bytes_max)
        try:
            while (page := await reader.page()) is not None:
                for chapter in page:
                    _replay(write, [part.head.number for part in parts], chapter)
                    for read in reads:
                        for _ in read.steps(chapter):
                            if slicer.is_over:
                                await slicer.rest()
                    if slicer.is_over:
                        await slicer.rest()
        except EventsUnreadable as error:
            found_all = await survey(self._log, app, after=error.events[0].commit - 1, slicer=slicer)
            raise EventsUnreadable(self._log.name, app.name, found_all.unreadable) from error
        return Recovered(write, reads, reader.head, reader.head.position - first.position)

    async def _believed(self) -> Mapping[str, Snapshot]:
        """The snapshots that were taken of this very log, by part."""
        if self.snapshots is None:
            return {}
        try:
            latest = await self.snapshots.latest()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with them, the log makes it good
            _set_aside("all", repr(error))
            return {}
        believed: dict[str, Snapshot] = {}
        digests: dict[int, bytes] = {}
        for snapshot in latest:
            number = snapshot.head.number
            if number not in digests:
                there = await self._log.read(number - 1, 1)
                digests[number] = there[0].digest if there else b""
            if digests[number] == snapshot.head.digest:
                believed[snapshot.part] = snapshot
            else:
                _set_aside(snapshot.part, f"the log has no such commit {number:,}")
        return believed

    async def _part(
        self,
        found: Mapping[str, Snapshot],
        name: str,
        fingerprint: str,
        make: Callable[[], Any],
        slicer: Slicer,
    ) -> Part:
        """A part as its snapshot has it; fresh if there is none that fits."""
        snapshot = found.get(name)
        if snapshot is not None and self.snapshots is not None:
            try:
                if snapshot.fingerprint != fingerprint:
                    raise SnapshotMismatch(name, "its shape, its events or its code version are not today's")
                state = await _restored(self.snapshots, snapshot, make(), slicer)
                return Part(name, fingerprint, state, snapshot.head, snapshot.notes)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the log makes it good
                _set_aside(name, str(error) or repr(error))
        return Part(name, fingerprint, make())

    async def _read_state(
        self, found: Mapping[str, Snapshot], view: type[Any], slicer: Slicer, quiet: bool
    ) -> ReadState:
        part = await self._part(found, f"view {view.__name__}", fingerprint_of(view), view, slicer)
        parked_max = self._limits.view_parked_max
        try:
            return ReadState(self._app, view, part.state, part.head, part.notes, parked_max=parked_max, quiet=quiet)
        except msgspec.DecodeError as error:
            _set_aside(part.name, f"what it has parked can't be read: {error}")
            return ReadState(self._app, view, parked_max=parked_max, quiet=quiet)

    async def _check_tail(self, first: Head, slicer: Slicer) -> None:
        """See that the last commits before ``first``, which are not replayed, are what was written."""
        base = (await self._log.head()).number - self._limits.verify_commits_min
        if base >= first.number or not first.number:
            return
        known = Head()
        if base > 0:
            commit = (await self._log.read(base - 1, 1))[0]
            stored = events_in(commit.body)
            known = Head(commit.number, commit.position - 1 + stored, commit.recorded_at, commit.digest)
        await follow(self._log, known, first.number, self._limits.read_bytes_max, slicer)


def _replay(write: WriteState, numbers: Sequence[int], chapter: Chapter) -> None:
    """Apply a commit to each model, and to the ledger, unless its snapshot has it already."""
    number = chapter.head.number
    *of_models, of_ledger = numbers
    if number > max(of_models):
        write.apply(chapter.events, chapter.start)
    else:
        for index, seen in enumerate(of_models):
            if number > seen:
                write.apply_to(index, chapter.events, chapter.start)
    if number > of_ledger:
        write.ledger.replay(number, chapter.start, chapter.records)


async def _restored(store: SnapshotStore, snapshot: Snapshot, state: Any, slicer: Slicer) -> Any:
    checksum = blake2b(digest_size=DIGEST_BYTES)
    index = 0
    while index < snapshot.pieces:
        pieces = await store.pieces(snapshot, index)
        if not pieces:
            raise SnapshotMismatch(snapshot.part, f"piece {index:,} of {snapshot.pieces:,} is missing")
        for piece in pieces:
            checksum.update(piece)
            state.restore(piece)
            index += 1
            if slicer.is_over:
                await slicer.rest()
    if checksum.digest() != snapshot.checksum:
        raise SnapshotMismatch(snapshot.part, "its pieces are damaged")
    return state


def _set_aside(part: str, reason: str) -> None:
    _log.warning("snapshot_set_aside", part=part, reason=reason)
