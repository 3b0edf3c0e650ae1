"""Reports to compare and to show, made by hand."""

from __future__ import annotations

from statistics import median

from millstream.bench.figure import Goal
from millstream.bench.machine import Machine
from millstream.bench.measure import LATENCY, MEMORY
from millstream.bench.summary import FigureReport, Report, Row

__all__ = ["MACHINE", "a_figure", "a_report", "a_row"]

MACHINE = Machine(
    cpu="a <cpu>", cores=2, kernel="Linux 6", filesystem="ext4", python="CPython 3", versions={"sqlite": "3"}
)


def a_row(*values: float, label: str = "millstream", is_limit: bool = False, met: bool | None = None) -> Row:
    return Row(
        label=label,
        loop="asyncio",
        what=f"what {label} is",
        durability="durable: an fsync each",
        values=list(values),
        median=median(values),
        low=min(values),
        high=max(values),
        ratios={} if is_limit else {"minimum": 0.75},
        details={"events": 1_000.0, "keys": 10.0},
        series={LATENCY: [(0.5, 1.0), (0.9, 2.5), (0.99, 9.0)], MEMORY: [(0.0, 40.0), (1.0, 41.0)]},
        is_limit=is_limit,
        goal=None if met is None else Goal(bound=0.8, of="minimum"),
        met=met,
    )


def a_figure(*rows: Row, unit: str = "commands/s") -> FigureReport:
    return FigureReport(
        name="callers",
        title="many <callers>",
        unit=unit,
        rows=list(rows),
        skipped={"Redis": ["redis-server"]},
        about="Why?",
    )


def a_report(*figures: FigureReport, machine: Machine = MACHINE, smoke: bool = False, at: str = "2013-01-01") -> Report:
    return Report(machine=machine, runs=3, smoke=smoke, figures=list(figures), made_at=at)
