"""Life cycles: what a thing can be, and what moves it from one to another, as a table that the code asks.

Here: the rule, and the one table that an engine, a replica and a client have in common. The tables of the actors are in
their own modules (`write.writer`, `read.actor`, `read.feed`, `server.connection_life`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

__all__ = ["OPENED_ONCE", "LifeCycle", "Moves", "Phase", "Turn"]

Status = TypeVar("Status", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)
#: By status, and by what happens: the status that follows. What is not there means nothing in that status.
Moves: TypeAlias = Mapping[Status, Mapping[Event, Status]]


class LifeCycle(Generic[Status, Event]):
    """A status that moves as its table says, and no other way.

    Args:
        moves: the table.
        status: the first one.
    """

    __slots__ = ("_moves", "status")

    def __init__(self, moves: Moves[Status, Event], status: Status) -> None:
        self._moves = moves
        #: What it is now. Only `on` sets it.
        self.status = status

    def on(self, event: Event) -> bool:
        """Move on, if ``event`` means anything now. Returns False if it means nothing."""
        to = self._moves[self.status].get(event)
        if to is None:
            return False
        self.status = to
        return True

    def must(self, event: Event) -> None:
        """Move on.

        Raises:
            RuntimeError: ``event`` means nothing now: a defect of the engine.
        """
        if not self.on(event):
            raise RuntimeError(f"what is {self.status.value!r} can't take {event.value!r}")


class Phase(StrEnum):
    """How far something has come that is opened once and closed once. The values are what errors say."""

    NEW = "not open yet"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Turn(StrEnum):
    """What happens to it."""

    OPEN = "open"
    OPENED = "opened"
    FAILED = "failed"
    CLOSE = "close"
    CLOSED = "closed"


OPENED_ONCE: Moves[Phase, Turn] = {
    Phase.NEW: {Turn.OPEN: Phase.OPENING},
    Phase.OPENING: {Turn.OPENED: Phase.OPEN, Turn.FAILED: Phase.CLOSED},
    Phase.OPEN: {Turn.CLOSE: Phase.CLOSING},
    Phase.CLOSING: {Turn.CLOSED: Phase.CLOSED},
    Phase.CLOSED: {},
}
