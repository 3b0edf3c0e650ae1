"""Taking a log for writing, once it is one's turn."""

from __future__ import annotations

import anyio

from millstream.engine.errors import LogLocked
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.port import Log

__all__ = ["opened_in_turn", "takes_commits"]


async def opened_in_turn(
    log: Log, application: str, address: str | None, seconds: float, observer: Observer
) -> Leadership:
    """Open a log for writing, once no other process has it open.

    Args:
        log: not open.
        application: whose log it is.
        address: where the writer can be reached, for those who ask the log.
        seconds: how long to wait for another writer; without end if they are infinite.
        observer: is called when it waits.

    Raises:
        LogLocked: the time is over, and another writer has it open still.
        LogRefused, LogCorrupt: as `Log.open`.
    """
    until, is_told = elapsed() + seconds, False
    while True:
        try:
            return await to_the_end(log.open(application, address))
        except LogLocked:
            if elapsed() >= until:
                raise
            await to_the_end(log.close())
        if not is_told:
            observer.waits_for_lock(log=log.name, seconds=seconds)
            is_told = True
        with anyio.move_on_after(until - elapsed()):
            await log.wait_for_turn()


async def takes_commits(log: Log, observer: Observer) -> bool:
    """Make durable what was read of a log that is open for writing, and see whether its store takes anything.

    A commit that a process wrote and did not sync before it was killed is read by the next one, and lost with the
    machine: no caller is to see it before it is as durable as any other.

    Args:
        log: open for writing.
        observer: is called if it takes nothing.
    """
    try:
        await log.probe()
    except Exception as error:  # noqa: BLE001 - queries can be answered; commands get the reason
        observer.store_failed(log=log.name, error=error)
        return False
    return True
