"""What an open engine owes and has parked, for whoever looks after it.

Here: `Engine.agenda`. Not here: the agenda itself (`agenda`), and what becomes of what is asked for (`batch`).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import cast

from msgspec.structs import replace

from millstream.engine.application.messages import Command, Receipt
from millstream.engine.application.options import Deadline, Terms
from millstream.engine.errors import NotOnAgenda
from millstream.engine.loop.home import Home
from millstream.engine.write.entries import AgendaEntry, Effect, Settlement, name_of
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

    def entries(self) -> list[AgendaEntry]:
        """All that is owed, in the order in which it is decided; then timers, in the order in which they were set; and
        then all that is parked. None while it is rebuilt.

        What older code of the application owes, and today's has no reaction for, is among them, and waits.

        Raises:
            WrongLoop: the engine was opened on another event loop.
        """
        self._home.require()
        return [] if self._writer.state is None else list(map(_own, self._writer.state.agenda))

    async def retry(self, entry: str, *, again: bool = False) -> bool:
        """Let what is parked be decided once more: a reaction from its start, a timer's command. Returns False if it
        failed again, and is parked.

        Args:
            entry: its ``id``: ``event:812/Selling.placed``, ``timer:hold/o7@s1``.
            again: also where commands of a reaction had been decided: they stand, and are sent a second time.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: commands of it were decided, and ``again`` is not said; or it is not parked.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        return (await self._settle(entry, "retried", again)).parked == 0

    async def fire_now(self, entry: str) -> bool:
        """Send the command of a timer before its time. Returns False if it failed, and the timer is parked.

        Args:
            entry: its ``id``: ``timer:hold/o7@s1``.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: it is no timer that waits.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        return (await self._settle(entry, "fired")).parked == 0

    async def drop(self, entry: str) -> None:
        """Strike what is owed, waits for its time, or is parked: it is never decided. The log says so.

        Args:
            entry: its ``id``.

        Raises:
            NotOnAgenda: there is no such entry.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        await self._settle(entry, "dropped")

    async def _settle(self, entry: str, how: str, again: bool = False) -> Receipt:
        self._home.require()
        name = name_of(entry)
        if name is None:
            raise NotOnAgenda(entry, len(self.entries()))
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        asked = cast(Command, Settlement(name, how, again))  # `batch` tells it apart
        await self._writer.mailbox.put((promise, asked, _BY_ITSELF))
        return await promise


def _own(entry: AgendaEntry) -> AgendaEntry:
    """An entry for whoever asks: what can be changed of it is a copy."""
    extra = entry.metadata.extra
    if extra is None and not isinstance(entry, Effect):
        return entry
    return replace(entry, metadata=replace(entry.metadata, extra=None if extra is None else dict(extra)))
