"""The departures board of an airport, at any moment: now, or any moment of the past as it was then.

An answer looks at one day of one airport, some 330 flights, however many years are in the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from examples.flights.messages import (
    FlightCancelled,
    FlightDeparted,
    FlightScheduled,
    Moment,
)
from millstream.engine import Query
from millstream.views import TableView, answers, applies

__all__ = ["Board", "DeparturesAt", "DeparturesBoard", "Line", "Slot", "Status"]

#: How long a delayed flight stays on the board. The longest delay of 2013 was 21 hours and 41 minutes.
KEPT_WAITING = timedelta(hours=24)
#: How long a cancelled one does, after it should have left.
KEPT_CANCELLED = timedelta(hours=2)


class Status(StrEnum):
    """What the board says of a flight."""

    SCHEDULED = "scheduled"
    DELAYED = "delayed"
    CANCELLED = "cancelled"
    DEPARTED = "departed"


class Line(Struct, frozen=True, gc=False):
    """A line of the board. ``left`` is when it departed, if it has."""

    flight: str
    destination: str
    departs: datetime
    status: Status
    left: datetime | None = None


class Board(Struct, frozen=True):
    """``gone``: the last departures, oldest first. ``waiting``: those to come, delayed and cancelled ones included."""

    airport: str
    at: datetime
    gone: tuple[Line, ...] = ()
    waiting: tuple[Line, ...] = ()


class DeparturesAt(Query[Board]):
    airport: str
    at: Moment
    rows: Annotated[int, Meta(ge=1, le=100)] = 8


#: When a flight leaves that has not left: after every moment that is asked for. None would have no place in an order.
NOT_YET = datetime.max.replace(tzinfo=UTC)


class Slot(Struct, frozen=True, gc=False):
    """What is known of a flight: when each thing happened, so that any moment can be shown."""

    flight: str
    origin: str
    destination: str
    departs: datetime
    left: datetime = NOT_YET
    cancelled: datetime = NOT_YET


class DeparturesBoard(TableView[Slot]):
    key: ClassVar = "flight"
    ordered: ClassVar = (("origin", "departs"), ("origin", "left"))

    @applies
    def on_scheduled(self, event: FlightScheduled) -> None:
        self.put(Slot(event.flight, event.origin, event.destination, event.departs))

    @applies
    def on_departed(self, event: FlightDeparted) -> None:
        self.change(event.flight, lambda slot: replace(slot, left=event.at))

    @applies
    def on_cancelled(self, event: FlightCancelled) -> None:
        self.change(event.flight, lambda slot: replace(slot, cancelled=event.at))

    @answers
    def departures(self, query: DeparturesAt) -> Board:
        here = {"origin": query.airport}
        last = self.between("left", where=here, high=query.at, descending=True, limit=query.rows)
        gone = tuple(_line(slot, query.at) for slot in reversed(last))
        found = (slot for slot in self._from(query.airport, query.at - KEPT_WAITING) if _is_waiting(slot, query.at))
        waiting = tuple(_line(slot, query.at) for slot in islice(found, query.rows))
        return Board(query.airport, query.at, gone, waiting)

    def _from(self, airport: str, time: datetime) -> Iterator[Slot]:
        """The flights that are scheduled after a time, as many as are taken."""
        page = self.page("departs", where={"origin": airport}, above=time)
        while True:
            yield from page.rows
            if page.next is None:
                return
            page = self.page("departs", where={"origin": airport}, above=time, after=page.next)


def _is_waiting(slot: Slot, at: datetime) -> bool:
    return slot.left > at and (slot.cancelled > at or slot.departs >= at - KEPT_CANCELLED)


def _line(slot: Slot, at: datetime) -> Line:
    if slot.left <= at:
        return Line(slot.flight, slot.destination, slot.departs, Status.DEPARTED, slot.left)
    if slot.cancelled <= at:
        return Line(slot.flight, slot.destination, slot.departs, Status.CANCELLED)
    status = Status.DELAYED if slot.departs < at else Status.SCHEDULED
    return Line(slot.flight, slot.destination, slot.departs, status)
