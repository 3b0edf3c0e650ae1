"""How a run looks in a terminal. Needs rich, the extra ``millstream[bench]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.bench.proofs.torture.run import Tally, Torture

__all__ = ["progress", "show_tally"]

_PROBLEMS_SHOWN_MAX = 10


@contextmanager
def progress(out: Console, torture: Torture) -> Iterator[Callable[[Tally], None]]:
    """A bar that moves with the kills; yields the function that moves it."""
    columns = ("kills", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("", total=torture.kills)

        def tell(tally: Tally) -> None:
            words = f"{tally.images} images, {tally.acknowledged:,} commands acknowledged, {tally.wrong} wrong"
            bar.update(task, completed=tally.kills, description=words)

        yield tell


def show_tally(out: Console, tally: Tally) -> None:
    """What was done and what was found; if something is wrong, what, and where the evidence lies."""
    table = Table(title="torture", title_justify="left", title_style="bold")
    for heading, value in _columns(tally):
        bad = value != "0" and heading in ("lost", "doubled", "misplaced", "otherwise wrong")
        table.add_column(f"[bold red]{heading}[/]" if bad else heading, justify="right")
    table.add_row(*(value for _, value in _columns(tally)))
    out.print(table)
    if tally.images_refused:
        out.print(f"[dim]{tally.images_refused} images, torn as no crash tears, were refused with a typed error.[/]")
    if not tally.wrong:
        out.print("[bold green]Nothing that was acknowledged is lost.[/]")
        return
    for problem in tally.problems[:_PROBLEMS_SHOWN_MAX]:
        out.print(f"[bold red]wrong[/]: {escape(problem)}")
    kept = escape(str(tally.evidence))
    out.print(f"{tally.wrong} things are wrong. Seed {tally.seed}; the evidence is kept in {kept}")


def _columns(tally: Tally) -> list[tuple[str, str]]:
    return [
        ("kills", f"{tally.kills:,}"),
        ("images", f"{tally.images:,}"),
        ("acknowledged", f"{tally.acknowledged:,}"),
        ("sent again", f"{tally.repeated:,}"),
        ("lost", f"{tally.lost:,}"),
        ("doubled", f"{tally.doubled:,}"),
        ("misplaced", f"{tally.misplaced:,}"),
        ("otherwise wrong", f"{tally.otherwise:,}"),
        ("seconds", f"{tally.seconds:.1f}"),
        ("seed", str(tally.seed)),
    ]
