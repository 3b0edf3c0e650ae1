"""What stands on the agenda: a reaction that is owed or parked, and a timer; and how each is named.

Here: the values, for the engine and for whoever looks at them. Not here: the agenda itself (`agenda`).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from millstream.engine.application.messages import Metadata
from millstream.engine.commits.record import Failed, Settled

__all__ = ["AgendaEntry", "Entry", "Name", "Settlement", "Timer", "id_of", "name_of", "settled_of"]

#: What tells a reaction from others: the position of its event, and its own name. And a timer: the key that its name
#: belongs to, or None, and the name.
Name: TypeAlias = tuple[int | str | None, str]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A reaction to one event that is owed, or that failed and is parked.

    ``position`` is that of the event, ``by`` the reaction's name, ``event`` the event's JSON as it is stored, and
    ``metadata`` that of the command which led to it all. Of a parked one ``error`` is the type of what went wrong,
    ``text`` what that said, and ``decided`` how many commands of the reaction had been decided before: they stand.
    """

    position: int
    by: str
    event: str
    metadata: Metadata = Metadata()
    error: str = ""
    text: str = ""
    decided: int = 0

    @property
    def name(self) -> Name:
        """What tells it from others."""
        return self.position, self.by

    @property
    def id(self) -> str:
        """The same as a text: ``event:812/Selling.placed``."""
        return id_of(self.name)

    @property
    def is_parked(self) -> bool:
        """Whether it waits for somebody; else it is owed, and decided next."""
        return bool(self.error)

    def failed(self, error: str, text: str, decided: int = 0) -> Failed:
        """What a commit says when it fails again."""
        return Failed(error, text, self.by, at=self.position, decided=decided)


class Timer(msgspec.Struct, frozen=True, gc=False):
    """A command that is due later, or that was due, failed, and is parked.

    ``title`` is the timer's name, ``scope`` the key that this belongs to, if any. ``due`` is a time as the log has it,
    ``2026-11-28T00:10:00.000000Z``, ``command`` the command's JSON, ``metadata`` that of the command which led to it,
    ``commit`` the number of the commit that set it. Of a parked one ``error`` is the type of what went wrong, and
    ``text`` what that said.
    """

    title: str
    scope: str | None
    due: str
    command: str
    commit: int
    metadata: Metadata = Metadata()
    error: str = ""
    text: str = ""

    @property
    def name(self) -> Name:
        """What tells it from others."""
        return self.scope, self.title

    @property
    def id(self) -> str:
        """The same as a text: ``timer:hold/o7@s1``."""
        return id_of(self.name)

    @property
    def is_parked(self) -> bool:
        """Whether it waits for somebody; else for its time."""
        return bool(self.error)

    def failed(self, error: str, text: str) -> Failed:
        """What a commit says when its command fails."""
        return Failed(error, text, timer=self.title, scope=self.scope)


AgendaEntry: TypeAlias = Entry | Timer


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What somebody wants to become of an entry, on its way to the writer as a command: ``retried``, ``dropped``, or of
    a timer ``fired``, which is not recorded by that word: the command that it sends says so.
    """

    name: Name
    how: str
    again: bool = False


def id_of(name: Name) -> str:
    """What somebody calls an entry by. A timer's name ends at the first ``@``: one of its own is written ``%40``."""
    first, second = name
    if type(first) is int:
        return f"event:{first}/{second}"
    title = second.replace("%", "%25").replace("@", "%40")
    return f"timer:{title}" if first is None else f"timer:{title}@{first}"


def name_of(entry_id: str) -> Name | None:
    """The name of what is called so; None if nothing can be."""
    kind, _, rest = entry_id.partition(":")
    if kind == "event":
        position, _, by = rest.partition("/")
        return (int(position), by) if position.isdecimal() and len(position) < 20 and by else None
    if kind != "timer" or not rest:
        return None
    title, at, scope = rest.partition("@")
    return (scope if at else None), title.replace("%40", "@").replace("%25", "%")


def settled_of(name: Name, how: str) -> Settled:
    """What a commit says of what became of an entry."""
    first, second = name
    if type(first) is int:
        return Settled(how, first, second)
    return Settled(how, timer=second, scope=first)  # type: ignore[arg-type]  # a timer's is a text, or None
