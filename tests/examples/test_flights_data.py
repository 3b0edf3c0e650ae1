"""What rows of the data mean, and the order in which what happened is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from examples.flights.data import Flight, Zone, flights_of, moment, new_york, read_zones
from examples.flights.days import Days
from millstream.engine import Command

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,"
    "dest,air_time,distance,hour,minute,time_hour"
)


def at(text: str) -> datetime:
    """``01-31 23:59`` of 2013, in UTC."""
    return datetime.strptime(f"2013-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


# What rows mean. The rows are the data's own; what is expected was worked out by hand.


@pytest.fixture(scope="module")
def zones() -> dict[str, Zone]:
    return dict(read_zones())


ROWS = {
    "an ordinary flight to a place an hour behind": (
        "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z",
        ("2013-01-01/UA1545/EWR", "N14228", "01-01 10:15", 5, "01-01 10:17", "01-01 14:30", 11, True),
    ),
    "arrived at 2400": (
        "2013,1,1,2209,2155,14,2400,2337,23,B6,1109,N216JB,JFK,RDU,86,427,21,55,2013-01-02T02:00:00Z",
        ("2013-01-01/B61109/JFK", "N216JB", "01-02 02:55", 21, "01-02 03:09", "01-02 05:00", 23, True),
    ),
    "departed at 2400": (
        "2013,10,30,2400,2359,1,327,337,-10,B6,839,N661JB,JFK,BQN,182,1576,23,59,2013-10-31T03:00:00Z",
        ("2013-10-30/B6839/JFK", "N661JB", "10-31 03:59", 23, "10-31 04:00", "10-31 07:27", -10, True),
    ),
    "delayed past midnight, to a place three hours behind, in summer": (
        "2013,7,1,44,2150,174,300,100,120,AA,185,N324AA,JFK,LAX,297,2475,21,50,2013-07-02T01:00:00Z",
        ("2013-07-01/AA185/JFK", "N324AA", "07-02 01:50", 21, "07-02 04:44", "07-02 10:00", 120, True),
    ),
    "departed early, to a place without daylight saving time": (
        "2013,7,1,655,658,-3,855,915,-20,UA,1138,N38727,EWR,PHX,278,2133,6,58,2013-07-01T10:00:00Z",
        ("2013-07-01/UA1138/EWR", "N38727", "07-01 10:58", 6, "07-01 10:55", "07-01 15:55", -20, True),
    ),
    "to a place that airports.csv lacks": (
        "2013,7,1,2,2359,3,344,344,0,B6,1503,N805JB,JFK,SJU,200,1598,23,59,2013-07-02T03:00:00Z",
        ("2013-07-01/B61503/JFK", "N805JB", "07-02 03:59", 23, "07-02 04:02", "07-02 07:44", 0, True),
    ),
    "in the air while clocks change": (
        "2013,3,9,2306,2145,81,203,34,89,B6,35,N658JB,JFK,PBI,141,1028,21,45,2013-03-10T02:00:00Z",
        ("2013-03-09/B635/JFK", "N658JB", "03-10 02:45", 21, "03-10 04:06", "03-10 07:03", 89, True),
    ),
    "departed, and no arrival: when the timetable said, moved by the delay of the departure": (
        "2013,1,1,2016,1930,46,NA,2220,NA,EV,4204,N14168,EWR,OKC,NA,1325,19,30,2013-01-02T00:00:00Z",
        ("2013-01-01/EV4204/EWR", "N14168", "01-02 00:30", 19, "01-02 01:16", "01-02 05:06", None, False),
    ),
    "diverted, and arrived in the end": (
        "2013,1,1,1525,1530,-5,1934,1805,NA,MQ,4525,N719MQ,LGA,XNA,NA,1147,15,30,2013-01-01T20:00:00Z",
        ("2013-01-01/MQ4525/LGA", "N719MQ", "01-01 20:30", 15, "01-01 20:25", "01-02 01:34", None, True),
    ),
    "cancelled, of no known aircraft": (
        "2013,1,2,NA,1545,NA,NA,1910,NA,AA,133,NA,JFK,LAX,NA,2475,15,45,2013-01-02T20:00:00Z",
        ("2013-01-02/AA133/JFK", None, "01-02 20:45", 15, None, None, None, True),
    ),
}


@pytest.mark.parametrize(("row", "expected"), ROWS.values(), ids=ROWS.keys())
def test_a_row_is_understood(row: str, expected: tuple[Any, ...], zones: dict[str, Zone]) -> None:
    (flight,) = flights_of(HEADER.split(","), [row.split(",")], zones)
    left = None if flight.left is None else moment(flight.left)
    landed = None if flight.left is None else moment(flight.landed)
    key, aircraft, departs, hour, left_at, landed_at, delay, recorded = expected
    assert (flight.key, flight.aircraft, flight.hour, flight.delay, flight.recorded) == (
        key,
        aircraft,
        hour,
        delay,
        recorded,
    )
    assert moment(flight.departs) == at(departs)
    assert left == (left_at and at(left_at))
    assert landed == (landed_at and at(landed_at))


def test_columns_are_found_by_their_names(zones: dict[str, Zone]) -> None:
    row = ROWS["an ordinary flight to a place an hour behind"][0]
    straight = list(flights_of(HEADER.split(","), [row.split(",")], zones))
    assert list(flights_of(HEADER.split(",")[::-1], [row.split(",")[::-1]], zones)) == straight


@pytest.mark.parametrize(
    ("utc", "shown"),
    [
        ("01-01 12:00", "01-01 07:00"),
        ("03-10 06:59", "03-10 01:59"),
        ("03-10 07:00", "03-10 03:00"),
        ("11-03 05:59", "11-03 01:59"),
        ("11-03 06:00", "11-03 01:00"),
    ],
)
def test_clocks_in_new_york_change_when_they_did(utc: str, shown: str) -> None:
    assert new_york(at(utc)) == at(shown).replace(tzinfo=None)


# The order of things.


def flight(number: int, departs: int, left: int | None = None, landed: int = 0, aircraft: str | None = None) -> Flight:
    return Flight(f"2013-01-02/UA{number}/EWR", "UA", aircraft, "EWR", "IAH", departs, 0, left, landed, 5)


def commands_of(flights: Sequence[Flight]) -> list[Command]:
    return [command for batch in Days(flights).batches(2) for command in batch.commands]


def test_commands_come_in_the_order_in_which_things_happened() -> None:
    told = [
        (type(command).__name__, getattr(command, "flight").split("/")[1])  # noqa: B009 - a Command has no such field
        for command in commands_of([flight(1, 1500, 1510, 1600), flight(2, 1505), flight(3, 3000, 2990, 3100)])
    ]
    assert told == [
        ("ScheduleFlight", "UA1"),
        ("ScheduleFlight", "UA2"),
        ("CancelFlight", "UA2"),
        ("DepartFlight", "UA1"),
        ("ScheduleFlight", "UA3"),
        ("LandFlight", "UA1"),
        ("DepartFlight", "UA3"),
        ("LandFlight", "UA3"),
    ]


def test_in_one_minute_a_landing_comes_before_all_else_and_a_departure_last() -> None:
    flights = [flight(1, 1440, 1440, 1500), flight(2, 1500), flight(3, 1501, 1500, 1600), flight(4, 2940, 2940, 3000)]
    names = [type(command).__name__ for command in commands_of(flights)]
    assert names[4:8] == ["LandFlight", "ScheduleFlight", "CancelFlight", "DepartFlight"]


def test_a_batch_knows_the_moment_it_reaches() -> None:
    first, second = Days([flight(1, 1500, 1510, 1600)]).batches(2)
    assert (len(first.commands), first.until) == (2, at("01-02 01:10"))
    assert (len(second.commands), second.until) == (1, at("01-02 02:40"))
