"""An aircraft's history: each of its legs, and where it is now as far as these airports know."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from examples.flights.messages import FlightCancelled, FlightDeparted, FlightLanded, FlightScheduled
from millstream.engine import Query
from millstream.views import View, answers, applies

__all__ = ["Aircraft", "Booking", "History", "HistoryOf", "Leg"]


class Leg(Struct, frozen=True, gc=False):
    """One flight of an aircraft. ``landed`` is None while it is in the air; ``delay`` is that of the departure."""

    flight: str
    origin: str
    destination: str
    left: datetime
    delay: int
    landed: datetime | None = None


class History(Struct, frozen=True):
    """The legs that were asked for, oldest first, and how many there are in all."""

    aircraft: str
    flown: int
    legs: tuple[Leg, ...]


class HistoryOf(Query[History]):
    """The last legs of an aircraft; ``legs=None`` for all of them."""

    aircraft: str
    legs: Annotated[int, Meta(ge=1)] | None = 10


class Booking(Struct, gc=False):
    aircraft: str
    origin: str
    destination: str


class Aircraft(View):
    legs: dict[str, list[Leg]] = {}
    #: Flights of known aircraft that are not over.
    booked: dict[str, Booking] = {}

    @applies
    def on_scheduled(self, event: FlightScheduled) -> None:
        if event.aircraft is not None:
            self.booked[event.flight] = Booking(event.aircraft, event.origin, event.destination)

    @applies
    def on_departed(self, event: FlightDeparted) -> None:
        plan = self.booked.get(event.flight)
        if plan is not None:
            legs = self.legs.get(plan.aircraft)
            if legs is None:
                legs = self.legs[plan.aircraft] = []
            legs.append(Leg(event.flight, plan.origin, plan.destination, event.at, event.delay))

    @applies
    def on_landed(self, event: FlightLanded) -> None:
        plan = self.booked.pop(event.flight, None)
        if plan is not None:
            legs = self.legs[plan.aircraft]
            leg = legs[-1]  # the rules let an aircraft fly one leg at a time
            legs[-1] = Leg(leg.flight, leg.origin, leg.destination, leg.left, leg.delay, event.at)

    @applies
    def on_cancelled(self, event: FlightCancelled) -> None:
        self.booked.pop(event.flight, None)

    @answers
    def history(self, query: HistoryOf) -> History:
        legs = self.legs.get(query.aircraft, [])
        return History(query.aircraft, len(legs), tuple(legs if query.legs is None else legs[-query.legs :]))
