"""What an open engine owes and has parked, for its operator.

Here: `Engine.agenda`. Not here: the agenda itself (`agenda`), and what becomes of what is asked for (`batch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from math import inf
from typing import Any, cast, get_args

from msgspec.structs import replace

from millstream.engine.application.agenda import PAGE_ENTRIES, PAGE_ENTRIES_MAX, AgendaPage, EntryKind, Verdict
from millstream.engine.application.messages import Command, Receipt
from millstream.engine.application.options import Deadline, Terms
from millstream.engine.errors import InvalidMessage, NotOnAgenda, WriterUnavailable
from millstream.engine.loop.home import Home
from millstream.engine.write.entries import AgendaEntry, Effect, Looking, Settlement, name_of
from millstream.engine.write.listing import Found, page_of
from millstream.engine.write.pages import Pages
from millstream.engine.write.writer import Writer

__all__ = ["Owing"]

#: Not for the writer to look at: it makes `batch` take what has it by itself.
_BY_ITSELF = Terms(deadline=Deadline(inf, inf))

#: What the log says of an entry of which this becomes.
_SETTLED: Mapping[Verdict, str] = {"retry": "retried", "drop": "dropped", "fire_now": "fired"}


class Owing:
    """The agenda of one engine.

    Args:
        writer: the engine's.
        home: the loop that it may be used on.
    """

    def __init__(self, writer: Writer, home: Home) -> None:
        self._writer = writer
        self._home = home
        self._pages = Pages()

    def entries(self) -> list[AgendaEntry]:
        """All that is owed, in the order in which it is decided; then timers, in the order in which they were set; and
        then all that is parked: as it is decided, which may not be durable yet.

        What older code of the application owes, and today's has no reaction for, is among them, and waits.

        Raises:
            WriterUnavailable: the agenda is rebuilt after a failure of the store; or the writer has stopped.
            WrongLoop: the engine was opened on another event loop.
        """
        self._home.require()
        if self._writer.state is None:
            self._writer.mailbox.wake()
            raise WriterUnavailable("what it owes is not known while its state is rebuilt")
        return list(map(_own, self._writer.state.agenda))

    async def page(
        self,
        *,
        kind: EntryKind | None = None,
        parked: bool | None = None,
        after: str | None = None,
        entry: str | None = None,
        limit: int = PAGE_ENTRIES,
    ) -> AgendaPage:
        """Some of what is owed, due later or parked, as another process may see it: as of what is durable.

        All pages together have what there was at the first one: an entry that is still there is on exactly one, as it
        is by then. What comes meanwhile is on none. What the pages are to have is remembered of the `PAGINGS_MAX` who
        began last, for as long as the engine is open.

        Args:
            kind: only such entries: ``event``, ``timer``, ``effect`` or ``outcome``, as their ids begin.
            parked: only those that are parked, or that are not.
            after: what the page before this one has as ``next``.
            entry: only the one with this ``id``.
            limit: how many, `PAGE_ENTRIES_MAX` at most; 0 only tells how many there are. A page also ends where its
                messages have `PAGE_BYTES`.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: an argument is not what it should be; or what was to follow ``after`` is remembered no more.
            CommitFailed, OutcomeUnknown, Fenced: the log failed at what was decided before.
            Overloaded, WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        if kind is not None and kind not in get_args(EntryKind):
            raise InvalidMessage("agenda", f"`kind` is one of {', '.join(get_args(EntryKind))}, not {kind!r:.80}")
        if after is not None and type(after) is not str:
            raise InvalidMessage("agenda", f"`after` is what the page before it has as `next`, not {after!r:.80}")
        if parked not in (None, True, False):
            raise InvalidMessage("agenda", f"`parked` is true, false, or left out, not {parked!r:.80}")
        if not 0 <= limit <= PAGE_ENTRIES_MAX:
            raise InvalidMessage("agenda", f"`limit` is from 0 to {PAGE_ENTRIES_MAX}, not {limit!r:.80}")
        after = None if entry is not None else after
        names, at = (None, 0) if after is None else self._pages.find(after)
        receipt = await self._put(Looking(kind, parked, entry, limit, names, at))
        found = cast(Found, receipt.answer)
        if found.is_last or not limit:
            return page_of(found, None, receipt.position)
        pages, at = self._pages, found.at
        following = pages.begin(found.names, at) if after is None else pages.after(after, at)
        return page_of(found, following, receipt.position)

    async def settle(self, entry: str, verdict: Verdict, *, again: bool = False) -> Receipt:
        """Let one of these become of an entry: ``retry``, ``drop`` or ``fire_now``, which the methods of these names
        say more of. Returns when it is durable.

        Args:
            entry: its ``id``.
            verdict: which.
            again: see `retry`.

        Returns:
            The receipt of the commit: a token. It has one ``parked`` if the entry failed again.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: this can't become of it; see `retry` and `fire_now`.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            Overloaded, WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        if verdict not in _SETTLED:
            raise InvalidMessage("settle", f"a verdict is one of {', '.join(_SETTLED)}, not {verdict!r:.80}")
        name = name_of(entry)
        if name is None:
            raise NotOnAgenda(entry, 0 if self._writer.state is None else len(self._writer.state.agenda))
        return await self._put(Settlement(name, _SETTLED[verdict], again))

    async def retry(self, entry: str, *, again: bool = False) -> bool:
        """Let what is parked be decided once more: a reaction from its start, a timer's command. Returns False if it
        failed again, and is parked. An effect is owed again, and performed in its turn: True says no more.

        Args:
            entry: its ``id``: ``event:812/Selling.placed``, ``timer:hold/o7@s1``.
            again: also where commands of a reaction had been decided: they stand, and are sent a second time.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: commands of it were decided, and ``again`` is not said; or it is not parked.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            Overloaded, WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        return (await self.settle(entry, "retry", again=again)).parked == 0

    async def fire_now(self, entry: str) -> bool:
        """Send the command of a timer before its time. Returns False if it failed, and the timer is parked.

        Args:
            entry: its ``id``: ``timer:hold/o7@s1``.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: it is no timer that waits.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            Overloaded, WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        return (await self.settle(entry, "fire_now")).parked == 0

    async def drop(self, entry: str) -> None:
        """Strike what is owed, waits for its time, or is parked: it is never decided. The log says so.

        Args:
            entry: its ``id``.

        Raises:
            NotOnAgenda: there is no such entry.
            CommitFailed, OutcomeUnknown, Fenced: the log failed.
            Overloaded, WriterUnavailable, EngineClosed: the engine takes nothing.
            WrongLoop: it was opened on another event loop.
        """
        await self.settle(entry, "drop")

    async def _put(self, asked: Looking | Settlement) -> Receipt[Any]:
        promise: asyncio.Future[Receipt[Any]] = asyncio.get_running_loop().create_future()
        await self._writer.mailbox.put((promise, cast(Command, asked), _BY_ITSELF))  # `batch` tells it apart
        return await promise


def _own(entry: AgendaEntry) -> AgendaEntry:
    """An entry for a caller: what can be changed of it is a copy."""
    extra = entry.metadata.extra
    if extra is None and not isinstance(entry, Effect):
        return entry
    return replace(entry, metadata=replace(entry.metadata, extra=None if extra is None else dict(extra)))
