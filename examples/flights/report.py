"""What the demo shows: tables for people. Nothing here asks or counts; it is given answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.table import Table

from examples.flights.aircraft import History
from examples.flights.board import Board, Status
from examples.flights.data import new_york
from examples.flights.delays import RouteDelay
from examples.flights.load import Load
from examples.flights.months import Month
from examples.flights.punctuality import CarrierPunctuality

__all__ = [
    "aircraft_table",
    "board_table",
    "carriers_table",
    "latency_table",
    "months_table",
    "outcomes_table",
    "routes_table",
]

_STYLES = {
    Status.SCHEDULED: "",
    Status.DELAYED: "yellow",
    Status.CANCELLED: "red",
    Status.DEPARTED: "green",
}


def outcomes_table(report: Load) -> Table:
    """How many commands of each type were accepted, and why the others were not."""
    table = _table("What became of the commands", "command", "outcome", numbers=("commands",))
    for name in ("ScheduleFlight", "DepartFlight", "LandFlight", "CancelFlight"):
        table.add_row(name, "accepted", f"{report.accepted[name]:,}")
        for (command, code), count in sorted(report.rejected.items()):
            if command == name:
                table.add_row("", f"[red]rejected: {code}[/]", f"[red]{count:,}[/]")
    table.add_section()
    table.add_row("all", "", f"{report.commands:,}")
    return table


def carriers_table(carriers: Iterable[CarrierPunctuality]) -> Table:
    """Punctuality, the most punctual first."""
    table = _table(
        "Punctuality by carrier (on time: less than 15 minutes late)",
        "carrier",
        numbers=("scheduled", "cancelled", "departed", "on time", "left late", "arrived late"),
    )
    for carrier in sorted(carriers, key=lambda c: -_ratio(c.on_time, c.reported)):
        table.add_row(
            carrier.carrier,
            f"{carrier.scheduled:,}",
            f"{carrier.cancelled:,}",
            f"{carrier.departed:,}",
            f"{_ratio(carrier.on_time, carrier.reported):.1%}",
            f"{_ratio(carrier.departure_delay, carrier.departed):+.1f} min",
            f"{_ratio(carrier.arrival_delay, carrier.reported):+.1f} min",
        )
    return table


def months_table(months: Iterable[Month]) -> Table:
    """What SQL says of each month."""
    table = _table("Months, in SQL", "month", numbers=("cancelled", "landed", "arrived late"))
    for each in months:
        late = f"{_ratio(each.minutes, each.reported):+.1f} min"
        table.add_row(each.month, f"{each.cancelled:,}", f"{each.landed:,}", late)
    return table


def routes_table(routes: Iterable[RouteDelay], departed_min: int) -> Table:
    """The routes with the longest delays."""
    title = f"Worst routes (of those with {departed_min} departures or more)"
    table = _table(title, "route", numbers=("departed", "mean delay", "15 minutes late or more"))
    for route in routes:
        delay = route.delay
        share = _ratio(delay.late, delay.departed)
        table.add_row(route.route, f"{delay.departed:,}", f"{delay.mean:+.1f} min", f"{share:.1%}")
    return table


def board_table(board: Board) -> Table:
    """The board as it hung in the hall, in New York's time."""
    title = f"Departures from {board.airport}, as of {new_york(board.at):%A %d %B %Y, %H:%M}"
    table = _table(title, "scheduled", "flight", "to", "status", "left at")
    for part in (board.gone, board.waiting):
        for line in part:
            status = f"[{_STYLES[line.status]}]{line.status}[/]" if _STYLES[line.status] else str(line.status)
            table.add_row(_clock(line.departs), _number(line.flight), line.destination, status, _clock(line.left))
        table.add_section()
    return table


def aircraft_table(history: History) -> Table:
    """The last legs of an aircraft."""
    title = (
        f"Aircraft {history.aircraft}: the last {len(history.legs)} of {history.flown:,} departures, in New York's time"
    )
    table = _table(title, "left", "flight", "from", "to", "landed", numbers=("delay",))
    for leg in history.legs:
        landed = "in the air" if leg.landed is None else f"{new_york(leg.landed):%d %b %H:%M}"
        left = f"{new_york(leg.left):%d %b %H:%M}"
        table.add_row(left, _number(leg.flight), leg.origin, leg.destination, landed, f"{leg.delay:+d} min")
    return table


def latency_table(report: Load) -> Table:
    """How long questions took while commands were loaded, from when they were due."""
    table = _table("Queries during the load, in ms from when they were due", "", numbers=("asked", "p50", "p99", "max"))
    for name, latencies in (("at once", report.asked), ("after the latest write", report.asked_after)):
        ordered = sorted(latencies)
        figures = (_quantile(ordered, 0.5), _quantile(ordered, 0.99), _quantile(ordered, 1.0))
        table.add_row(name, f"{len(ordered):,}", *(f"{figure:.2f}" for figure in figures))
    return table


def _table(title: str, *texts: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", min_width=len(title) + 2)
    for text in texts:
        table.add_column(text)
    for number in numbers:
        table.add_column(number, justify="right")
    return table


def _number(flight: str) -> str:
    """What passengers call it: ``UA1545`` of ``2013-01-01/UA1545/EWR``."""
    return flight.split("/")[1]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _clock(time: datetime | None) -> str:
    return "" if time is None else f"{new_york(time):%H:%M}"


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
