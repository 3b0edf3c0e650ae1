"""What is shown of an agenda: a page at a time, as there may be a million entries.

Here: which entries a page has, where the next begins, and an entry as it is told elsewhere. Not here: who asks
(`owing`), and when it is shown (`settling`).

Nothing is kept between two pages. Where one begins is how many entries come before it, and entries come and go
meanwhile. Each that goes may bring those behind it forward by one, so the next page begins earlier by as many as were
taken off. What comes is put at an end, and brings nothing forward.

Invariant: an entry that was there all the time, and in the same state, is on one of the pages. It may be on two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from msgspec import Raw

from millstream.engine.application.agenda import PAGE_BYTES, AgendaItem, AgendaPage, EntryKind
from millstream.engine.application.app import tag_in
from millstream.engine.errors import InvalidMessage, NotOnAgenda
from millstream.engine.stores.log_id import new_log_id
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import AgendaEntry, Effect, Entry, Looking, Name, Outcome, Timer, name_of

__all__ = ["Found", "found_of", "item_of", "kind_of", "page_of"]

#: Of which process and agenda it was, how many had been taken off, and how many entries come before it.
_PLACE = re.compile(r"([0-9a-f]{8})\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})")
#: Whose pages they are: another process counts its agendas anew, and knows nothing of what this one has taken off.
_PROCESS = new_log_id()[:8]


class Found(NamedTuple):
    """What was found: the entries themselves, which are told by somebody who has the time for it."""

    entries: list[AgendaEntry]
    next: str | None
    total: int
    parked: int


def found_of(agenda: Agenda, asked: Looking) -> Found:
    """What of an agenda is asked for.

    Raises:
        NotOnAgenda: there is no such entry.
        InvalidMessage: it is to begin where no page does.
    """
    if asked.entry is not None:
        name = name_of(asked.entry)
        if name is None:
            raise NotOnAgenda(asked.entry, len(agenda))
        return Found([agenda.find(name)], None, len(agenda), len(agenda.parked))
    at = 0 if asked.after is None else _place(agenda, asked.after)
    groups = _groups(agenda, asked)
    entries: list[AgendaEntry] = []
    size_bytes = 0
    for entry in _from(groups, at):
        at += 1
        if asked.kind is not None and kind_of(entry) != asked.kind:
            continue
        entries.append(entry)
        size_bytes += _size_of(entry)
        if len(entries) >= asked.limit or size_bytes >= PAGE_BYTES:
            break
    more = at < sum(map(len, groups))
    following = f"{_PROCESS}.{agenda.generation}.{agenda.struck}.{at}" if more else None
    return Found(entries, following, len(agenda), len(agenda.parked))


def page_of(found: Found, position: int) -> AgendaPage:
    """The same as it is told.

    Args:
        found: what was found.
        position: as of which it was.
    """
    return AgendaPage(list(map(item_of, found.entries)), found.next, found.total, found.parked, position)


def item_of(entry: AgendaEntry) -> AgendaItem:
    """An entry as it is told."""
    messages = [Raw(each.encode()) for each in _texts_of(entry)]
    shared: Any = {
        "id": entry.id,
        "kind": kind_of(entry),
        "type": tag_in(bytes(messages[0])) if messages else "",
        "parked": entry.is_parked,
        "error": entry.error or None,
        "text": entry.text or None,
        "metadata": entry.metadata,
    }
    if isinstance(entry, Timer):
        own: Any = {"title": entry.title, "scope": entry.scope, "due": entry.due, "commit": entry.commit}
        return AgendaItem(**shared, **own, command=messages[0])
    shared |= {"position": entry.position, "by": entry.by}
    match entry:
        case Entry():
            return AgendaItem(**shared, event=messages[0], decided=entry.decided)
        case Effect():
            own = {"key": entry.key, "commit": entry.commit, "attempts": entry.attempts, "attempt_id": entry.attempt_id}
            return AgendaItem(**shared, **own, event=messages[0])
        case Outcome():
            return AgendaItem(**shared, key=entry.key, commands=messages)


def kind_of(entry: AgendaEntry) -> EntryKind:
    """What its id begins with."""
    match entry:
        case Entry():
            return "event"
        case Timer():
            return "timer"
        case Effect():
            return "effect"
        case Outcome():
            return "outcome"


def _texts_of(entry: AgendaEntry) -> tuple[str, ...]:
    match entry:
        case Outcome():
            return entry.commands
        case Timer():
            return (entry.command,)
        case _:
            return (entry.event,)


def _size_of(entry: AgendaEntry) -> int:
    return len(entry.text) + sum(map(len, _texts_of(entry)))


def _groups(agenda: Agenda, asked: Looking) -> list[Mapping[Name, AgendaEntry]]:
    """Where to look."""
    waiting: Mapping[EntryKind, Mapping[Name, AgendaEntry]] = {
        "event": agenda.owed,
        "timer": agenda.timers,
        "effect": agenda.effects,
    }
    found = [] if asked.parked else [group for kind, group in waiting.items() if asked.kind in (None, kind)]
    return found if asked.parked is False else [*found, agenda.parked]


def _from(groups: list[Mapping[Name, AgendaEntry]], at: int) -> Iterator[AgendaEntry]:
    """The entries from a place on. To skip a million of them takes milliseconds, and no entry is looked at."""
    for group in groups:
        if at < len(group):
            yield from islice(group.values(), at, None)
        at = max(0, at - len(group))


def _place(agenda: Agenda, after: str) -> int:
    """Where the page begins that follows another.

    Raises:
        InvalidMessage: no page has said so.
    """
    found = _PLACE.fullmatch(after)
    if found is None:
        raise InvalidMessage("agenda", "`after` is what the page before it has as `next`")
    process = found[1]
    generation, struck, at = map(int, found.groups()[1:])
    gone = agenda.struck - struck
    if process != _PROCESS or generation != agenda.generation or gone < 0:
        return 0  # it was made anew meanwhile, and may have another order
    return max(0, at - gone)
