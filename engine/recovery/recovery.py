"""From snapshots and the log to states: what opening, a rebuild after a failure, and the next snapshot all begin with.

Here: the replay of what came after the snapshots, to whatever parts are asked for. Not here: which snapshots are
believed (`catalog`), what a part is (`write`, `read`), and when it is done (`engine`, `writer`, `snapshotter`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from millstream.engine.application.app import App
from millstream.engine.commits.chain import head_of
from millstream.engine.commits.commit import Head
from millstream.engine.errors import AgendaUnreadable, EventsUnreadable, HandlerFailed, LogCorrupt
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.recovery.catalog import Catalog, has_snapshots
from millstream.engine.recovery.readability import check_events, unknown_commands
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.finding import commit_at
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader, follow
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Outcome, Timer

__all__ = ["Recovered", "Recovery"]


class Recovered(NamedTuple):
    """Where a recovery has brought its parts to."""

    head: Head
    #: How many events had to be replayed.
    replayed: int
    #: Up to which event all parts that have snapshots were in one.
    saved: int


class Recovery:
    """Brings parts to the head of an open log.

    Args:
        app: the application.
        log: an open log.
        limits: the engine's.
        catalog: the log's snapshots.
    """

    def __init__(self, app: App, log: Log, limits: Limits, catalog: Catalog) -> None:
        self._app = app
        self._log = log
        self._limits = limits
        self._catalog = catalog

    async def recover(self, parts: Sequence[Part], slicer: Slicer, *, beside: bool = False) -> Recovered:
        """Bring new parts to the log's head.

        Args:
            parts: those that are needed.
            slicer: says when to rest.
            beside: for taking snapshots beside live states, which replaces none meanwhile. What opening has
                checked of the log is not checked again.

        Raises:
            LogCorrupt: the log is not what was written.
            EventsUnreadable: it holds events that the application can't read; names all kinds of them.
            ApplyFailed: a write model can't apply what the log holds.
            Exception: the store failed.
        """
        stored = [part for part in parts if has_snapshots(part)]
        await self._catalog.restore(parts, slicer, alone=beside)
        # Without parts there is nothing to bring: views in a database read the log by themselves, and check it then.
        first = min((part.head for part in parts), key=_number) if parts else await self._log.head()
        saved = min((part.head.position for part in stored), default=None)
        if not beside:
            await self._check_tail(first, slicer)
        head = await self._replay(first, parts, slicer)
        await self._require_readable(parts, slicer)
        return Recovered(head, head.position - first.position, head.position if saved is None else saved)

    async def _replay(self, first: Head, parts: Sequence[Part], slicer: Slicer) -> Head:
        """Hand what the log holds after ``first`` to each part that does not have it; returns the head."""
        reader = Reader(self._log, self._app, first, self._limits.read_bytes_max)
        try:
            while (page := await reader.page()) is not None:
                for decoded in page:
                    for part in parts:
                        for _ in part.steps(decoded):
                            if slicer.is_over:
                                await slicer.rest()
                    if slicer.is_over:
                        await slicer.rest()
        except EventsUnreadable as error:
            found_all = await check_events(self._log, self._app, slicer=slicer)
            raise EventsUnreadable(self._log.name, self._app.name, found_all.unreadable) from error
        return reader.head

    async def _require_readable(self, parts: Sequence[Part], slicer: Slicer) -> None:
        """See that today's code can read what is owed and parked, which a snapshot may have brought; and what is due.

        Raises:
            EventsUnreadable, AgendaUnreadable: it can't.
        """
        timers: list[Timer] = []
        for entry in (entry for part in parts if isinstance(part, Agenda) for entry in part):
            if slicer.is_over:
                await slicer.rest()
            if isinstance(entry, Outcome):
                continue  # it is parked: a retry will say what is wrong with it
            if isinstance(entry, Timer):
                timers.append(entry)
                continue
            try:
                self._app.today(entry.event.encode())
            except (msgspec.DecodeError, HandlerFailed) as error:
                found_all = await check_events(self._log, self._app, slicer=slicer)
                raise EventsUnreadable(self._log.name, self._app.name, found_all.unreadable) from error
        if unknown := unknown_commands(self._app, timers):
            raise AgendaUnreadable(self._log.name, self._app.name, unknown)

    async def _check_tail(self, first: Head, slicer: Slicer) -> None:
        """See that the last commits before ``first``, which are not replayed, are what was written."""
        base = (await self._log.head()).number - self._limits.verify_commits_min
        if base >= first.number or not first.number:
            return
        known = Head()
        if base > 0:
            commit = await commit_at(self._log, base)
            if commit is None:
                raise LogCorrupt(self._log.name, base, "it is missing, and later ones are there")
            known = head_of(self._log.name, commit)
        await follow(self._log, known, first.number, self._limits.read_bytes_max, slicer)


def _number(head: Head) -> int:
    return head.number
