"""What a child says to its parent: lines of text, and the values that they stand for.

    = open                   a mark: how far the process is
    * 9f0c…-3-Courier.send   a sign: the service was called for that, and this is said at once
    + 3.17.4 812 40211 1 0   acknowledged: name, commit, position, events, and whether the receipt was a repeated one
    - 3.17.5 Rejected        answered with an error that promises that nothing happened, and which
    ~ 40213                  seen: a query was answered from so many events
    ! text                   something that the process itself saw, and that must not be

A line counts when its end has arrived: a process is killed in the middle of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from millstream.engine import Receipt

__all__ = [
    "Ack",
    "Place",
    "Refusal",
    "Report",
    "Seen",
    "Trouble",
    "ack",
    "called",
    "mark",
    "parse",
    "refusal",
    "seen",
    "trouble",
]


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a command is: its commit, the position of its last event, and how many events it has.

    There are hundreds of thousands of these, and of reports: the garbage collector need not look at them.
    """

    commit: int
    position: int
    events: int


class Ack(msgspec.Struct, frozen=True, gc=False):
    """A command that was acknowledged, and where its receipt says that it is."""

    name: str
    place: Place
    repeated: bool = False


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A command of which the engine has said that nothing of it happened."""

    name: str
    error: str


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A query was answered, and the answer was made of all events up to this position."""

    position: int


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """What the child itself found wrong."""

    text: str


Report: TypeAlias = Ack | Refusal | Seen | Trouble


def mark(name: str) -> bytes:
    """The line that says how far the process is."""
    return f"= {name}\n".encode()


def called(effect: str) -> bytes:
    """The line for a call of the service."""
    return f"* {effect}\n".encode()


def ack(name: str, receipt: Receipt) -> bytes:
    """The line for a receipt."""
    return f"+ {name} {receipt.commit} {receipt.position} {receipt.events} {receipt.repeated:d}\n".encode()


def refusal(name: str, error: BaseException) -> bytes:
    """The line for an error that promises that nothing happened."""
    return f"- {name} {type(error).__name__}\n".encode()


def seen(position: int) -> bytes:
    """The line for what an answer was made of."""
    return f"~ {position}\n".encode()


def trouble(text: str) -> bytes:
    """The line for something that must not be."""
    return b"! " + " ".join(text.split()).encode() + b"\n"


def parse(lines: Iterable[bytes]) -> list[Report]:
    """What the lines say. Marks and signs are not among them.

    Raises:
        ValueError: a line is none of these.
    """
    found: list[Report] = []
    for line in lines:
        sign, _, rest = line.decode().partition(" ")
        if sign == "+":
            name, commit, position, events, repeated = rest.split(" ")
            found.append(Ack(name, Place(int(commit), int(position), int(events)), repeated == "1"))
        elif sign == "-":
            name, error = rest.split(" ")
            found.append(Refusal(name, error))
        elif sign == "~":
            found.append(Seen(int(rest)))
        elif sign == "!":
            found.append(Trouble(rest))
        else:
            raise ValueError(f"a child said {line!r:.200}, which is no report")
    return found
