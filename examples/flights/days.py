"""What happened to all flights, merged by time, in batches of commands.

Each thing that happens is one whole number: its minute, what it is, and whose it is. So a million of them are sorted in
half a second, and a command is made only when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from examples.flights.data import DAY_MINUTES, START, Flight, moment
from examples.flights.messages import CancelFlight, DepartFlight, LandFlight, ScheduleFlight
from millstream.engine import Command

__all__ = ["LEAD_MINUTES", "Batch", "Days"]

#: How long before its departure a flight is announced.
LEAD_MINUTES = DAY_MINUTES

#: What happens in one minute happens in this order, and things of one kind in the order of the flights' schedule: an
#: aircraft that lands and departs in the same minute must have landed.
_LAND, _SCHEDULE, _CANCEL, _DEPART = range(4)

_KIND_BITS, _FLIGHT_BITS = 2, 24
_FLIGHT_MASK, _KIND_MASK = (1 << _FLIGHT_BITS) - 1, (1 << _KIND_BITS) - 1


class Batch(Struct):
    """Commands that follow each other, and the moment of the last one."""

    commands: list[Command]
    until: datetime


class Days:
    """All that happens to ``flights``, in order."""

    def __init__(self, flights: Sequence[Flight]) -> None:
        self._flights = flights
        self._things = sorted(_things(flights))

    def __len__(self) -> int:
        return len(self._things)

    def batches(self, size: int) -> Iterator[Batch]:
        """The commands, ``size`` at a time."""
        for start in range(0, len(self._things), size):
            things = self._things[start : start + size]
            yield Batch(self._commands(things), moment(things[-1] >> _KIND_BITS + _FLIGHT_BITS))

    def _commands(self, things: Sequence[int]) -> list[Command]:
        """Things follow each other by minutes, with some to a minute: its moment is made once, and they share it."""
        flights, commands, minute, at, day_later = self._flights, list[Command](), -1, START, START
        for thing in things:
            flight, kind = flights[thing & _FLIGHT_MASK], thing >> _FLIGHT_BITS & _KIND_MASK
            if thing >> _KIND_BITS + _FLIGHT_BITS != minute:
                minute = thing >> _KIND_BITS + _FLIGHT_BITS
                at, day_later = moment(minute), moment(minute + LEAD_MINUTES)
            if kind == _SCHEDULE:
                commands.append(_announced(flight, day_later))
            elif kind == _DEPART:
                commands.append(DepartFlight(flight.key, at))
            elif kind == _LAND:
                commands.append(LandFlight(flight.key, at, flight.delay, flight.recorded))
            else:
                commands.append(CancelFlight(flight.key, at))
        return commands


def _announced(flight: Flight, departs: datetime) -> ScheduleFlight:
    return ScheduleFlight(
        flight.key, flight.carrier, flight.aircraft, flight.origin, flight.destination, departs, flight.hour
    )


def _things(flights: Sequence[Flight]) -> Iterator[int]:
    for index, flight in enumerate(flights):
        yield _thing(flight.departs - LEAD_MINUTES, _SCHEDULE, index)
        if flight.left is None:
            yield _thing(flight.departs, _CANCEL, index)
        else:
            yield _thing(flight.left, _DEPART, index)
            yield _thing(flight.landed, _LAND, index)


def _thing(minute: int, kind: int, index: int) -> int:
    return (minute << _KIND_BITS | kind) << _FLIGHT_BITS | index
