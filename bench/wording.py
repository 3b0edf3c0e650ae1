"""Numbers, names and goals in words, for terminals and pages alike. Needs nothing but values."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.bench.figure import Goal
from millstream.bench.summary import FigureReport, Report, Row

__all__ = ["facts_of", "headings_of", "judged", "kinds_of", "name_of", "number", "reached", "wanted"]


def facts_of(report: Report) -> dict[str, str]:
    """What was measured on, when, and how often, by what it is."""
    machine = report.machine
    counts = sorted({len(row.values) for figure in report.figures for row in figure.rows}) or [report.runs]
    runs = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return {
        "measured": report.made_at,
        "processor": f"{machine.cpu}, {machine.cores} cores",
        "system": machine.kernel,
        "files on": machine.filesystem,
        "Python": machine.python,
        "versions": ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        "runs": f"{runs} of each contender, interleaved, every one in a fresh process",
    }


def judged(report: Report) -> list[tuple[FigureReport, Row]]:
    """The rows of which it can be said whether their goal is met."""
    return [(figure, row) for figure in report.figures for row in figure.rows if row.met is not None]


def headings_of(figure: FigureReport) -> tuple[Sequence[str], Sequence[str]]:
    """The limits that its subjects are compared with, and whatever else was counted."""
    return list(figure.rows[0].ratios), list(dict.fromkeys(name for row in figure.rows for name in row.details))


def kinds_of(figure: FigureReport) -> list[tuple[str, str, str]]:
    """What its contenders are: the labels of those that are the same, what that is, and what it makes durable."""
    same: dict[tuple[str, str], dict[str, None]] = {}
    for row in figure.rows:
        same.setdefault((row.what, row.durability), {})[row.label] = None
    return [(", ".join(labels), *known) for known, labels in same.items()]


def name_of(row: Row) -> str:
    """The contender, and its event loop if it has one."""
    return row.label if row.loop is None else f"{row.label} · {row.loop}"


def wanted(goal: Goal | None) -> str:
    """What a goal asks for; empty without one."""
    if goal is None:
        return ""
    beside = f" of {goal.of}" if goal.of else f" above {goal.above}" if goal.above else ""
    return f"{'≤' if goal.at_most else '≥'} {number(goal.bound)}{beside}"


def reached(row: Row) -> str:
    """What came of it, in the terms of its goal."""
    if row.goal is not None and row.goal.of in row.ratios:
        return f"{row.ratios[row.goal.of]:.2f} of {row.goal.of}"
    if row.goal is not None and row.above is not None:
        return f"{number(row.above)} above {row.goal.above}"
    return number(row.median)


def number(value: float) -> str:
    """Three digits or four: more would be the machine's mood."""
    if value >= 1e6:
        return f"{value / 1e6:,.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.1f} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
