"""How a run looks in a terminal. Needs rich, the extra ``millstream[bench]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.bench.proofs.histories.run import Histories, Tally

__all__ = ["progress", "show_tally"]

_PROBLEMS_SHOWN_MAX = 10


@contextmanager
def progress(out: Console, histories: Histories) -> Iterator[Callable[[Tally], None]]:
    """A bar that moves with the crashes; yields the function that moves it."""
    columns = ("crashes", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("", total=histories.crashes + 1)

        def tell(tally: Tally) -> None:
            bar.update(task, advance=1, description=f"{tally.operations:,} operations, {tally.kills} kills")

        yield tell


def show_tally(out: Console, tally: Tally) -> None:
    """What was done and what was found; if something is wrong, what, and where the evidence lies."""
    done = [
        ("clients", f"{tally.clients:,}"),
        ("kills", f"{tally.kills:,}"),
        ("operations", f"{tally.operations:,}"),
        ("accepted", f"{tally.accepted:,}"),
        ("refused", f"{tally.refused:,}"),
        ("answers", f"{tally.answers:,}"),
        ("denied", f"{tally.denied:,}"),
        ("left open", f"{tally.left_open:,}"),
        ("sent again", f"{tally.repeated:,}"),
        ("seconds", f"{tally.seconds:.1f}"),
    ]
    found = [
        ("accounts", f"{tally.accounts:,}"),
        ("linearizable", f"{tally.linearizable:,}"),
        ("violations", f"{tally.violations:,}"),
        ("undecided", f"{tally.undecided:,}"),
        ("not as the log says", f"{tally.misplaced:,}"),
        ("otherwise wrong", f"{tally.otherwise:,}"),
        ("seconds of checking", f"{tally.checking_seconds:.1f}"),
        ("seed", str(tally.seed)),
    ]
    out.print(_table("histories", done))
    out.print(_table("verdicts", found))
    if tally.errors:
        out.print(f"[dim]errors: {', '.join(f'{count:,} {name}' for name, count in tally.errors.items())}[/]")
    if not tally.wrong:
        out.print("[bold green]Every history is linearizable.[/]")
        return
    for problem in tally.problems[:_PROBLEMS_SHOWN_MAX]:
        out.print(f"[bold red]wrong[/]: {escape(problem)}")
    kept = escape(str(tally.evidence))
    out.print(f"{tally.wrong} things are wrong. Seed {tally.seed}; the evidence is kept in {kept}")


def _table(title: str, columns: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    table.add_row(*(value for _, value in columns))
    return table
