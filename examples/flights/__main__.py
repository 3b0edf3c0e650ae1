"""``python -m examples.flights [--limit N] [--log PATH]``: load a year, ask, plot, restart, compare.

Exits with 1 if any answer after the restart differs from the one before it.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import anyio
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.flights.aircraft import HistoryOf
from examples.flights.answers import all_answers, differences
from examples.flights.app import app
from examples.flights.board import DeparturesAt
from examples.flights.data import Flight, moment, read_flights
from examples.flights.days import Days
from examples.flights.delays import DelayByHour, WorstRoutes
from examples.flights.load import Load, load
from examples.flights.months import Months, MonthsOf, months_of
from examples.flights.plot import plot_delays
from examples.flights.punctuality import PunctualityByCarrier
from examples.flights.report import (
    aircraft_table,
    board_table,
    carriers_table,
    latency_table,
    months_table,
    outcomes_table,
    routes_table,
)
from millstream.engine import Engine

__all__ = ["main"]

PLOT = Path("out/flights-delay-by-hour.png")
#: An evening of thunderstorms; a run that ends before it shows one of its own last hours.
STORM = datetime(2013, 7, 10, 22, 30, tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.flights", description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=_positive, help="only the first so many flights of the schedule")
    parser.add_argument("--log", type=Path, default=Path("out/flights.db"), help="where to keep the log (%(default)s)")
    options = parser.parse_args(arguments)
    # To stderr, looked up anew for each line: while the progress bar is shown, that is a stream which it lets through.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    return anyio.run(_run, Console(), options.log, options.limit)


async def _run(console: Console, log: Path, limit: int | None) -> int:
    started = perf_counter()
    _remove(console, log)
    with _stage(console, "read the CSV and merged it by time"):
        flights = read_flights(limit)
        days = Days(flights)
    _calm_collector()
    console.print(f"{len(flights):,} flights, {len(days):,} commands")
    before = await _first_life(console, log, flights, days)
    console.print("closed; opening the same log again: from its snapshots, then from its first event …")
    same = True
    for snapshots in (True, False):
        with _stage(console, "free the engine before"):
            gc.collect()  # its state: the next one starts with as much memory
        same &= await _next_life(console, log, flights, before, snapshots=snapshots)
    console.print(f"end to end: [bold]{perf_counter() - started:.1f} s[/]")
    return 0 if same else 1


async def _first_life(console: Console, log: Path, flights: Sequence[Flight], days: Days) -> dict[str, bytes]:
    report = Load()
    async with Engine(app, log=log) as engine:
        with _progress(console) as progress:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_show, progress, report, len(days))
                await load(engine, days, report)
        rate = report.commands / report.seconds
        console.print(f"loaded {report.commands:,} commands in {report.seconds:.1f} s: [bold]{rate:,.0f} commands/s[/]")
        await _show_answers(console, engine, flights, report)
        await _require_months(console, engine, flights, report)
        with _stage(console, "took down all answers"):
            answers = await all_answers(engine, flights)
        closing = perf_counter()
    console.print(f"closed, every state stored as a snapshot, in {perf_counter() - closing:.1f} s")
    console.print(f"the log is {log}: {log.stat().st_size / 1e6:,.1f} MB")
    return answers


async def _next_life(
    console: Console, log: Path, flights: Sequence[Flight], before: dict[str, bytes], *, snapshots: bool
) -> bool:
    started = perf_counter()
    async with Engine(app, log=log, snapshots=snapshots) as engine:
        seconds, events = perf_counter() - started, engine.stats().writer.position
        how = "from snapshots" if snapshots else f"by replay, {events / seconds:,.0f} events/s"
        console.print(f"recovered {events:,} events in [bold]{seconds:.1f} s[/] {how}")
        with _stage(console, "asked everything again"):
            after = await all_answers(engine, flights)
        closing = perf_counter()
    console.print(f"closed in {perf_counter() - closing:.1f} s")
    different = differences(before, after)
    if different:
        console.print(f"[bold red]{len(different):,} of {len(before):,} answers differ[/], the first of them to:")
        console.print(different[0], markup=False)
        return False
    console.print(f"[bold green]all {len(before):,} answers are what they were before[/]")
    return True


async def _show_answers(console: Console, engine: Engine, flights: Sequence[Flight], report: Load) -> None:
    """Ask each view, and print what it says."""
    console.print(outcomes_table(report))
    console.print(carriers_table(await engine.ask(PunctualityByCarrier())))
    departed_min = 100 if len(flights) > 100_000 else 10
    worst = await engine.ask(WorstRoutes(rows=10, departed_min=departed_min))
    console.print(routes_table(worst, departed_min))
    at = min(STORM, moment(flights[-1].departs) - timedelta(hours=2))
    console.print(board_table(await engine.ask(DeparturesAt("LGA", at, rows=8))))
    ((busiest, _),) = Counter(flight.aircraft for flight in flights if flight.aircraft).most_common(1)
    console.print(aircraft_table(await engine.ask(HistoryOf(busiest, legs=10))))
    console.print(latency_table(report))
    with _stage(console, f"plotted delays by hour: {PLOT}"):
        airports = {origin: await engine.ask(DelayByHour(origin)) for origin in ("EWR", "JFK", "LGA")}
        plot_delays(PLOT, await engine.ask(DelayByHour()), airports)


async def _require_months(console: Console, engine: Engine, flights: Sequence[Flight], report: Load) -> None:
    """Wait until the view in SQL is there, and see that its totals are those of the CSV."""
    with _stage(console, "the months in SQL caught up, and were added up"):
        months = await engine.ask(MonthsOf(), after=report.position)
    console.print(months_table(months))
    if months != months_of(flights, report.refused):
        raise AssertionError("the months in SQL are not those of the CSV")
    console.print("[bold green]the months in SQL are what the CSV says, less the flights that were refused[/]")


async def _show(progress: Progress, report: Load, total: int) -> None:
    """Move the bar until the load is done."""
    task = progress.add_task("loading", total=total, rate="", rejected=0)
    started = perf_counter()
    while not report.done:
        await anyio.sleep(0.25)
        rate = f"{report.commands / (perf_counter() - started):,.0f}/s"
        progress.update(task, completed=report.commands, rate=rate, rejected=report.rejected.total())
    progress.refresh()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}, {task.fields[rejected]} rejected"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
    )


def _calm_collector() -> None:
    """Let the cycle collector look less often at millions of values that stay, and that form no cycles.

    With its defaults it took 1.9 of the load's 25 s, and stalled the loop: the p99 of queries was 59 ms, and is 10.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)


@contextmanager
def _stage(console: Console, what: str) -> Iterator[None]:
    started = perf_counter()
    yield
    console.print(f"{what} in {perf_counter() - started:.1f} s")


def _remove(console: Console, log: Path) -> None:
    """A demo starts from nothing: take away what an earlier run left."""
    log.parent.mkdir(parents=True, exist_ok=True)
    found = [path for path in (Path(f"{log}{end}") for end in ("", "-wal", "-shm", "-lock")) if path.exists()]
    for path in (*found, *log.parent.glob(f"{log.name}-{Months.__name__}-*")):
        path.unlink()
    if found:
        console.print(f"removed the log of an earlier run: {log}")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"a positive number of flights, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
