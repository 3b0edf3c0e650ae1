"""How late flights leave, by route and by the hour for which they were scheduled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from msgspec import Meta, Struct

from examples.flights.messages import Airport, FlightCancelled, FlightDeparted, FlightScheduled
from millstream.engine import Query
from millstream.views import View, answers, applies

__all__ = ["Delay", "DelayByHour", "DelayOnRoute", "Delays", "HourDelay", "Place", "RouteDelay", "Sum", "WorstRoutes"]

#: A departure is late from here on.
LATE_MINUTES = 15

K = TypeVar("K", str, int)


class Delay(Struct, frozen=True, gc=False):
    """Of departures: how many, the sum of their delays in minutes, and how many left 15 minutes late or more."""

    departed: int = 0
    minutes: int = 0
    late: int = 0

    @property
    def mean(self) -> float:
        """Minutes; 0 where nothing departed."""
        return self.minutes / self.departed if self.departed else 0.0


class RouteDelay(Struct, frozen=True):
    route: str
    delay: Delay


class HourDelay(Struct, frozen=True):
    hour: int
    delay: Delay


class DelayOnRoute(Query[Delay]):
    origin: Airport
    destination: Airport


class WorstRoutes(Query[tuple[RouteDelay, ...]]):
    """Those with the highest mean, worst first; routes with fewer departures than ``departed_min`` are left out."""

    rows: Annotated[int, Meta(ge=1)] = 10
    departed_min: Annotated[int, Meta(ge=1)] = 100


class DelayByHour(Query[tuple[HourDelay, ...]]):
    """By the scheduled hour on New York's clocks; of one airport, or of all."""

    origin: Airport | None = None


class Sum(Struct, gc=False):
    """A `Delay` in the making."""

    departed: int = 0
    minutes: int = 0
    late: int = 0

    def add(self, minutes: int) -> None:
        """One more departure."""
        self.departed += 1
        self.minutes += minutes
        self.late += minutes >= LATE_MINUTES


class Place(Struct, gc=False):
    origin: str
    destination: str
    hour: int


class Delays(View):
    routes: dict[str, Sum] = {}
    #: By airport of departure and by hour.
    hours: dict[str, dict[int, Sum]] = {}
    #: Flights that wait for their departure.
    waiting: dict[str, Place] = {}

    @applies
    def on_scheduled(self, event: FlightScheduled) -> None:
        self.waiting[event.flight] = Place(event.origin, event.destination, event.hour)

    @applies
    def on_departed(self, event: FlightDeparted) -> None:
        place = self.waiting.pop(event.flight)
        _sum(self.routes, _route(place.origin, place.destination)).add(event.delay)
        _sum(self.hours.setdefault(place.origin, {}), place.hour).add(event.delay)

    @applies
    def on_cancelled(self, event: FlightCancelled) -> None:
        del self.waiting[event.flight]

    @answers
    def on_route(self, query: DelayOnRoute) -> Delay:
        found = self.routes.get(_route(query.origin, query.destination))
        return Delay() if found is None else _total([found])

    @answers
    def worst(self, query: WorstRoutes) -> tuple[RouteDelay, ...]:
        """Looks at all routes, of which there are 224: no more than there are pairs of cities."""
        known = [
            (s.minutes / s.departed, route) for route, s in self.routes.items() if s.departed >= query.departed_min
        ]
        known.sort(reverse=True)
        return tuple(RouteDelay(route, _total([self.routes[route]])) for _, route in known[: query.rows])

    @answers
    def by_hour(self, query: DelayByHour) -> tuple[HourDelay, ...]:
        airports = list(self.hours.values()) if query.origin is None else [self.hours.get(query.origin, {})]
        found = sorted({hour for hours in airports for hour in hours})
        return tuple(HourDelay(hour, _total([hours[hour] for hours in airports if hour in hours])) for hour in found)


def _route(origin: str, destination: str) -> str:
    return f"{origin}-{destination}"


def _sum(table: dict[K, Sum], key: K) -> Sum:
    found = table.get(key)
    if found is None:
        found = table[key] = Sum()
    return found


def _total(sums: Sequence[Sum]) -> Delay:
    return Delay(sum(s.departed for s in sums), sum(s.minutes for s in sums), sum(s.late for s in sums))
