"""The states that a log and its snapshots make, looked at from outside, beside whoever writes: what is parked, and
whether snapshots say what the log says.

Invariants: nothing is changed, but that a file of snapshots is made if there is none; the loop is held in slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import zip_longest

import anyio
import msgspec

from millstream.engine.application.app import App
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.read.state import Parked
from millstream.engine.recovery.recovery import Recovered, Recovery
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore

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
    async with _snapshots_of(log) as snapshots:
        recovered = await _recovered(log, app, snapshots)
    return [parked for read in recovered.reads for waiting in read.parked.values() for parked in waiting]


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
    async with _snapshots_of(log) as snapshots:
        recovery = Recovery(app, log, Limits(), snapshots=snapshots)
        used = await recovery.recover(Slicer(_SLICE_MS))
        there = {snapshot.part: snapshot.checksum not in recovery.useless for snapshot in await snapshots.latest()}
    made = await _recovered(log, app, None)
    faults = {read.part().name: read.fault for read in made.reads if read.fault is not None}
    return [
        _compared(mine, other, there.get(mine.name), faults.get(mine.name))
        for mine, other in zip(_parts(used), _parts(made), strict=True)
    ]


async def differing_parts(log: Log, app: App) -> list[str]:
    """The names of those that `compared_states` finds to differ; one that can't be compared is not among them.

    Raises:
        LogCorrupt, EventsUnreadable, ApplyFailed: as opening an engine does.
    """
    return [found.name for found in await compared_states(log, app) if found.differs]


def _compared(mine: Part, other: Part, is_used: bool | None, fault: tuple[int, BaseException] | None) -> ComparedState:
    """What is to be said of one part.

    Args:
        mine: as its snapshot has it, and what came after that.
        other: as the log makes it.
        is_used: None where there is no snapshot of it, False where that was of no use.
        fault: where the log could not make it, and why.
    """
    if fault is not None:
        position, error = fault
        problem = f"the log does not make it: the event at position {position:,} can't be applied: {error!r}"
        return ComparedState(mine.name, bool(is_used), True, problem)
    if mine.state.snapshot() is None:
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
