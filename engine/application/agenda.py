"""What is on an agenda, as it is given to another process, to a terminal, or to a program elsewhere.

Here: plain values. Not here: the agenda (`write.agenda`), and from an entry of it to these values (`write.listing`).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from millstream.engine.application.messages import Metadata

__all__ = [
    "PAGE_BYTES",
    "PAGE_ENTRIES",
    "PAGE_ENTRIES_MAX",
    "PAGINGS_MAX",
    "PAGINGS_NAMES_MAX",
    "AgendaItem",
    "AgendaPage",
    "EntryKind",
    "PageSize",
    "Verdict",
]

#: What an entry's id begins with: a reaction to an event, a timer, an effect, what came of an effect.
EntryKind: TypeAlias = Literal["event", "timer", "effect", "outcome"]

#: What can become of an entry because an operator wants it so, while its log is open.
Verdict: TypeAlias = Literal["retry", "drop", "fire_now"]

#: Entries of a page, by default; and at most.
PAGE_ENTRIES = 100
PAGE_ENTRIES_MAX = 500
#: A page ends with the entry by which its messages have so many bytes.
PAGE_BYTES = 256 * 1024
#: Of so many that look page by page it is remembered what their pages are to have, as long as these are so many names
#: together: 64 MB.
PAGINGS_MAX = 1_000
PAGINGS_NAMES_MAX = 8_000_000

#: How many entries a page may have.
PageSize: TypeAlias = Annotated[int, Meta(ge=0, le=PAGE_ENTRIES_MAX)]

_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class AgendaItem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An entry of an agenda: what is owed, is due later, or is parked.

    ``id`` is what it is called by, ``type`` the type of its event or of its command, the first of several. It has an
    ``event``, a ``command`` or ``commands``, as JSON. ``by`` is the reaction or the method that performs, for the event
    at ``position``. A timer has its name as ``title``, the key that this belongs to as ``scope``, and when it is
    ``due``. Of an effect, and of what came of one, ``key`` is the event's, ``attempt_id`` what the outside world knows
    it by, and ``attempts`` how many there were when it was parked. ``commit`` is the number of the commit that set the
    timer, or since which the effect is owed. ``metadata`` is that of the command that led to it all. Of what is
    ``parked`` ``error`` is the type of what went wrong, ``text`` what that said, and ``decided`` how many commands of
    the reaction had been decided: they stand.
    """

    id: str
    kind: EntryKind
    type: str
    parked: bool
    position: _Count | None = None
    by: str | None = None
    title: str | None = None
    scope: str | None = None
    due: str | None = None
    key: str | None = None
    commit: _Count | None = None
    attempt_id: str | None = None
    attempts: _Count = 0
    decided: _Count = 0
    error: str | None = None
    text: str | None = None
    metadata: Metadata = Metadata()
    event: Raw | UnsetType = UNSET
    command: Raw | UnsetType = UNSET
    commands: list[Raw] | UnsetType = UNSET

    @property
    def without_commands(self) -> AgendaItem:
        """The same for a caller that may see events and no commands: without these, and without texts of errors, as
        they may quote one.
        """
        return msgspec.structs.replace(self, command=UNSET, commands=UNSET, text=None)


class AgendaPage(msgspec.Struct, frozen=True):
    """Some of an agenda's entries: what is owed first, in the order in which it is decided; then timers, in the order
    in which they were set, effects in that in which they came to be owed, and what is parked.

    ``next`` is where the page that follows begins, None if there is none. All pages together have what there was at the
    first one, each entry once, except what is gone since. ``total`` is how many entries the agenda has
    in all, whatever was asked for, and ``parked`` how many of them are parked. It is as of ``position``, a token.
    """

    entries: list[AgendaItem]
    next: str | None
    total: _Count
    parked: _Count
    position: _Count
