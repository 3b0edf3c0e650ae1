"""What a front and the writer's process tell each other beside requests and replies.

Connections are named by numbers that their front gives them. Here: the messages. Not here: what follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

__all__ = [
    "AcceptFailed",
    "Arrived",
    "Became",
    "Dropped",
    "Ending",
    "Failed",
    "GivenUp",
    "Gone",
    "Held",
    "NeverCame",
    "Note",
    "Over",
    "Ready",
    "Stop",
    "Took",
    "Unready",
    "Welcome",
    "read_notes",
    "write_notes",
]


class _Note(msgspec.Struct, array_like=True, frozen=True, tag=True, gc=False):
    pass


# From a front.


class Ready(_Note, frozen=True):
    """It takes connections."""


class Unready(_Note, frozen=True):
    """It can't be what it is to be, and ends."""

    problem: str


class Arrived(_Note, frozen=True):
    """A connection is there: may it come in?"""

    number: int


class Became(_Note, frozen=True):
    """It has this role from now on."""

    number: int
    role: str | None


class Took(_Note, frozen=True):
    """Of what was sent to it and counts, it has taken so many bytes."""

    number: int
    size_bytes: int


class Ending(_Note, frozen=True):
    """It sends no more, or, with a reason, is to send no more: its streams end."""

    number: int
    reason: str | None


class GivenUp(_Note, frozen=True):
    """Its questions have waited long enough."""

    number: int


class Gone(_Note, frozen=True):
    """It takes no answer any more."""

    number: int
    reason: str | None


class NeverCame(_Note, frozen=True):
    """Who has arrived was gone before it was a connection, or its handshake failed."""

    number: int


class Dropped(_Note, frozen=True):
    """So many that never were connections were ended for this reason."""

    reason: str
    connections: int


class AcceptFailed(_Note, frozen=True):
    """The system did not let it take a connection."""

    problem: str
    connections: int


class Failed(_Note, frozen=True):
    """The front itself failed on something: a traceback."""

    problem: str


# To a front.


class Welcome(_Note, frozen=True):
    """What has arrived may come in, or there is no room."""

    number: int
    is_room: bool


class Held(_Note, frozen=True):
    """A command of it waits for room in the mailbox, or does no more."""

    number: int
    held: bool


class Over(_Note, frozen=True):
    """What one of its requests to watch or to follow led to is over; nothing more comes of it."""

    number: int


class Stop(_Note, frozen=True):
    """Take no connection any more, answer what was taken, and end."""


Note: TypeAlias = (
    Ready
    | Unready
    | Arrived
    | Became
    | Took
    | Ending
    | GivenUp
    | Gone
    | NeverCame
    | Dropped
    | AcceptFailed
    | Failed
    | Welcome
    | Held
    | Over
    | Stop
)

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[list[Note]] = msgspec.json.Decoder(list[Note])


def write_notes(notes: Sequence[Note]) -> bytes:
    """Notes as they are sent."""
    return _encode(notes)


def read_notes(payload: bytes) -> list[Note]:
    """What was sent.

    Raises:
        msgspec.DecodeError: it is none of them.
    """
    return _decoder.decode(payload)
