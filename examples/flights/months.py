"""What became of flights, month by month: in SQL, a row for each that is over, to be added up in any way.

The rows lie in a file beside the log, and any program that reads SQLite may read them while the engine runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, func, insert, select

from examples.flights.data import Flight
from examples.flights.messages import FlightCancelled, FlightLanded
from millstream.engine import Query
from millstream.views import answers, applies
from millstream.views.sql import SqlView, Statement

__all__ = ["Month", "Months", "MonthsOf", "months_of"]

_tables = MetaData()
#: A flight that is over. Its ``delay`` is None where it was cancelled or diverted.
_flights = Table(
    "flights",
    _tables,
    Column("day", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("is_cancelled", Integer, nullable=False),
    Column("delay", Integer),
)
_OVER = insert(_flights)


class Month(Struct, frozen=True):
    """``reported`` are the landings with a delay, and ``minutes`` the sum of these."""

    month: str
    cancelled: int
    landed: int
    reported: int
    minutes: int


class MonthsOf(Query[tuple[Month, ...]]):
    """All months, of all airports or of one."""

    origin: str | None = None


class Months(SqlView):
    metadata = _tables

    @applies
    def on_landed(self, event: FlightLanded) -> Iterator[Statement]:
        yield _OVER, _row(event.flight, 0, event.delay)

    @applies
    def on_cancelled(self, event: FlightCancelled) -> Iterator[Statement]:
        yield _OVER, _row(event.flight, 1, None)

    @answers
    def months(self, query: MonthsOf, db: Connection) -> tuple[Month, ...]:
        of = _flights.c
        month = func.substr(of.day, 1, 7)
        cancelled, minutes = func.sum(of.is_cancelled), func.coalesce(func.sum(of.delay), 0)
        found = select(month, cancelled, func.count() - cancelled, func.count(of.delay), minutes)
        if query.origin is not None:
            found = found.where(of.origin == query.origin)
        return tuple(Month(*row) for row in db.execute(found.group_by(month).order_by(month)))


def _row(flight: str, is_cancelled: int, delay: int | None) -> dict[str, str | int | None]:
    day, number, origin = flight.split("/")
    return {"day": day, "number": number, "origin": origin, "is_cancelled": is_cancelled, "delay": delay}


def months_of(flights: Iterable[Flight], refused: Collection[str]) -> tuple[Month, ...]:
    """The same from the rows of the CSV, without those whose departure was refused."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for flight in flights:
        if flight.key in refused:
            continue
        total = sums[flight.key[:7]]
        total[0] += flight.left is None
        total[1] += flight.left is not None
        if flight.delay is not None:
            total[2] += 1
            total[3] += flight.delay
    return tuple(Month(month, *total) for month, total in sorted(sums.items()))
