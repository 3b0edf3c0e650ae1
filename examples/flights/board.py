"""The departures board of an airport, at any moment: now, or any moment of the past as it was then.

An answer looks at one day of one airport, some 330 flights, however many years are in the log.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from examples.flights.messages import (
    FlightCancelled,
    FlightDeparted,
    FlightScheduled,
    Moment,
)
from millstream.engine import Query
from millstream.views import View, answers, applies

__all__ = ["Board", "DeparturesAt", "DeparturesBoard", "Line", "Slot", "Status", "Timetable"]

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


class Slot(Struct, gc=False):
    """What is known of a flight: when each thing happened, so that any moment can be told."""

    origin: str
    destination: str
    departs: datetime
    left: datetime | None = None
    cancelled: datetime | None = None


class Timetable(Struct):
    """Flights by time: two lists side by side, so that finding a moment is a binary search in plain values."""

    times: list[datetime] = []
    flights: list[str] = []

    def add(self, time: datetime, flight: str) -> None:
        """Nearly always at the end, because events come in the order of time; in the right place in any case."""
        if not self.times or self.times[-1] <= time:
            self.times.append(time)
            self.flights.append(flight)
        else:
            place = bisect_right(self.times, time)
            self.times.insert(place, time)
            self.flights.insert(place, flight)


class DeparturesBoard(View):
    flights: dict[str, Slot] = {}
    #: By airport: all flights as scheduled, and those that left as they did.
    scheduled: dict[str, Timetable] = {}
    departed: dict[str, Timetable] = {}

    @applies
    def on_scheduled(self, event: FlightScheduled) -> None:
        if event.origin not in self.scheduled:
            self.scheduled[event.origin] = Timetable()
            self.departed[event.origin] = Timetable()
        self.flights[event.flight] = Slot(event.origin, event.destination, event.departs)
        self.scheduled[event.origin].add(event.departs, event.flight)

    @applies
    def on_departed(self, event: FlightDeparted) -> None:
        slot = self.flights[event.flight]
        slot.left = event.at
        self.departed[slot.origin].add(event.at, event.flight)

    @applies
    def on_cancelled(self, event: FlightCancelled) -> None:
        self.flights[event.flight].cancelled = event.at

    @answers
    def departures(self, query: DeparturesAt) -> Board:
        if query.airport not in self.scheduled:
            return Board(query.airport, query.at)
        departed = self.departed[query.airport]
        end = bisect_right(departed.times, query.at)
        gone = tuple(self._line(flight, query.at) for flight in departed.flights[max(0, end - query.rows) : end])
        return Board(query.airport, query.at, gone, self._waiting(query))

    def _waiting(self, query: DeparturesAt) -> tuple[Line, ...]:
        at, found = query.at, list[Line]()
        times, flights = self.scheduled[query.airport].times, self.scheduled[query.airport].flights
        for index in range(bisect_right(times, at - KEPT_WAITING), len(times)):
            slot = self.flights[flights[index]]
            left = slot.left
            if left is not None and left <= at:
                continue
            if slot.cancelled is not None and slot.cancelled <= at and slot.departs < at - KEPT_CANCELLED:
                continue
            found.append(self._line(flights[index], at))
            if len(found) == query.rows:
                break
        return tuple(found)

    def _line(self, flight: str, at: datetime) -> Line:
        slot = self.flights[flight]
        if slot.left is not None and slot.left <= at:
            return Line(flight, slot.destination, slot.departs, Status.DEPARTED, slot.left)
        if slot.cancelled is not None and slot.cancelled <= at:
            return Line(flight, slot.destination, slot.departs, Status.CANCELLED)
        return Line(flight, slot.destination, slot.departs, Status.DELAYED if slot.departs < at else Status.SCHEDULED)
