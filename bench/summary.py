"""From results to rows: medians, spreads, ratios, and whether goals are met. Plain functions and values.

`Report` is what ``--json`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, median_low

import msgspec

from millstream.bench.figure import Entry, Figure, Goal
from millstream.bench.harness import Contender
from millstream.bench.job import Result
from millstream.bench.machine import Machine
from millstream.bench.programs import PROGRAMS

__all__ = ["FigureReport", "Report", "Row", "summarise"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One contender of one figure."""

    label: str
    loop: str | None
    what: str
    durability: str
    #: One for each run, in the figure's unit, and of these the median, the lowest and the highest.
    values: list[float]
    median: float
    low: float
    high: float
    #: By the limit's label: the median of the ratios of this to the limit within each run. Empty for limits.
    ratios: dict[str, float] = {}
    #: By how much it is above the limit that its goal names: the median within each run.
    above: float | None = None
    #: Medians of whatever else was counted.
    details: dict[str, float] = {}
    #: Curves, of the run with that median.
    series: dict[str, list[tuple[float, float]]] = {}
    #: Whether it stands here only to be compared with.
    is_limit: bool = False
    goal: Goal | None = None
    #: Whether the goal is met; None without one, without the limit that it is about, and in a smoke run.
    met: bool | None = None


class FigureReport(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: its subjects' rows, then its limits'."""

    name: str
    title: str
    unit: str
    rows: list[Row]
    #: By the label of a contender that did not run: what it needs, and is not there.
    skipped: dict[str, list[str]] = {}
    #: What is measured, and why, for a reader who knows nothing of it.
    about: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run has to say."""

    machine: Machine
    runs: int
    smoke: bool
    figures: list[FigureReport]
    #: When it was made, UTC.
    made_at: str = ""


def summarise(figure: Figure, results: Mapping[Contender, Sequence[Result]], *, smoke: bool) -> FigureReport:
    """The rows of a figure.

    Args:
        figure: what was measured.
        results: of each contender, one for each run.
        smoke: the sizes were too small to judge goals by.
    """
    rows = [_row(figure, contender, results, smoke=smoke) for contender in results]
    missing = {entry.label: PROGRAMS[entry.program].missing for entry in (*figure.subjects, *figure.limits)}
    skipped = {label: commands for label, commands in missing.items() if commands}
    return FigureReport(
        name=figure.name, title=figure.title, unit=figure.unit, rows=rows, skipped=skipped, about=figure.about
    )


def _row(figure: Figure, contender: Contender, results: Mapping[Contender, Sequence[Result]], *, smoke: bool) -> Row:
    entry, mine = contender.entry, results[contender]
    limits = figure.limits if entry in figure.subjects else ()
    program = PROGRAMS[entry.program]
    values = [result.value for result in mine]
    beside = {limit.label: _beside(results, limit, contender.loop) for limit in limits}
    ratios = {label: _ratio(mine, theirs) for label, theirs in beside.items() if theirs is not None}
    goal = entry.goal
    met = above = None
    if goal is not None:
        below = beside.get(goal.above or "")
        above = None if below is None else _difference(mine, below)
        counts = above if goal.above else ratios.get(goal.of) if goal.of else median(values)
        met = None if smoke or counts is None else goal.is_met(counts)
    return Row(
        label=entry.label,
        loop=contender.loop,
        what=program.what,
        durability=program.durability,
        values=values,
        median=median(values),
        low=min(values),
        high=max(values),
        ratios=ratios,
        above=above,
        details={name: median(result.details[name] for result in mine) for name in mine[0].details},
        series=mine[values.index(median_low(values))].series,
        is_limit=entry not in figure.subjects,
        goal=goal,
        met=met,
    )


def _beside(results: Mapping[Contender, Sequence[Result]], limit: Entry, loop: str | None) -> Sequence[Result] | None:
    """The limit's results on the same loop, or on none; None when it did not run."""
    return results.get(Contender(limit, loop)) or results.get(Contender(limit, None))


def _ratio(mine: Sequence[Result], theirs: Sequence[Result]) -> float:
    return median(one.value / other.value for one, other in zip(mine, theirs, strict=True))


def _difference(mine: Sequence[Result], theirs: Sequence[Result]) -> float:
    return median(one.value - other.value for one, other in zip(mine, theirs, strict=True))
