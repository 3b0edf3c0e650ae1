"""How a run looks in a terminal. Needs rich, the extra ``millstream[bench]``."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.bench.proofs.problems import Verdict

__all__ = ["progress", "show_verdict", "table"]

_PROBLEMS_SHOWN_MAX = 10

V = TypeVar("V", bound=Verdict)


@contextmanager
def progress(
    out: Console, what: str, total: int, words_of: Callable[[V], tuple[int | None, str]]
) -> Iterator[Callable[[V], None]]:
    """A bar of ``total`` steps; yields the function that moves it.

    Args:
        out: where it is shown.
        what: what is counted.
        total: how many there will be.
        words_of: of a tally, how many there were and words about it; None for one more than before.
    """
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("", total=total)

        def tell(tally: V) -> None:
            done, words = words_of(tally)
            bar.update(task, completed=done, advance=1 if done is None else None, description=words)

        yield tell


def table(title: str, columns: list[tuple[str, str]], bad: Container[str] = ()) -> Table:
    """One row of figures under their headings; those that are bad unless they are 0 are marked."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for heading, value in columns:
        shown.add_column(f"[bold red]{heading}[/]" if heading in bad and value != "0" else heading, justify="right")
    shown.add_row(*(value for _, value in columns))
    return shown


def show_verdict(out: Console, verdict: Verdict, well: str) -> None:
    """Say that all is ``well``; or what is wrong, and where the evidence lies."""
    if not verdict.wrong:
        out.print(f"[bold green]{well}[/]")
        return
    for problem in verdict.problems[:_PROBLEMS_SHOWN_MAX]:
        out.print(f"[bold red]wrong[/]: {escape(problem)}")
    kept = escape(str(verdict.evidence))
    out.print(f"{verdict.wrong} things are wrong. Seed {verdict.seed}; the evidence is kept in {kept}")
