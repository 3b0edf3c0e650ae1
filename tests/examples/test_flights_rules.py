"""The rules, given / when / then, and the board, on a few flights written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import asdict

from examples.flights.board import DeparturesAt, DeparturesBoard
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
from examples.flights.model import Flights
from millstream.engine import Command, Event, Rejected

ONE, TWO = "2013-01-02/UA1/EWR", "2013-01-02/UA2/EWR"
NOON = datetime(2013, 1, 2, 12, tzinfo=UTC)


def minutes(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def scheduled(key: str, aircraft: str | None = "N1") -> FlightScheduled:
    return FlightScheduled(key, "UA", aircraft, "EWR", "IAH", NOON, 7)


def schedule(key: str) -> ScheduleFlight:
    return ScheduleFlight(key, "UA", "N1", "EWR", "IAH", NOON, 7)


def departed(key: str) -> FlightDeparted:
    return FlightDeparted(key, minutes(5), 5)


def decide(given: Iterable[Event], when: Command) -> list[Event] | str:
    """The events that follow, or the code of the rejection."""
    model = Flights()
    for event in given:
        model.__appliers__[type(event)].function(model, event)
    try:
        return list(model.__handlers__[type(when)].function(model, when))
    except Rejected as refusal:
        return refusal.code


LANDED = FlightLanded(ONE, minutes(90), 3)
CANCELLED = FlightCancelled(ONE, NOON)

ACCEPTED: dict[str, tuple[list[Event], Command, list[Event]]] = {
    "a flight is announced": ([], schedule(ONE), [scheduled(ONE)]),
    "it departs, and its delay is known": ([scheduled(ONE)], DepartFlight(ONE, minutes(5)), [departed(ONE)]),
    "it departs early": ([scheduled(ONE)], DepartFlight(ONE, minutes(-7)), [FlightDeparted(ONE, minutes(-7), -7)]),
    "it lands": ([scheduled(ONE), departed(ONE)], LandFlight(ONE, minutes(90), 3), [LANDED]),
    "it is cancelled": ([scheduled(ONE)], CancelFlight(ONE, NOON), [CANCELLED]),
    "the aircraft landed and departs again": (
        [scheduled(ONE), departed(ONE), LANDED, scheduled(TWO)],
        DepartFlight(TWO, minutes(90)),
        [FlightDeparted(TWO, minutes(90), 90)],
    ),
    "unknown aircraft are not the same aircraft": (
        [scheduled(ONE, None), departed(ONE), scheduled(TWO, None)],
        DepartFlight(TWO, minutes(5)),
        [departed(TWO)],
    ),
}


@pytest.mark.parametrize(("given", "when", "then"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_the_rules_allow(given: list[Event], when: Command, then: list[Event]) -> None:
    assert decide(given, when) == then


REFUSED: dict[str, tuple[list[Event], Command, str]] = {
    "scheduled twice": ([scheduled(ONE)], schedule(ONE), "already_scheduled"),
    "scheduled in the air": ([scheduled(ONE), departed(ONE)], schedule(ONE), "already_scheduled"),
    "scheduled after landing": ([scheduled(ONE), departed(ONE), LANDED], schedule(ONE), "already_scheduled"),
    "scheduled after cancelling": ([scheduled(ONE), CANCELLED], schedule(ONE), "already_scheduled"),
    "departs unscheduled": ([], DepartFlight(ONE, NOON), "not_scheduled"),
    "departs though cancelled": ([scheduled(ONE), CANCELLED], DepartFlight(ONE, NOON), "cancelled"),
    "departs twice": ([scheduled(ONE), departed(ONE)], DepartFlight(ONE, NOON), "already_departed"),
    "departs after landing": ([scheduled(ONE), departed(ONE), LANDED], DepartFlight(ONE, NOON), "already_departed"),
    "departs in an aircraft that is in the air": (
        [scheduled(ONE), departed(ONE), scheduled(TWO)],
        DepartFlight(TWO, minutes(30)),
        "aircraft_in_the_air",
    ),
    "lands unscheduled": ([], LandFlight(ONE, NOON), "landing_before_departure"),
    "lands before it departs": ([scheduled(ONE)], LandFlight(ONE, NOON), "landing_before_departure"),
    "lands though cancelled": ([scheduled(ONE), CANCELLED], LandFlight(ONE, NOON), "landing_before_departure"),
    "lands at a time before it departed": (
        [scheduled(ONE), departed(ONE)],
        LandFlight(ONE, minutes(5)),
        "landing_before_departure",
    ),
    "lands twice": ([scheduled(ONE), departed(ONE), LANDED], LandFlight(ONE, minutes(91)), "already_landed"),
    "cancelled unscheduled": ([], CancelFlight(ONE, NOON), "not_scheduled"),
    "cancelled in the air": ([scheduled(ONE), departed(ONE)], CancelFlight(ONE, NOON), "already_departed"),
    "cancelled twice": ([scheduled(ONE), CANCELLED], CancelFlight(ONE, NOON), "cancelled"),
}


@pytest.mark.parametrize(("given", "when", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_the_rules_refuse(given: list[Event], when: Command, code: str) -> None:
    assert decide(given, when) == code


def test_of_flights_that_are_over_the_rules_keep_only_the_key() -> None:
    model = Flights()
    events: list[Event] = [scheduled(ONE), scheduled(TWO, "N2"), departed(ONE), LANDED, FlightCancelled(TWO, NOON)]
    for event in events:
        model.__appliers__[type(event)].function(model, event)
    assert asdict(model) == {"plans": {}, "airborne": {}, "landed": {ONE}, "cancelled": {TWO}}


# The board, on a few hand-written flights.


def board_of(*events: Event) -> DeparturesBoard:
    view = DeparturesBoard()
    for event in events:
        if type(event) in view.__appliers__:
            view.__appliers__[type(event)].function(view, event)
    return view


def shown(view: DeparturesBoard, when: datetime, rows: int = 8) -> tuple[list[str], list[tuple[str, str]]]:
    board = view.departures(DeparturesAt("EWR", when, rows))
    return [line.flight for line in board.gone], [(line.flight, str(line.status)) for line in board.waiting]


def test_a_board_tells_any_moment_of_the_past_as_it_was() -> None:
    cancelled = FlightCancelled(TWO, NOON)
    view = board_of(scheduled(ONE), scheduled(TWO, "N2"), cancelled, departed(ONE), LANDED)
    assert shown(view, minutes(-10)) == ([], [(ONE, "scheduled"), (TWO, "scheduled")])
    assert shown(view, minutes(1)) == ([], [(ONE, "delayed"), (TWO, "cancelled")])
    assert shown(view, minutes(5)) == ([ONE], [(TWO, "cancelled")])
    assert shown(view, minutes(120)) == ([ONE], [(TWO, "cancelled")])
    assert shown(view, minutes(121)) == ([ONE], [])
    assert shown(view, minutes(1), rows=1) == ([], [(ONE, "delayed")])


def test_a_board_sorts_by_time_whatever_order_events_come_in() -> None:
    early = FlightScheduled(TWO, "UA", None, "EWR", "IAH", minutes(-60), 6)
    view = board_of(scheduled(ONE), early, departed(ONE), FlightDeparted(TWO, minutes(-50), 10))
    assert shown(view, minutes(-70))[1] == [(TWO, "scheduled"), (ONE, "scheduled")]
    assert shown(view, minutes(60))[0] == [TWO, ONE]


def test_an_airport_that_nobody_flies_from_has_an_empty_board() -> None:
    board = board_of(scheduled(ONE)).departures(DeparturesAt("XXX", NOON))
    assert (board.gone, board.waiting) == ((), ())
