"""How punctual each carrier is. Sums are kept as events come, so an answer costs the same after any number of them."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import astuple

from examples.flights.messages import FlightCancelled, FlightDeparted, FlightLanded, FlightScheduled
from millstream.engine import Query
from millstream.views import View, answers, applies

__all__ = ["ON_TIME_MINUTES", "CarrierPunctuality", "Punctuality", "PunctualityByCarrier", "PunctualityOf", "Tally"]

#: An arrival is on time if it is less than this late: the rule of the US Department of Transportation.
ON_TIME_MINUTES = 15


class Tally(Struct, gc=False):
    """A `CarrierPunctuality` in the making."""

    scheduled: int = 0
    cancelled: int = 0
    departed: int = 0
    landed: int = 0
    reported: int = 0
    on_time: int = 0
    departure_delay: int = 0
    arrival_delay: int = 0


class CarrierPunctuality(Struct, frozen=True):
    """What happened to a carrier's flights.

    ``reported`` are the landings with a delay; those without were diverted, and count neither as late nor as on time.
    Delays are sums of minutes in which early flights count as negative.
    """

    carrier: str
    scheduled: int
    cancelled: int
    departed: int
    landed: int
    reported: int
    on_time: int
    departure_delay: int
    arrival_delay: int


class PunctualityOf(Query[CarrierPunctuality | None]):
    """One carrier's, or None if it never announced a flight."""

    carrier: str


class PunctualityByCarrier(Query[tuple[CarrierPunctuality, ...]]):
    """All carriers', by their code."""


class Punctuality(View):
    carriers: dict[str, Tally] = {}
    #: The carrier of each flight that is not over.
    flights: dict[str, str] = {}

    @applies
    def on_scheduled(self, event: FlightScheduled) -> None:
        self.flights[event.flight] = event.carrier
        tally = self.carriers.get(event.carrier)
        if tally is None:
            tally = self.carriers[event.carrier] = Tally()
        tally.scheduled += 1

    @applies
    def on_departed(self, event: FlightDeparted) -> None:
        tally = self.carriers[self.flights[event.flight]]
        tally.departed += 1
        tally.departure_delay += event.delay

    @applies
    def on_landed(self, event: FlightLanded) -> None:
        tally = self.carriers[self.flights.pop(event.flight)]
        tally.landed += 1
        if event.delay is not None:
            tally.reported += 1
            tally.on_time += event.delay < ON_TIME_MINUTES
            tally.arrival_delay += event.delay

    @applies
    def on_cancelled(self, event: FlightCancelled) -> None:
        self.carriers[self.flights.pop(event.flight)].cancelled += 1

    @answers
    def of(self, query: PunctualityOf) -> CarrierPunctuality | None:
        return self._answer(query.carrier) if query.carrier in self.carriers else None

    @answers
    def by_carrier(self, query: PunctualityByCarrier) -> tuple[CarrierPunctuality, ...]:
        return tuple(self._answer(carrier) for carrier in sorted(self.carriers))

    def _answer(self, carrier: str) -> CarrierPunctuality:
        return CarrierPunctuality(carrier, *astuple(self.carriers[carrier]))
