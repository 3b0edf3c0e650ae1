"""The states that a log and its snapshots make, looked at from outside, beside whoever writes: what is parked, and
whether snapshots say what the log says.

Invariants: nothing is changed, but that a file of snapshots is made if there is none; the loop is held in slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest

from millstream.engine.application.app import App
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observers
from millstream.engine.read.parked import Parked
from millstream.engine.read.state import ReadState
from millstream.engine.recovery.catalog import Catalog
from millstream.engine.recovery.recovery import Recovery
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.write.parts import WriteParts

__all__ = ["differing_parts", "parked_in"]

_SLICE_MS = 5.0


async def parked_in(log: Log, app: App) -> list[Parked]:
    """What the views of an application have parked, as an engine that opened the log now would find it.

    Args:
        log: open, or attached.
        app: whose log it is.

    Raises:
        LogCorrupt, EventsUnreadable, ApplyFailed: as opening an engine does.
    """
    views = _views(app)
    async with _snapshots_of(log) as snapshots:
        await _recover([*_models(app), *views], log, app, snapshots)
    return [parked for view in views for parked in view.left_out]


async def differing_parts(log: Log, app: App) -> list[str]:
    """The models and views whose state is another one when it is made from its snapshot than from the log alone.

    There is none unless an ``@applies`` method changed its mind without a new ``code_version``, depends on more than
    the state and the event, or keeps one object in two places. Needs the memory for two states.

    Args:
        log: open, or attached.
        app: whose log it is.

    Raises:
        LogCorrupt, EventsUnreadable, ApplyFailed: as opening an engine does.
    """
    used, made = [*_models(app), *_views(app)], [*_models(app), *_views(app)]
    async with _snapshots_of(log) as snapshots:
        await _recover(used, log, app, snapshots)
    await _recover(made, log, app, None)
    return [mine.name for mine, other in zip(used, made, strict=True) if not _equal(mine, other)]


@asynccontextmanager
async def _snapshots_of(log: Log) -> AsyncIterator[SnapshotStore]:
    store = log.snapshots
    await store.open()
    try:
        yield store
    finally:
        await to_the_end(store.close())


def _models(app: App) -> list[Part]:
    return WriteParts(app, Limits().receipts_max).all


def _views(app: App) -> list[ReadState]:
    return [ReadState(app, view, parked_max=Limits().view_parked_max, observer=Observers()) for view in app.views]


async def _recover(parts: Sequence[Part], log: Log, app: App, snapshots: SnapshotStore | None) -> None:
    await Recovery(app, log, Limits(), Catalog(snapshots, log, Observers())).recover(parts, Slicer(_SLICE_MS))


def _equal(mine: Part, other: Part) -> bool:
    if mine.state == other.state:
        return mine.notes() == other.notes()
    ours, theirs = mine.snapshot(), other.snapshot()
    if ours is None or theirs is None:
        return True  # it has no snapshots: both were made from the log
    return all(one == two for one, two in zip_longest(ours, theirs))
