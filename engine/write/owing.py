"""What an open engine owes and has parked, for whoever looks after it.

Here: `Engine.agenda`. Not here: the agenda itself (`agenda`), and what becomes of what is asked for (`batch`).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import cast

from millstream.engine.application.messages import Command, Receipt
from millstream.engine.application.options import Deadline, Terms
from millstream.engine.errors import InvalidMessage
from millstream.engine.loop.home import Home
from millstream.engine.write.agenda import Entry, Settlement
from millstream.engine.write.writer import Writer

__all__ = ["Owing"]

#: Not for the writer to look at: it makes `batch` take what has it by itself.
_BY_ITSELF = Terms(deadline=Deadline(inf, inf))


class Owing:
    """The agenda of one engine.

    Args:
        writer: the engine's.
        home: the loop that it may be used on.
    """

    def __init__(self, writer: Writer, home: Home) -> None:
        self._writer = writer
        self._home = home

    def entries(self) -> list[Entry]:
        """All that is owed, in the order in which it is decided, and then all that is parked; none while it is rebuilt.

        An application without a reaction has none: what older code of it owes, ``millstream agenda list`` shows.

        Raises:
            WrongLoop: the engine was opened on another event loop.
        """
        self._home.require()
        return [] if self._writer.state is None else list(self._writer.state.agenda)

    async def retry(self, position: int, by: str, *, again: bool = False) -> bool:
        """Let a parked reaction be decided once more, from its start. Returns False if it failed again, and is parked.

        Args:
            position: of the event that it reacts to.
            by: the reaction's name.
            again: also where commands of it had been decided: they stand, and are sent a second time.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: commands of it were decided, and ``again`` is not said; or it is owed, and tried anyway.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        return (await self._settle(Settlement(position, by, "retried", again))).parked == 0

    async def drop(self, position: int, by: str) -> None:
        """Strike a reaction that is owed or parked: it is never decided. The log says so.

        Raises:
            NotOnAgenda: there is no such entry.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        await self._settle(Settlement(position, by, "dropped"))

    async def _settle(self, settlement: Settlement) -> Receipt:
        self._home.require()
        if type(settlement.position) is not int or not isinstance(settlement.by, str):
            raise InvalidMessage("agenda", "an entry is named by a position, a number, and a reaction's name, a text")
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        await self._writer.mailbox.put((promise, cast(Command, settlement), _BY_ITSELF))  # `batch` tells it apart
        return await promise
