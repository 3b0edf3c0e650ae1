"""What a commit holds of one command, whatever the format that it is written in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

__all__ = ["Body", "Record", "Tenure"]

E = TypeVar("E")


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

    def event_keys(self) -> Sequence[str | None]:
        """The key of each event."""
        ...

    def records(self) -> Iterator[Record[Any]]:
        """Command by command, in the order in which they were decided."""
        ...
