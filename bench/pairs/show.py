"""How a comparison looks in a terminal. Needs rich, the extra ``millstream[bench]``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from millstream.bench.pairs.ratios import BOUND, CONTROL, PAIRS_MIN, Ratio, Result

__all__ = ["show_results"]


def show_results(out: Console, results: Sequence[Result]) -> None:
    """A row for each workload, and what the numbers mean."""
    table = Table(title="OLD ÷ NEW, by the CPU time of the loop's thread", title_justify="left", title_style="bold")
    table.add_column("workload")
    for heading in ("pairs", "OLD ÷ NEW", "quartiles", "OLD ÷ OLD", "quartiles", ""):
        table.add_column(heading, justify="right")
    for each in results:
        style = {"slower": "bold red", "within the bound": "green"}.get(each.verdict, "yellow")
        ratio, control = each.ratio, each.control
        figures = (f"{ratio.median:.3f}", _quartiles(ratio), f"{control.median:.3f}", _quartiles(control))
        table.add_row(each.workload, str(len(each.pairs)), *figures, f"[{style}]{each.verdict}[/]")
    out.print(table)
    out.print(
        f"Medians of pairs; above 1 NEW is quicker. Bound {BOUND}; it counts with {PAIRS_MIN} pairs and a control "
        f"within 1 ± {CONTROL}."
    )


def _quartiles(ratio: Ratio) -> str:
    return f"{ratio.low:.3f} … {ratio.high:.3f}"
