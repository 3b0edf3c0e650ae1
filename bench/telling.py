"""Numbers, names and goals in words, for terminals and pages alike. Needs nothing but values."""

from __future__ import annotations

from penstock.bench.figures import Goal
from penstock.bench.summary import Row

__all__ = ["name_of", "number", "reached", "wanted"]


def name_of(row: Row) -> str:
    """The contender, and its event loop if it has one."""
    return row.label if row.loop is None else f"{row.label} · {row.loop}"


def wanted(goal: Goal | None) -> str:
    """What a goal asks for; empty without one."""
    if goal is None:
        return ""
    enough = "" if goal.enough is None else f", or {number(goal.enough)}"
    return f"{'≤' if goal.at_most else '≥'} {number(goal.bound)}" + (f" of {goal.of}" if goal.of else "") + enough


def reached(row: Row) -> str:
    """What came of it, in the terms of its goal."""
    if row.goal is not None and row.goal.of in row.ratios:
        return f"{row.ratios[row.goal.of]:.2f} of {row.goal.of}"
    return number(row.median)


def number(value: float) -> str:
    """Three digits or four: more would be the machine's mood."""
    if value >= 1e6:
        return f"{value / 1e6:,.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.1f} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
