"""A copy of a log, taken while it is written, and known to be whole before it has its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from millstream.engine.errors import LogCorrupt, LogRefused
from millstream.engine.stores.address import log_at
from millstream.engine.stores.capabilities import Copyable
from millstream.engine.stores.port import Log
from millstream.engine.upkeep.atomic_file import created_whole
from millstream.engine.upkeep.attached import attached
from millstream.engine.upkeep.errors import BackupFailed
from millstream.engine.upkeep.verified import Verified
from millstream.engine.upkeep.verify import verify_log

__all__ = ["backup_log"]


async def backup_log(
    log: str | Path | Log, target: str | Path, *, progress: Callable[[Verified], None] | None = None
) -> Verified:
    """Copy a log to a new file, also while it is written, and verify the copy.

    The copy holds every commit that was acknowledged before the call, and perhaps later ones; never half of one. It is
    itself a log: opening it, or copying it back, is how a backup is restored. While it is taken the writer goes on, and
    SQLite's write-ahead log grows by what is written.

    Args:
        log: an address, or a log that can be copied, as one on SQLite; whether it is open does not matter.
        target: the copy. It is written beside that place, and is there once it is whole and durable.
        progress: called while the copy is verified, with what was found until then.

    Returns:
        What the copy holds; its ``digest`` is worth noting elsewhere.

    Raises:
        LogRefused: the store has no file, or the log can't be attached.
        TargetRefused: something is at ``target`` already, or its folder is not there. A `LogRefused`.
        LogCorrupt: the log is damaged. There is no copy then.
        BackupFailed: the copy could not be written. A `LogRefused`.
    """
    source, target = log_at(log), Path(target)
    if not isinstance(source, Copyable):
        raise LogRefused(source.name, "it has no file that could be copied", "export it instead")
    try:
        async with created_whole(target, like=source.path) as part:
            return await _verify_copy(source.name, await source.copy_to(part), progress)
    except OSError as error:
        raise BackupFailed(source.name, str(target), str(error)) from error


async def _verify_copy(source: str, copy: Log, progress: Callable[[Verified], None] | None) -> Verified:
    try:
        async with attached(copy) as (log, _):
            return await verify_log(log, progress=progress)
    except LogCorrupt as error:  # it is copied as it is, so what is wrong with the copy is wrong with the log
        raise LogCorrupt(source, error.commit, error.problem) from error
