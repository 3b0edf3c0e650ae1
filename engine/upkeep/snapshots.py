"""Taking snapshots of a log from outside, beside its writer or without one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from millstream.engine.application.app import App
from millstream.engine.limits import Limits
from millstream.engine.observers import Observer, Observers
from millstream.engine.recovery.taking import take_attached
from millstream.engine.stores.address import log_at
from millstream.engine.stores.port import Log

__all__ = ["TakenSnapshots", "take_snapshots"]


class TakenSnapshots(msgspec.Struct, frozen=True):
    """What was taken: up to which event, of which parts, and how large it is.

    ``parts`` are those that were stored; what has not moved since its last snapshot is not among them. ``is_whole``
    says whether everything is in a snapshot now that can be; a log line says why it is not.
    """

    position: int
    parts: tuple[str, ...]
    size_bytes: int
    seconds: float
    is_whole: bool


async def take_snapshots(
    log: str | Path | Log, app: App, *, limits: Limits | None = None, observers: Iterable[Observer] = ()
) -> TakenSnapshots:
    """Make an application's states from a log's last snapshots and what came after them, and store them as the next.

    The log is only read, so its writer may go on; what it stores is durable in the log. Interrupted or killed at any
    moment, it leaves the snapshots before it. Needs the memory for one state.

    Args:
        log: what `Engine` takes, in a store that other processes can read.
        app: whose log it is.
        limits: the engine's. With a smaller ``receipts_max`` that engine makes its receipts from the whole log.
        observers: are called with what is wrong with snapshots, beside the log lines.

    Raises:
        LogRefused: the log is not there, is another application's, or no other process can read it.
        SnapshotsLocked: another process takes snapshots of it already. A `LogLocked`.
        LogCorrupt, EventsUnreadable, ApplyFailed: as opening an engine does.
        Exception: a store failed.
    """
    taken = await take_attached(log_at(log), app, limits or Limits(), Observers(observers))
    return TakenSnapshots(taken.position, taken.stored, taken.size_bytes, taken.seconds, taken.is_whole)
