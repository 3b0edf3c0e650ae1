"""The agenda of an application that runs elsewhere.

Here: what is owed, due later and parked there, and what is to become of it. Not here: how a call gets there (`link`).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from millstream.engine.application.agenda import (
    PAGE_ENTRIES,
    PAGE_ENTRIES_MAX,
    AgendaItem,
    AgendaPage,
    EntryKind,
    Verdict,
)
from millstream.engine.application.messages import Receipt
from millstream.engine.application.validation import encode
from millstream.engine.client.calls import Call
from millstream.engine.client.link import Link
from millstream.engine.errors import RemoteError
from millstream.engine.wire.errors import INTERNAL_ERROR

__all__ = ["ClientAgenda"]

T = TypeVar("T")


class ClientAgenda:
    """What is owed, due later and parked where a link leads to; see `Engine.agenda`.

    Args:
        link: the client's.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def page(
        self,
        *,
        kind: EntryKind | None = None,
        parked: bool | None = None,
        after: str | None = None,
        entry: str | None = None,
        limit: int = PAGE_ENTRIES,
    ) -> AgendaPage:
        """Some of its entries, as of what is durable, and how many there are in all.

        All pages together have what there was at the first one: an entry that is still there is on exactly one, as it
        is by then. What comes meanwhile is on none.

        Args:
            kind: only such entries: ``event``, ``timer``, ``effect`` or ``outcome``, as their ids begin.
            parked: only those that are parked, or that are not.
            after: what the page before this one has as ``next``.
            entry: only the one with this ``id``.
            limit: how many, 500 at most; 0 only tells how many there are.

        Raises:
            NotOnAgenda: there is no such entry.
            ProtocolViolated, InvalidMessage: an argument is not what it should be; or what was to follow ``after`` is
                remembered no more, as the writer's process is another, or several have begun to look since.
            CommitFailed, OutcomeUnknown, Fenced: the log failed at what was decided before.
            WriterUnavailable, EngineClosed, Overloaded: the writer takes nothing.
            LimitReached: too much is asked of the agenda at once, or too many calls wait.
            NotLeader: the server is a replica that does not know the writer.
            ConnectionLost: the server is out of reach.
            NotAuthenticated: the server wants a token.
            RemoteError: what came back is no page.
        """
        given = {"kind": kind, "parked": parked, "after": after, "entry": entry, "limit": limit}
        return await self._call(
            "agenda", {name: value for name, value in given.items() if value is not None}, AgendaPage
        )

    async def entries(self, *, kind: EntryKind | None = None, parked: bool | None = None) -> list[AgendaItem]:
        """All entries that are there at the first page and at their own, page by page, each once.

        There may be as many as the server's ``timers_max``, a million, each of some hundred bytes.

        Args:
            kind: as `page` takes it.
            parked: the same.

        Raises:
            as `page` does.
        """
        page = await self.page(kind=kind, parked=parked, limit=PAGE_ENTRIES_MAX)
        found = page.entries
        while page.next is not None:
            page = await self.page(kind=kind, parked=parked, after=page.next, limit=PAGE_ENTRIES_MAX)
            found += page.entries
        return found

    async def find(self, entry: str) -> AgendaItem:
        """One entry.

        Args:
            entry: its ``id``: ``event:812/Selling.placed``, ``timer:hold/o7@s1``, ``effect:812/Payments.charge``.

        Raises:
            NotOnAgenda: there is none of that name.
            and what `page` raises.
        """
        return (await self.page(entry=entry)).entries[0]

    async def settle(self, entry: str, verdict: Verdict, *, again: bool = False) -> Receipt:
        """Let something become of an entry: ``retry``, ``drop`` or ``fire_now``.

        Args:
            entry: its ``id``.
            verdict: which.
            again: see `retry`.

        Returns:
            The receipt: a token. It has one ``parked`` if the entry failed again.

        Raises:
            NotOnAgenda: there is no such entry.
            InvalidMessage: this can't become of it; see `retry` and `fire_now`.
            ConnectionLost: the server is out of reach; ``sent`` tells whether it may have happened: look before you
                ask for it once more.
            NotPermitted: the token is for less than that.
            RemoteError: what came back is no receipt.
            and what `page` raises.
        """
        told = {"entry": entry, "verdict": verdict, **({"again": True} if again else {})}
        receipt: Receipt = await self._call("settle", told, Receipt, name=entry, changes=True)
        return receipt

    async def retry(self, entry: str, *, again: bool = False) -> bool:
        """Let what is parked be decided, or performed, once more. Returns False if it failed again, and is parked.

        Args:
            entry: its ``id``.
            again: also where commands of a reaction had been decided: they stand, and are sent a second time.

        Raises:
            InvalidMessage: commands of it were decided, and ``again`` is not said; or it is not parked.
            and what `settle` raises.
        """
        return (await self.settle(entry, "retry", again=again)).parked == 0

    async def fire_now(self, entry: str) -> bool:
        """Send the command of a timer before its time. Returns False if it failed, and the timer is parked.

        Args:
            entry: its ``id``.

        Raises:
            InvalidMessage: it is no timer that waits.
            and what `settle` raises.
        """
        return (await self.settle(entry, "fire_now")).parked == 0

    async def drop(self, entry: str) -> None:
        """Strike what is owed, waits for its time, or is parked: it is never decided. The log says so.

        Args:
            entry: its ``id``.

        Raises:
            as `settle` does.
        """
        await self.settle(entry, "drop")

    async def _call(
        self, method: str, params: dict[str, Any], kind: type[T], *, name: str = "", changes: bool = False
    ) -> T:
        call = Call(
            method.encode(),
            encode(params)[1:-1],
            self._link.new_promise(),
            name=name or method,
            changes=changes,
            repeatable=not changes,
        )
        try:
            return msgspec.json.decode(await self._link.outcome(call), type=kind)
        except msgspec.DecodeError as error:
            raise RemoteError(INTERNAL_ERROR, f"what came back is no {kind.__name__}: {error}") from error
