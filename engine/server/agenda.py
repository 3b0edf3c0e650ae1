"""What becomes of `agenda` and `settle`: what is owed, due later and parked, looked after from elsewhere.

Here: a task for each such request, as they are rare; and what a reader may see. Not here: what is on the agenda, and
what becomes of an entry: an engine decides that, and a replica asks the one that it knows.

Invariant: a caller that may not give commands sees none.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from millstream.engine.application.agenda import AgendaPage
from millstream.engine.server.backend import Backend
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.output import Batch
from millstream.engine.server.peer import Peer
from millstream.engine.server.shares import Shares
from millstream.engine.server.tokens import Role

__all__ = ["AgendaRequests"]


class AgendaRequests:
    """The handlers of both methods.

    Args:
        backend: whose agenda it is.
        limits: the server's: how many requests may be under way.
    """

    def __init__(self, backend: Backend, limits: ServerLimits) -> None:
        self._backend = backend
        self._shares = Shares("agenda_requests_max", limits.agenda_requests_max)

    def agenda(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """A page of what is on it."""
        self._begin(connection, request, batch, self._tell)

    def settle(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        """What becomes of an entry, because an operator wants it so."""
        self._begin(connection, request, batch, self._settle)

    def _begin(
        self,
        connection: Peer,
        request: Any,
        batch: Batch | None,
        work: Callable[[Peer, Any, Batch | None], Coroutine[Any, Any, None]],
    ) -> None:
        self._shares.take(connection)
        connection.in_flight += 1
        task = connection.spawn(work(connection, request, batch))
        task.add_done_callback(lambda _: self._shares.give_back(connection))

    async def _tell(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        params = request.params
        try:
            await connection.writable()
            page = await self._backend.agenda.page(
                kind=params.kind, parked=params.parked, after=params.after, entry=params.entry, limit=params.limit
            )
            connection.reply(request.id, _shown_to(connection.role, page), batch)
        except Exception as error:  # noqa: BLE001 - sent to the caller
            connection.fail(request.id, error, batch)
        connection.settled()

    async def _settle(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        params = request.params
        try:
            receipt = await self._backend.agenda.settle(params.entry, params.verdict, again=params.again)
        except Exception as error:  # noqa: BLE001 - sent to the caller
            connection.fail(request.id, error, batch)
            connection.settled()
        else:
            connection.settle(request.id, receipt, batch)


def _shown_to(role: str | None, page: AgendaPage) -> AgendaPage:
    """What this role may see of a page."""
    if role == Role.WRITER:
        return page
    return replace(page, entries=[each.without_commands for each in page.entries])
