"""How a report looks in a terminal. Needs rich, the extra ``penstock[bench]``; nothing else in the harness does."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from penstock.bench.figures import Goal
from penstock.bench.machine import IN_MEMORY, Machine
from penstock.bench.summary import FigureReport, Report, Row

__all__ = ["console", "show_figure", "show_machine", "show_verdict"]

#: Where the output is not a terminal, and nobody says how wide it is.
_COLUMNS = 150


def console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for every table."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_COLUMNS)


def show_machine(out: Console, machine: Machine, *, runs: int, smoke: bool) -> None:
    """What was measured on, how often, and what must be known before a figure is believed."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    out.print(f"[bold]{machine.cpu}[/], {machine.cores} cores, {machine.kernel}, files on {machine.filesystem}")
    out.print(f"{machine.python}; {versions}")
    out.print(f"runs of each: {runs}, interleaved, every one in a fresh process; the median is shown")
    if smoke:
        out.print("[bold yellow]Smoke: sizes too small to measure anything. It shows only that everything runs.[/]")
    if machine.filesystem in IN_MEMORY:
        out.print(f"[bold red]{machine.filesystem} keeps nothing: no figure of a durable command counts. Use --dir.[/]")


def show_figure(out: Console, figure: FigureReport) -> None:
    """One figure as a table, and below it what each contender is."""
    limits = list(figure.rows[0].ratios)
    details = list(dict.fromkeys(name for row in figure.rows for name in row.details))
    goals, spread = any(row.goal for row in figure.rows), len(figure.rows[0].values) > 1
    table = Table(title=f"{figure.name}: {figure.title}", title_justify="left", title_style="bold")
    table.add_column("contender")
    headings = [figure.unit, *(["lowest … highest"] if spread else []), *(f"÷ {limit}" for limit in limits), *details]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    if goals:
        table.add_column("goal", no_wrap=True)
    for row in figure.rows:
        cells = [_name(row), _number(row.median)]
        cells += [f"{_number(row.low)} … {_number(row.high)}"] if spread else []
        cells += [f"{row.ratios[limit]:.2f}" if limit in row.ratios else "" for limit in limits]
        cells += [_number(row.details[name]) if name in row.details else "" for name in details]
        if goals:
            cells.append(_goal(row))
        table.add_row(*cells, style=None if row.ratios else "dim")
    out.print()
    out.print(table)
    for label, what, durability in dict.fromkeys((row.label, row.what, row.durability) for row in figure.rows):
        out.print(f"  [dim]{label}: {what}; {durability}[/]")
    for label, commands in figure.skipped.items():
        out.print(f"  [yellow]{label}: skipped, because {' and '.join(commands)} can't be found[/]")


def show_verdict(out: Console, report: Report) -> None:
    """How many goals are met, and which are missed."""
    judged = [(figure, row) for figure in report.figures for row in figure.rows if row.met is not None]
    if not judged:
        return
    missed = [(figure, row) for figure, row in judged if not row.met]
    out.print(f"\n[bold]{len(judged) - len(missed)} of {len(judged)} goals met.[/]")
    for figure, row in missed:
        out.print(f"[bold red]missed[/]: {figure.name}, {_name(row)}: {_reached(row)}, goal {_wanted(row.goal)}")


def _name(row: Row) -> str:
    return row.label if row.loop is None else f"{row.label} · {row.loop}"


def _goal(row: Row) -> str:
    verdict = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}[row.met]
    return f"{_wanted(row.goal)} {verdict}".strip()


def _wanted(goal: Goal | None) -> str:
    if goal is None:
        return ""
    return f"{'≤' if goal.at_most else '≥'} {_number(goal.bound)}" + (f" of {goal.of}" if goal.of else "")


def _reached(row: Row) -> str:
    if row.goal is not None and row.goal.of is not None:
        return f"{row.ratios[row.goal.of]:.2f} of {row.goal.of}"
    return _number(row.median)


def _number(value: float) -> str:
    """Three digits or four: more would be the machine's mood."""
    if value >= 1e6:
        return f"{value / 1e6:,.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.1f} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
