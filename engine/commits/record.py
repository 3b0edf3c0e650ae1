"""What a commit holds of one command, whatever the format that it is written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

__all__ = ["Body", "Failed", "Origin", "Owed", "Record", "Refused", "Settled", "Tenure", "Timed"]

E = TypeVar("E")


class Origin(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a command comes from that no caller sent: the reaction ``by``, a timer, or the effect ``by``.

    ``command`` is its place in the commit. A reaction's follows from the event at place ``event`` in the same commit,
    or from the one at the position ``at`` of an earlier one, which was owed. A timer's was due under the name ``timer``
    of the key ``scope``; where that is not there, of the command's own. The commit strikes it. An effect's is what came
    of performing the event at the position ``effect``.
    """

    command: int
    by: str = ""
    event: int | None = None
    at: int | None = None
    timer: str | None = None
    scope: str | UnsetType | None = UNSET
    effect: int | None = None

    def causation(self, start: int) -> str:
        """What it follows from, as readers see it: ``event:812``, ``timer:hold/o7``, ``effect:812/Payments.charge``.

        Args:
            start: the position before the commit's first event.
        """
        if self.timer is not None:
            return f"timer:{self.timer}"
        if self.effect is not None:
            return f"effect:{self.effect}/{self.by}"
        return f"event:{start + 1 + self.event if self.event is not None else self.at}"


class Refused(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A command with an origin that its handler refused: it has no events."""

    command: int
    code: str
    message: str = ""


class Failed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A reaction that failed, and is parked: to which event, as with `Origin`, with what, and after how many commands
    of its own had been decided. Or a timer: its name, and the key ``scope`` that this belongs to, if any. Or the effect
    ``by`` for the event at the position ``effect``, after so many ``attempts``. If ``what`` is there, the effect itself
    has succeeded or was given up: what is parked are these commands, which came of it.
    """

    error: str
    text: str
    by: str = ""
    event: int | None = None
    at: int | None = None
    decided: int = 0
    timer: str | None = None
    scope: str | None = None
    effect: int | None = None
    attempts: int = 0
    what: list[msgspec.Raw] = []


class Owed(msgspec.Struct, frozen=True, gc=False):
    """A reaction that did not begin, and is to be decided before any other command: to the event at that place."""

    event: int
    by: str


class Settled(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of a reaction that was owed or parked, to the event at that position; or of a timer; or of the effect
    ``by`` for the event at the position ``effect``, after so many ``attempts``; or of what came of such an effect, the
    ``outcome``, which was parked.

    ``how`` is ``done``, ``parked``, ``retried`` (it is owed, or due, again), ``dropped`` or ``void``: today there is no
    such event that it would take, or no such command. Of an effect also ``gave up``, and ``refused``: what came of it
    was a command that its handler refused.
    """

    how: str
    reaction: int | None = None
    by: str = ""
    timer: str | None = None
    scope: str | None = None
    effect: int | None = None
    outcome: int | None = None
    attempts: int = 0


_NO_COMMAND = msgspec.Raw(b"")


class Timed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A timer that is set, with when it is due and its command; or one that is called off.

    By the handler of the command at that place, whose key the name belongs to; or by a reaction, which is named as in
    `Origin`. ``scope`` is the key that the name belongs to where it is not that one; always, of a reaction's.
    """

    command: int | None = None
    set: str | None = None
    cancelled: str | None = None
    due: str | None = None
    what: msgspec.Raw = _NO_COMMAND
    scope: str | UnsetType | None = UNSET
    by: str = ""
    event: int | None = None
    at: int | None = None


class Record(msgspec.Struct, Generic[E], omit_defaults=True, gc=False):
    """What a commit holds of one command.

    ``offset`` says how many events of the commit come before the command's, ``keys`` names the key of each event where
    one differs from the command's. ``payload`` is the digest of the command, there if ``id`` is.
    """

    type: str = ""
    key: str | None = None
    id: str | None = None
    payload: str | None = None
    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    offset: int = 0
    keys: list[str | None] | None = None
    events: list[E] = msgspec.field(default_factory=list)
    trace: str | None = None
    extra: dict[str, str] | None = None
    origin: Origin | None = None
    refused: Refused | None = None
    #: How many reactions to its events are parked by this commit.
    parked: int = 0
    #: What it answered, as JSON, where it has an id.
    answer: bytes | None = None


class Tenure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who writes from this commit on: in the first one of each opening.

    ``term`` counts the openings that have written, ``by`` is the host and process, ``program`` the release of
    millstream, ``app`` the application's own version where it has one.
    """

    term: int
    by: str = ""
    program: str = ""
    app: str | None = None


class Body(Protocol[E]):
    """A commit's body, read: its events, and what it says of the commands that they came from."""

    #: All events, in order, as they are stored.
    events: list[E]
    tenure: Tenure | None
    #: A command in it has an id.
    has_ids: bool
    failed: Sequence[Failed]
    owed: Sequence[Owed]
    settled: Sequence[Settled]
    timers: Sequence[Timed]
    #: The commands that timers have sent.
    fired: Sequence[Origin]
    #: By type of event the effects that it owes for each of them.
    owes: Mapping[str, Sequence[str]]
    #: Features that a reader must know.
    needs: Sequence[str]

    def event_keys(self) -> Sequence[str | None]:
        """The key of each event."""
        ...

    def event_text(self, index: int) -> str:
        """The JSON of an event, as it is stored."""
        ...

    def event_texts(self) -> Sequence[str]:
        """The texts of all events."""
        ...

    def records(self) -> Iterator[Record[Any]]:
        """Command by command, in the order in which they were decided."""
        ...
