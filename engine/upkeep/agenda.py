"""The agenda of a log that no process has open, without its application: what is owed, due, parked and refused;
and striking an entry.

Invariant: what is written is a commit like others, that follows the log's head and says who wrote it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from millstream.engine.commits.body import UNREADABLE, read_anything
from millstream.engine.commits.chain import Chain, unreadable
from millstream.engine.commits.columns import Sheet
from millstream.engine.commits.commit import Commit, seal, timestamp
from millstream.engine.commits.record import Body
from millstream.engine.errors import NotOnAgenda
from millstream.engine.loop.clock import utc_now
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.stores.address import log_at
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import PAGE_BYTES, SLICE_MS
from millstream.engine.upkeep.attached import attached
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import AgendaEntry, id_of, name_of, settled_of
from millstream.engine.write.tenure import tenure_here

__all__ = ["RefusedEntry", "agenda_in", "refused_in", "settle_entry"]


class RefusedEntry(msgspec.Struct, frozen=True):
    """The command of a timer, or what came of an effect, that a handler refused: the entry is struck.

    ``id`` is what the entry was called by, ``type`` the type of the command, ``code`` and ``message`` what the handler
    said, ``commit`` and ``recorded_at`` where and when the log says so.
    """

    id: str
    type: str
    code: str
    message: str
    commit: int
    recorded_at: str


async def agenda_in(log: Log) -> list[AgendaEntry]:
    """What a log owes, its timers, and what it has parked, as its commits say. All of them are read.

    Args:
        log: open, or attached.

    Raises:
        LogCorrupt, LogRefused: it can't be read.
    """
    _, agenda, _ = await _followed(log)
    return list(agenda)


async def refused_in(log: Log, limit: int) -> list[RefusedEntry]:
    """The last commands of timers, and of what came of effects, that were refused: in the order of the log.

    Args:
        log: open, or attached. All of its commits are read.
        limit: how many, at most.

    Raises:
        LogCorrupt, LogRefused: it can't be read.
    """
    found: deque[RefusedEntry] = deque(maxlen=limit)
    await _followed(log, lambda commit, body: found.extend(_refused(commit, body)))
    return list(found)


async def settle_entry(log: str | Path, entry: str, how: str) -> AgendaEntry:
    """Park or drop what is owed, due later, or parked. No process may have the log open.

    Args:
        log: the log's address.
        entry: its ``id``: ``event:812/Selling.placed``, ``timer:hold/o7@s1``, ``effect:812/Payments.charge``.
        how: ``parked``, so that it is not decided when the log is opened; or ``dropped``.

    Returns:
        The entry as it was.

    Raises:
        NotOnAgenda: there is no such entry.
        LogLocked: a process has the log open: let that engine do it.
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


def _refused(commit: Commit, body: Body[Any]) -> Iterator[RefusedEntry]:
    if not (body.fired or any(settled.how == "refused" for settled in body.settled)):
        return  # to look at each of its commands would take longer than all the rest
    for record in body.records():
        origin, refused = record.origin, record.refused
        if origin is None or refused is None:
            continue
        if origin.timer is not None:
            entry = id_of((record.key if origin.scope is UNSET else origin.scope, origin.timer))
        elif origin.effect is not None:
            entry = id_of((origin.effect, origin.by, "effect"))
        else:
            continue  # a reaction gets it itself
        yield RefusedEntry(entry, record.type, refused.code, refused.message, commit.number, commit.recorded_at)


async def _followed(
    log: Log, see: Callable[[Commit, Body[Any]], object] = lambda commit, body: None
) -> tuple[Chain, Agenda, int]:
    chain, agenda, slicer, term = Chain(log.name), Agenda(), Slicer(SLICE_MS), 0
    while page := await log.read(chain.head.number, PAGE_BYTES):
        for commit in page:
            chain.take(commit)
            try:
                body = read_anything(commit.body)
            except UNREADABLE as error:
                raise unreadable(log.name, commit, error) from error
            agenda.follow(body, commit.position - 1, chain.head)
            see(commit, body)
            term = term if body.tenure is None else body.tenure.term
            if slicer.is_over:
                await slicer.rest()
    return chain, agenda, term
