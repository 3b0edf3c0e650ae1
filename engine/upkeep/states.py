"""The states that a log and its snapshots make, looked at from outside, beside whoever writes: what is parked, and
whether snapshots say what the log says.

Invariants: nothing is changed, but that a file of snapshots is made if there is none; the loop is held in slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import zip_longest

import anyio

from millstream.engine.application.app import App
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.read.state import Parked
from millstream.engine.recovery.recovery import Recovered, Recovery
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore

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
    async with _snapshots_of(log) as snapshots:
        recovered = await _recovered(log, app, snapshots)
    return [parked for read in recovered.reads for waiting in read.parked.values() for parked in waiting]


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
    async with _snapshots_of(log) as snapshots:
        used = _parts(await _recovered(log, app, snapshots))
    made = _parts(await _recovered(log, app, None))
    return [mine.name for mine, other in zip(used, made, strict=True) if not _equal(mine, other)]


@asynccontextmanager
async def _snapshots_of(log: Log) -> AsyncIterator[SnapshotStore]:
    store = log.snapshots
    await store.open()
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


async def _recovered(log: Log, app: App, snapshots: SnapshotStore | None) -> Recovered:
    return await Recovery(app, log, Limits(), snapshots=snapshots).recover(Slicer(_SLICE_MS))


def _parts(recovered: Recovered) -> list[Part]:
    return [*recovered.write.parts(recovered.head), *(read.part() for read in recovered.reads)]


def _equal(mine: Part, other: Part) -> bool:
    if mine.state == other.state:
        return mine.notes == other.notes
    ours, theirs = mine.state.snapshot(), other.state.snapshot()
    if ours is None or theirs is None:
        return True  # it has no snapshots: both were made from the log
    return all(one == two for one, two in zip_longest(ours, theirs))
