"""What is said about flights: commands and events. Queries stand with the views that answer them.

All moments are aware datetimes in UTC, whole minutes: airports' own clocks are the business of `data`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta

from millstream.engine import Command, Event, Key

__all__ = [
    "Airport",
    "CancelFlight",
    "Carrier",
    "DepartFlight",
    "FlightCancelled",
    "FlightDeparted",
    "FlightLanded",
    "FlightScheduled",
    "Hour",
    "LandFlight",
    "Moment",
    "ScheduleFlight",
    "TailNumber",
]

Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]
Airport: TypeAlias = Annotated[str, Meta(min_length=3, max_length=3)]
Carrier: TypeAlias = Annotated[str, Meta(min_length=2, max_length=2)]
#: An aircraft's registration, like ``N14228``.
TailNumber: TypeAlias = Annotated[str, Meta(min_length=1, max_length=6)]
#: Of the day, on the clock of the airport of departure.
Hour: TypeAlias = Annotated[int, Meta(ge=0, le=23)]


class ScheduleFlight(Command):
    """Announce a flight. ``aircraft`` is None where the data does not know it."""

    flight: Key
    carrier: Carrier
    aircraft: TailNumber | None
    origin: Airport
    destination: Airport
    departs: Moment
    hour: Hour


class DepartFlight(Command):
    """It left its gate."""

    flight: Key
    at: Moment


class LandFlight(Command):
    """It is back on the ground.

    ``delay`` is in minutes as the airline reported it, negative when early, None where nothing was reported.
    ``recorded`` is false where the data has no arrival, and ``at`` is what the timetable promised.
    """

    flight: Key
    at: Moment
    delay: int | None = None
    recorded: bool = True


class CancelFlight(Command):
    """It will not depart."""

    flight: Key
    at: Moment


class FlightScheduled(Event):
    flight: Key
    carrier: str
    aircraft: str | None
    origin: str
    destination: str
    departs: Moment
    hour: int


class FlightDeparted(Event):
    """``delay`` is in minutes against the schedule, negative when early."""

    flight: Key
    at: Moment
    delay: int


class FlightLanded(Event):
    """``delay`` and ``recorded`` are as in `LandFlight`."""

    flight: Key
    at: Moment
    delay: int | None = None
    recorded: bool = True


class FlightCancelled(Event):
    flight: Key
    at: Moment
