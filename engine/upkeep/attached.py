"""Opening a log for reading, beside its writer, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.stores.address import log_at
from millstream.engine.stores.capabilities import Inspectable
from millstream.engine.stores.port import Log

__all__ = ["attached"]


@asynccontextmanager
async def attached(address: str | Path | Log) -> AsyncIterator[tuple[Log, str]]:
    """The log that an address names, open for reading, and the name of the application that it belongs to.

    Nothing is locked, made or changed, so a writer may have it open, here or in another process.

    Args:
        address: what `Engine` takes as ``log``.

    Raises:
        LogRefused: it is not there, not a log of millstream's, or of a newer format.
        LogCorrupt: the store can't be read at all.
    """
    log = log_at(address)
    if isinstance(log, Inspectable) and log is not address:
        log = log.unchecked()  # verifying looks at the structure; showing shows what is left of a log
    application = await log.attach()
    try:
        yield log, application
    finally:
        await to_the_end(log.close())
