"""How a report looks in a terminal. Needs rich, the extra ``millstream[bench]``; nothing else in the harness does."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from millstream.bench.comparing import Comparison
from millstream.bench.machine import IN_MEMORY, Machine
from millstream.bench.summary import FigureReport, Report, Row
from millstream.bench.wording import headings_of, judged, kinds_of, name_of, number, reached, wanted

__all__ = ["console", "show_comparison", "show_figure", "show_machine", "show_verdict"]

#: Where the output is not a terminal, and has no width.
_COLUMNS = 170
#: The headings of ratios and details, together, that stand beside each other; where they are longer, details go below.
_HEADINGS_COLUMNS_MAX = 90


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
    limits, details = headings_of(figure)
    beside = details if sum(map(len, (*limits, *details))) <= _HEADINGS_COLUMNS_MAX else []
    goals, spread = any(row.goal for row in figure.rows), len(figure.rows[0].values) > 1
    table = Table(title=f"{figure.name}: {figure.title}", title_justify="left", title_style="bold")
    table.add_column("contender")
    headings = [figure.unit, *(["lowest … highest"] if spread else []), *(f"÷ {limit}" for limit in limits), *beside]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    if goals:
        table.add_column("goal", no_wrap=True)
    for row in figure.rows:
        cells = [name_of(row), number(row.median)]
        cells += [f"{number(row.low)} … {number(row.high)}"] if spread else []
        cells += [f"{row.ratios[limit]:.2f}" if limit in row.ratios else "" for limit in limits]
        cells += [number(row.details[name]) if name in row.details else "" for name in beside]
        if goals:
            cells.append(_goal(row))
        table.add_row(*cells, style="dim" if row.is_limit else None)
    out.print()
    out.print(table)
    for row in figure.rows if not beside else ():
        if row.details:
            told = ", ".join(f"{name} {number(value)}" for name, value in row.details.items())
            out.print(f"  [dim]{name_of(row)}: {told}[/]")
    for labels, what, durability in kinds_of(figure):
        out.print(f"  [dim]{labels}: {what}; {durability}[/]")
    for label, commands in figure.skipped.items():
        out.print(f"  [yellow]{label}: skipped, because {' and '.join(commands)} can't be found[/]")


def show_verdict(out: Console, report: Report) -> None:
    """How many goals are met, and which are missed."""
    rows = judged(report)
    if not rows:
        return
    missed = [(figure, row) for figure, row in rows if not row.met]
    out.print(f"\n[bold]{len(rows) - len(missed)} of {len(rows)} goals met.[/]")
    for figure, row in missed:
        out.print(f"[bold red]missed[/]: {figure.name}, {name_of(row)}: {reached(row)}, goal {wanted(row.goal)}")


def show_comparison(out: Console, found: Comparison) -> None:
    """What has become slower, or faster, since an earlier run, and how sure that is."""
    out.print(f"\n[bold]Compared with the run of {found.earlier_at or 'an unknown time'}[/]")
    for line in found.remarks:
        out.print(f"[yellow]{line}[/]")
    for change in found.changes:
        style = {"slower": "bold red", "faster": "green"}[change.verdict]
        out.print(f"[{style}]{change.verdict}[/]: {change.told}")
    out.print(f"{found.same} within the noise, {found.unsure} that can't be judged, {found.new} that were not there.")


def _goal(row: Row) -> str:
    verdict = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}[row.met]
    return f"{wanted(row.goal)} {verdict}".strip()
