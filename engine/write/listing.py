"""What is shown of an agenda: a page at a time, as there may be a million entries.

Here: which entries a page has, and an entry as others see it. Not here: who asks (`owing`), what is kept between
two pages (`pages`), and when one is shown (`settling`).

Invariant: an entry that was there at the first page, and is still, is on exactly one page, whatever has become of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from millstream.engine.application.agenda import PAGE_BYTES, AgendaItem, AgendaPage, EntryKind
from millstream.engine.application.app import tag_in
from millstream.engine.errors import NotOnAgenda
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import AgendaEntry, Effect, Entry, Looking, Name, Outcome, Timer, name_of

__all__ = ["Found", "found_of", "item_of", "kind_of", "page_of"]

#: How many names a page looks at, most of which may be gone: it takes the writer a millisecond.
_LOOKED_AT_MAX = 2_000


class Found(NamedTuple):
    """What was found: the entries themselves, which are read by a task that has the time for it. ``names`` are those
    that all pages together have, and ``at`` how many of them this page and those before it have.
    """

    entries: list[AgendaEntry]
    names: Sequence[Name]
    at: int
    total: int
    parked: int

    @property
    def is_last(self) -> bool:
        """Whether no page follows."""
        return self.at >= len(self.names)


def found_of(agenda: Agenda, asked: Looking) -> Found:
    """What of an agenda is asked for.

    Raises:
        NotOnAgenda: there is no such entry.
    """
    if asked.entry is not None:
        name = name_of(asked.entry)
        if name is None:
            raise NotOnAgenda(asked.entry, len(agenda))
        return Found([agenda.find(name)], (name,), 1, len(agenda), len(agenda.parked))
    names = asked.names
    if names is None:
        names = _names_of(agenda, asked) if asked.limit else ()
    at = asked.at
    entries: list[AgendaEntry] = []
    size_bytes = 0
    for name in names[at : at + _LOOKED_AT_MAX] if asked.limit else ():
        at += 1
        entry = agenda.get(name)
        if entry is None or asked.parked not in (None, entry.is_parked):
            continue
        entries.append(entry)
        size_bytes += _size_of(entry)
        if len(entries) >= asked.limit or size_bytes >= PAGE_BYTES:
            break
    return Found(entries, names, at, len(agenda), len(agenda.parked))


def page_of(found: Found, following: str | None, position: int) -> AgendaPage:
    """The same as it is given to other processes.

    Args:
        found: what was found.
        following: where the next page begins.
        position: as of which it was.
    """
    return AgendaPage(list(map(item_of, found.entries)), following, found.total, found.parked, position)


def item_of(entry: AgendaEntry) -> AgendaItem:
    """An entry as it is given to other processes."""
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


def _names_of(agenda: Agenda, asked: Looking) -> list[Name]:
    """The names of all that is asked for, in the order of the pages. No entry is looked at: a million take 15 ms."""
    waiting: Mapping[EntryKind, Iterable[Name]] = {
        "event": agenda.owed,
        "timer": agenda.timers,
        "effect": agenda.effects,
    }
    names: list[Name] = []
    if not asked.parked:
        for kind, group in waiting.items():
            if asked.kind in (None, kind):
                names += group
    if asked.parked is not False:
        names += (name for name, entry in agenda.parked.items() if asked.kind in (None, kind_of(entry)))
    return names
