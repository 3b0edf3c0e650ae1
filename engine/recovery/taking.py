"""Taking snapshots: a second state is made from the snapshots before and the log, and stored.

Here: one taking, by either of two: the engine in its own loop (`snapshotter`), or another process, which reads the log
beside its writer. Not here: when (`snapshotter`), and how another process is started (`process`).

Invariant: what is stored is durable in the very log that it is stored for. An attached log shows nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from millstream.engine.application.app import App
from millstream.engine.errors import LogRefused
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.collector import collecting_young_only
from millstream.engine.loop.releasing import drained
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.read.state import ReadState
from millstream.engine.recovery.catalog import Catalog
from millstream.engine.recovery.recovery import Recovery
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.capabilities import Reachable, snapshots_of
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.port import Log
from millstream.engine.write.parts import WriteParts

__all__ = ["Taken", "new_parts", "require_reachable", "take", "take_attached"]

#: In a process that does nothing else, work still rests now and then, so that it can be ended.
_SLICE_MS = 20.0


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What one taking has come to."""

    #: Up to which event the states were made.
    position: int
    #: The names of the parts that were stored. Those that had not moved are not among them.
    stored: tuple[str, ...]
    #: Of the pieces that were stored.
    size_bytes: int
    seconds: float
    #: Whether everything is in snapshots now that can be.
    is_whole: bool
    #: The parts that could not be put into pieces: a replay of the whole log for each next try.
    broken: tuple[str, ...] = ()


def new_parts(app: App, limits: Limits) -> list[Part]:
    """All parts as they are before the first event. What the views leave out is not reported."""
    views = [
        ReadState(app, view, parked_max=limits.view_parked_max, observer=Observer()) for view in app.views_in_memory
    ]
    return [*WriteParts(app, limits).all, *views]


async def take(recovery: Recovery, catalog: Catalog, parts: Sequence[Part], slicer: Slicer, *, beside: bool) -> Taken:
    """Bring parts to the log's head, store those that have moved, and empty them. Within `Catalog.taking`.

    Args:
        recovery: of the log.
        catalog: of its snapshots.
        parts: all of the application, as new.
        slicer: says when to rest.
        beside: as `Recovery.recover` takes it.

    Raises:
        Exception: the log failed.
    """
    started = elapsed()
    parts = [part for part in parts if catalog.wants(part)]
    stored_bytes = catalog.stored_bytes
    with collecting_young_only():
        recovered = await recovery.recover(parts, slicer, beside=beside)
        try:
            moved = await catalog.moved(part for part in parts if part.is_sound and part.head.number)
            stored = [part.name for part in moved if await catalog.keep(part, slicer)]
        finally:
            await _empty(parts, slicer)
    return Taken(
        position=recovered.head.position,
        stored=tuple(stored),
        size_bytes=catalog.stored_bytes - stored_bytes,
        seconds=elapsed() - started,
        is_whole=len(stored) == len(moved),
        broken=tuple(sorted(catalog.broken)),
    )


def require_reachable(log: Log) -> str:
    """The address by which another process opens a log.

    Raises:
        LogRefused: there is none, as for a log in memory.
    """
    if isinstance(log, Reachable):
        return log.address
    raise LogRefused(
        log.name,
        "no other process can read it, so none can take its snapshots",
        'take them in the writer\'s own process: Engine(…, snapshots="loop")',
    )


async def take_attached(
    log: Log,
    app: App,
    limits: Limits,
    observer: Observer,
    *,
    log_id: str | None = None,
    without: Collection[str] = (),
) -> Taken:
    """Take snapshots of a log, beside its writer or without one.

    Args:
        log: attached to, and closed again.
        app: whose log it is.
        limits: those of the engine that will use the snapshots.
        observer: is called with what is wrong with snapshots.
        log_id: the log that it must be.
        without: names of parts to leave out.

    Raises:
        LogRefused: the log is not there, is another one or another application's, or no other process can read it.
        SnapshotsLocked: another process takes snapshots of it already.
        LogCorrupt, EventsUnreadable, ApplyFailed: as opening an engine does.
        Exception: a store failed.
    """
    require_reachable(log)
    owner = await log.attach()
    try:
        require_owner(log.name, owner, app.name)
        if log_id is not None and log.id != log_id:
            raise LogRefused(log.name, f"it is log {log.id}, and not {log_id}", "put that one back")
        store = snapshots_of(log)
        async with store.taking():
            await store.open(observer)
            try:
                catalog = Catalog(store, log, observer, kept_max=limits.snapshots_kept)
                parts = [part for part in new_parts(app, limits) if part.name not in without]
                return await take(Recovery(app, log, limits, catalog), catalog, parts, Slicer(_SLICE_MS), beside=False)
            finally:
                await to_the_end(store.close())
    finally:
        await to_the_end(log.close())


async def _empty(parts: Iterable[Part], slicer: Slicer) -> None:
    for part in parts:
        for _ in drained(part.state):
            if slicer.is_over:
                await slicer.rest()
