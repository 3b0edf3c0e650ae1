"""The agenda of a log that nobody has open, without its application: what is owed, due and parked; and striking it.

Invariant: what is written is a commit like others, that follows the log's head and says who wrote it.
"""

from __future__ import annotations

from pathlib import Path

from millstream.engine.commits.body import UNREADABLE, read_anything
from millstream.engine.commits.chain import Chain, unreadable
from millstream.engine.commits.columns import Sheet
from millstream.engine.commits.commit import seal, timestamp
from millstream.engine.errors import NotOnAgenda
from millstream.engine.loop.clock import utc_now
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.stores.address import log_at
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import PAGE_BYTES, SLICE_MS
from millstream.engine.upkeep.attached import attached
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import AgendaEntry, name_of, settled_of
from millstream.engine.write.tenure import tenure_here

__all__ = ["agenda_in", "settle_entry"]


async def agenda_in(log: Log) -> list[AgendaEntry]:
    """What a log owes, its timers, and what it has parked, as its commits say. All of them are read.

    Args:
        log: open, or attached.

    Raises:
        LogCorrupt, LogRefused: it can't be read.
    """
    _, agenda, _ = await _followed(log)
    return list(agenda)


async def settle_entry(log: str | Path, entry: str, how: str) -> AgendaEntry:
    """Park or drop what is owed, due later, or parked. Nobody else may have the log open.

    Args:
        log: the log's address.
        entry: its ``id``: ``event:812/Selling.placed``, ``timer:hold/o7@s1``, ``effect:812/Payments.charge``.
        how: ``parked``, so that it is not decided when the log is opened; or ``dropped``.

    Returns:
        The entry as it was.

    Raises:
        NotOnAgenda: there is no such entry.
        LogLocked: somebody has the log open: let that engine do it.
        LogCorrupt, LogRefused: it can't be read, or not be written.
        CommitFailed: it was not written.
    """
    async with attached(log) as (_, application):
        pass
    found = log_at(log)
    await found.open(application)
    try:
        chain, agenda, term = await _followed(found)
        name = name_of(entry)
        if name is None:
            raise NotOnAgenda(entry, len(agenda))
        known = agenda.find(name)
        sheet = Sheet()
        sheet.add(settled_of(name, how))
        now = max(timestamp(utc_now()), chain.head.recorded_at)
        await found.append(seal(chain.head, now, sheet.body((), {}, tenure_here(term + 1))))
        return known
    finally:
        await to_the_end(found.close())


async def _followed(log: Log) -> tuple[Chain, Agenda, int]:
    chain, agenda, slicer, term = Chain(log.name), Agenda(), Slicer(SLICE_MS), 0
    while page := await log.read(chain.head.number, PAGE_BYTES):
        for commit in page:
            chain.take(commit)
            try:
                body = read_anything(commit.body)
            except UNREADABLE as error:
                raise unreadable(log.name, commit, error) from error
            agenda.follow(body, commit.position - 1, chain.head)
            term = term if body.tenure is None else body.tenure.term
            if slicer.is_over:
                await slicer.rest()
    return chain, agenda, term
