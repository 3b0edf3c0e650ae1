"""Every answer that the views can give about these flights, to compare before and after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import msgspec

from examples.flights.aircraft import HistoryOf
from examples.flights.board import DeparturesAt
from examples.flights.data import Flight, moment
from examples.flights.delays import DelayByHour, DelayOnRoute, WorstRoutes
from examples.flights.months import MonthsOf
from examples.flights.punctuality import PunctualityByCarrier, PunctualityOf
from millstream.engine import Engine, Query

__all__ = ["all_answers", "differences"]

#: Boards are compared at this step through the year; everything else is compared whole.
BOARD_EVERY = timedelta(hours=6)


async def all_answers(engine: Engine, flights: Sequence[Flight]) -> dict[str, bytes]:
    """A digest of the answer to each question, by the question as JSON."""
    encode = msgspec.json.Encoder().encode
    after = engine.position
    return {
        encode(question).decode(): blake2b(encode(await engine.ask(question, after=after)), digest_size=16).digest()
        for question in _questions(flights)
    }


def differences(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """The questions with another answer, or with one in only one of the two."""
    return sorted(q for q in before.keys() | after.keys() if before.get(q) != after.get(q))


def _questions(flights: Sequence[Flight]) -> Iterator[Query[Any]]:
    origins = sorted({flight.origin for flight in flights})
    yield PunctualityByCarrier()
    yield from (MonthsOf(origin) for origin in (None, *origins))
    yield from (PunctualityOf(carrier) for carrier in sorted({flight.carrier for flight in flights}))
    yield WorstRoutes(rows=1_000, departed_min=1)
    for origin, destination in sorted({(flight.origin, flight.destination) for flight in flights}):
        yield DelayOnRoute(origin, destination)
    yield from (DelayByHour(origin) for origin in (None, *origins))
    yield from (HistoryOf(a, legs=None) for a in sorted({flight.aircraft for flight in flights if flight.aircraft}))
    if flights:
        at, end = moment(flights[0].departs), moment(flights[-1].departs)
        while at <= end:
            yield from (DeparturesAt(origin, at, rows=20) for origin in origins)
            at += BOARD_EVERY
