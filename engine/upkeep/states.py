"""The states that a log and its snapshots make, looked at from outside, beside its writer: what is parked, and
whether snapshots say what the log says.

Invariants: nothing is changed, but that a file of snapshots is made if there is none; the loop is held in slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest

import msgspec

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
from millstream.engine.stores.capabilities import snapshots_of
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.write.parts import WriteParts

__all__ = ["ComparedState", "compared_states", "differing_parts", "parked_in"]

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


class ComparedState(msgspec.Struct, frozen=True):
    """What comparing one model or view, or the write index (``ledger``), has found.

    ``is_compared`` says whether there was a snapshot to compare with. ``problem`` is what is wrong; of one that was not
    compared, why not. None for a state that was compared and is the same.
    """

    name: str
    is_compared: bool
    differs: bool
    problem: str | None = None


async def compared_states(log: Log, app: App) -> list[ComparedState]:
    """Make each state twice, from its snapshot and from the log alone, and compare the two.

    They are the same unless an ``@applies`` method changed its mind without a new ``code_version``, depends on more
    than the state and the event, or keeps one object in two places. A view that the log does not make at all differs.
    Needs the memory for two states.

    Args:
        log: open, or attached.
        app: whose log it is.

    Raises:
        LogCorrupt, EventsUnreadable, ApplyFailed: as opening an engine does.
    """
    used, made = [*_models(app), *_views(app)], [*_models(app), *_views(app)]
    async with _snapshots_of(log) as snapshots:
        catalog = await _recover(used, log, app, snapshots)
        there = await catalog.of_use()
    await _recover(made, log, app, None)
    return [_compared(mine, other, there.get(mine.name)) for mine, other in zip(used, made, strict=True)]


async def differing_parts(log: Log, app: App) -> list[str]:
    """The names of those that `compared_states` finds to differ; one that can't be compared is not among them.

    Raises:
        LogCorrupt, EventsUnreadable, ApplyFailed: as opening an engine does.
    """
    return [found.name for found in await compared_states(log, app) if found.differs]


def _compared(mine: Part, other: Part, is_used: bool | None) -> ComparedState:
    """What is to be said of one part.

    Args:
        mine: as its snapshot has it, and what came after that.
        other: as the log makes it.
        is_used: None where there is no snapshot of it, False where that was of no use.
    """
    if other.fault is not None:
        position, error = other.fault
        problem = f"the log does not make it: the event at position {position:,} can't be applied: {error!r}"
        return ComparedState(mine.name, bool(is_used), True, problem)
    if mine.snapshot() is None:
        return ComparedState(mine.name, False, False, "it has no snapshots")
    if not _equal(mine, other):
        problem = "it is not what the log makes: raise its code_version, or mend what it applies"
        return ComparedState(mine.name, bool(is_used), True, problem)
    if is_used:
        return ComparedState(mine.name, True, False)
    why = "there is no snapshot of it" if is_used is None else "its snapshot was of no use, and set aside"
    return ComparedState(mine.name, False, False, why)


@asynccontextmanager
async def _snapshots_of(log: Log) -> AsyncIterator[SnapshotStore]:
    store = snapshots_of(log)
    await store.open()
    try:
        yield store
    finally:
        await to_the_end(store.close())


def _models(app: App) -> list[Part]:
    return WriteParts(app, Limits()).all


def _views(app: App) -> list[ReadState]:
    return [
        ReadState(app, view, parked_max=Limits().view_parked_max, observer=Observers()) for view in app.views_in_memory
    ]


async def _recover(parts: Sequence[Part], log: Log, app: App, snapshots: SnapshotStore | None) -> Catalog:
    catalog = Catalog(snapshots, log, Observers())
    await Recovery(app, log, Limits(), catalog).recover(parts, Slicer(_SLICE_MS))
    return catalog


def _equal(mine: Part, other: Part) -> bool:
    if mine.state == other.state:
        return mine.notes() == other.notes()
    ours, theirs = mine.snapshot(), other.snapshot()
    if ours is None or theirs is None:
        return True  # it has no snapshots: both were made from the log
    return all(one == two for one, two in zip_longest(ours, theirs))
