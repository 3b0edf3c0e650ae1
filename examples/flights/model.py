"""The rules. What they refuse in a year of real data is where the data contradicts itself: `data` tells how."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct

from examples.flights.messages import (
    CancelFlight,
    DepartFlight,
    FlightCancelled,
    FlightDeparted,
    FlightLanded,
    FlightScheduled,
    LandFlight,
    ScheduleFlight,
)
from millstream.handlers import Rejected, WriteModel, applies, handles

__all__ = ["Flights", "Plan"]

_MINUTE = timedelta(minutes=1)


class Plan(Struct, gc=False):
    """What the rules need of a flight that is not over. ``left`` is None until it departs."""

    aircraft: str | None
    departs: datetime
    left: datetime | None = None


class Flights(WriteModel):
    """Of a flight that is over only its key is kept, so that it is not announced again: about 100 bytes each.

    Those that are not over are some 1,300 at any moment, and nearly all that happens is about them: that they are a
    table of their own, which fits a processor's cache, makes deciding a third faster than one table of all flights.
    """

    plans: dict[str, Plan] = {}
    #: Which flight has an aircraft in the air.
    airborne: dict[str, str] = {}
    landed: set[str] = set()
    cancelled: set[str] = set()

    @handles
    def schedule(self, command: ScheduleFlight) -> Iterator[FlightScheduled]:
        flight = command.flight
        if flight in self.plans or flight in self.landed or flight in self.cancelled:
            raise Rejected("already_scheduled", f"flight {flight!r} is on the schedule already")
        yield FlightScheduled(
            flight,
            command.carrier,
            command.aircraft,
            command.origin,
            command.destination,
            command.departs,
            command.hour,
        )

    @handles
    def depart(self, command: DepartFlight) -> Iterator[FlightDeparted]:
        plan = self._waiting(command.flight)
        if plan.aircraft is not None and plan.aircraft in self.airborne:
            raise Rejected(
                "aircraft_in_the_air",
                f"{plan.aircraft} can't depart as {command.flight!r}: it has not landed yet",
                {"aircraft": plan.aircraft, "as": self.airborne[plan.aircraft]},
            )
        yield FlightDeparted(command.flight, command.at, (command.at - plan.departs) // _MINUTE)

    @handles
    def land(self, command: LandFlight) -> Iterator[FlightLanded]:
        plan = self.plans.get(command.flight)
        if plan is None and command.flight in self.landed:
            raise Rejected("already_landed", f"flight {command.flight!r} has landed")
        if plan is None or plan.left is None:
            raise Rejected("landing_before_departure", f"flight {command.flight!r} has not departed")
        if command.at <= plan.left:
            raise Rejected("landing_before_departure", f"flight {command.flight!r} departed only at {plan.left}")
        yield FlightLanded(command.flight, command.at, command.delay, command.recorded)

    @handles
    def cancel(self, command: CancelFlight) -> Iterator[FlightCancelled]:
        self._waiting(command.flight)
        yield FlightCancelled(command.flight, command.at)

    @applies
    def on_scheduled(self, event: FlightScheduled) -> None:
        self.plans[event.flight] = Plan(event.aircraft, event.departs)

    @applies
    def on_departed(self, event: FlightDeparted) -> None:
        plan = self.plans[event.flight]
        plan.left = event.at
        if plan.aircraft is not None:
            self.airborne[plan.aircraft] = event.flight

    @applies
    def on_landed(self, event: FlightLanded) -> None:
        plan = self.plans.pop(event.flight)
        self.landed.add(event.flight)
        if plan.aircraft is not None:
            del self.airborne[plan.aircraft]

    @applies
    def on_cancelled(self, event: FlightCancelled) -> None:
        del self.plans[event.flight]
        self.cancelled.add(event.flight)

    def _waiting(self, flight: str) -> Plan:
        """The plan of a flight that may still depart or be cancelled."""
        plan = self.plans.get(flight)
        if plan is None:
            if flight in self.cancelled:
                raise Rejected("cancelled", f"flight {flight!r} was cancelled")
            if flight in self.landed:
                raise Rejected("already_departed", f"flight {flight!r} has departed and landed")
            raise Rejected("not_scheduled", f"there is no flight {flight!r}")
        if plan.left is not None:
            raise Rejected("already_departed", f"flight {flight!r} has departed")
        return plan
