"""How it looks in a terminal: a line for each thing that was measured, a column for each event loop."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from millstream.bench import report as look
from millstream.bench.summary import Report
from millstream.bench.wording import name_of, number

__all__ = ["show"]


def show(report: Report) -> None:
    """The machine, and the one figure that the report has."""
    out = look.console()
    look.show_machine(out, report.machine, runs=report.runs, smoke=report.smoke)
    (figure,) = report.figures
    table = Table()
    table.add_column("")
    for row in figure.rows:
        table.add_column(name_of(row), justify="right", no_wrap=True)
    table.add_row(figure.unit, *(number(row.median) for row in figure.rows))
    table.add_row("lowest … highest", *(f"{number(row.low)} … {number(row.high)}" for row in figure.rows))
    table.add_row("÷ fdatasync", *(f"{row.ratios['fdatasync']:.2f}" if row.ratios else "" for row in figure.rows))
    for name in dict.fromkeys(name for row in figure.rows for name in row.details):
        table.add_row(name, *(number(row.details[name]) if name in row.details else "" for row in figure.rows))
    out.print(f"\n[bold]{escape(figure.title)}[/]")
    out.print(table)
    out.print("[dim]durable: an fsync per commit of a batch; fdatasync: 4 KiB appended and synced, over and over[/]")
    if figure.about:
        out.print(f"[yellow]{figure.about}[/]")
