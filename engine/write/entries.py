"""What stands on the agenda: a reaction that is owed or parked, a timer, an effect; and how each is named.

Here: the values, for the engine and for those who look at them. Not here: the agenda itself (`agenda`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from millstream.engine.application.agenda import PAGE_ENTRIES, EntryKind
from millstream.engine.application.messages import Command, Metadata
from millstream.engine.commits.record import Failed, Settled

__all__ = [
    "AgendaEntry",
    "Effect",
    "Entry",
    "Looking",
    "Name",
    "Outcome",
    "Performed",
    "Settlement",
    "Timer",
    "id_of",
    "name_of",
    "outcome_name",
    "settled_of",
]

#: What tells a reaction from others: the position of its event, and its own name. A timer: the key that its name
#: belongs to, or None, and the name. An effect, and what came of one: the position, the name, and which of the two.
Name: TypeAlias = tuple[int | str | None, str] | tuple[int, str, Literal["effect", "outcome"]]


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
        """Whether it waits for an operator; else it is owed, and decided next."""
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
        """Whether it waits for an operator; else for its time."""
        return bool(self.error)

    def failed(self, error: str, text: str) -> Failed:
        """What a commit says when its command fails."""
        return Failed(error, text, timer=self.title, scope=self.scope)


class Effect(msgspec.Struct, gc=False):
    """What is owed to the outside world: the event at ``position`` is to be performed by the method ``by``.

    ``event`` is the event's JSON as it is stored, ``key`` its key as of then, ``metadata`` that of the command that led
    to it. Of a parked one ``error`` is the type of what went wrong, ``text`` what that said, and ``attempts`` how many
    there were. ``commit`` is the number of the commit since which it is owed: the event's, or that of the last retry.
    """

    position: int
    by: str
    event: str
    key: str | None
    commit: int
    #: The event's place in its commit, and of the digest of that the first digits: it has none before it is sealed.
    index: int
    digest: str = ""
    metadata: Metadata = Metadata()
    error: str = ""
    text: str = ""
    attempts: int = 0

    @property
    def name(self) -> Name:
        """What tells it from others."""
        return self.position, self.by, "effect"

    @property
    def id(self) -> str:
        """The same as a text: ``effect:812/Payments.charge``."""
        return id_of(self.name)

    @property
    def attempt_id(self) -> str:
        """What the outside world is given to know it by: ``9f0c31d2a4b5e6f7-3-Payments.charge``."""
        return f"{self.digest}-{self.index}-{self.by}"

    @property
    def is_parked(self) -> bool:
        """Whether it waits for an operator; else it is owed."""
        return bool(self.error)

    def failed(self, error: str, text: str, attempts: int) -> Failed:
        """What a commit says when it is parked."""
        return Failed(error, text, self.by, effect=self.position, attempts=attempts)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What came of an effect and could not be decided, for the application's own fault: it is parked, always.

    ``commands`` are the commands that are still to be decided, each as JSON; the first is the one that failed, with
    ``error`` and ``text``. The rest is as with the `Effect`, which is not owed any more: nothing is performed again.
    """

    position: int
    by: str
    commands: tuple[str, ...]
    key: str | None
    metadata: Metadata = Metadata()
    error: str = ""
    text: str = ""

    @property
    def name(self) -> Name:
        """What tells it from others."""
        return outcome_name(self.position, self.by)

    @property
    def id(self) -> str:
        """The same as a text: ``outcome:812/Payments.charge``."""
        return id_of(self.name)

    @property
    def is_parked(self) -> bool:
        """It is."""
        return True

    def failed(self) -> Failed:
        """What a commit says of it."""
        what = [msgspec.Raw(each.encode()) for each in self.commands]
        return Failed(self.error, self.text, self.by, effect=self.position, what=what)


AgendaEntry: TypeAlias = Entry | Timer | Effect | Outcome


class Performed(msgspec.Struct, frozen=True, gc=False):
    """What came of performing an effect, on its way to the writer as a command.

    ``how`` is ``done``, ``gave up``, ``void``, or ``parked`` with ``error`` and ``text``; ``commands`` are what is to
    be decided now, checked copies.
    """

    name: Name
    how: str
    attempts: int
    commands: tuple[Command, ...] = ()
    error: str = ""
    text: str = ""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What is to become of an entry, on its way to the writer as a command: ``retried``, ``dropped``, or of
    a timer ``fired``, which is not recorded by that word: the command that it sends says so.
    """

    name: Name
    how: str
    again: bool = False


class Looking(msgspec.Struct, frozen=True, gc=False):
    """What an operator wants to see of the agenda, on its way to the writer as a command: it is shown as of what is
    durable. Either one ``entry``, or a page of those of a ``kind``, or that are ``parked`` or not. A page that follows
    another has some of the ``names`` that were there at the first one, from place ``at`` on.
    """

    kind: EntryKind | None = None
    parked: bool | None = None
    entry: str | None = None
    limit: int = PAGE_ENTRIES
    names: Sequence[Name] | None = None
    at: int = 0


def outcome_name(position: int, by: str) -> Name:
    """The name of what came of an effect, while it is parked."""
    return position, by, "outcome"


def id_of(name: Name) -> str:
    """What an operator calls an entry. A timer's name ends at the first ``@``: one of its own is written ``%40``."""
    if len(name) == 3:
        return f"{name[2]}:{name[0]}/{name[1]}"
    first, second = name
    if type(first) is int:
        return f"event:{first}/{second}"
    title = second.replace("%", "%25").replace("@", "%40")
    return f"timer:{title}" if first is None else f"timer:{title}@{first}"


def name_of(entry_id: str) -> Name | None:
    """The name of what is called so; None if nothing can be."""
    kind, _, rest = entry_id.partition(":")
    if kind in ("event", "effect", "outcome"):
        position, _, by = rest.partition("/")
        if not (position.isdecimal() and len(position) < 20 and by):
            return None
        if kind == "event":
            return int(position), by
        return outcome_name(int(position), by) if kind == "outcome" else (int(position), by, "effect")
    if kind != "timer" or not rest:
        return None
    title, at, scope = rest.partition("@")
    return (scope if at else None), title.replace("%40", "@").replace("%25", "%")


def settled_of(name: Name, how: str, attempts: int = 0) -> Settled:
    """What a commit says of what became of an entry."""
    if len(name) == 3:
        position, by, kind = name
        if kind == "effect":
            return Settled(how, by=by, effect=position, attempts=attempts)
        return Settled(how, by=by, outcome=position)
    first, second = name
    if type(first) is int:
        return Settled(how, first, second)
    return Settled(how, timer=second, scope=first)  # type: ignore[arg-type]  # a timer's is a text, or None
