"""How the quick profile looks in a terminal. Needs rich, the extra ``millstream[bench]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from millstream.bench.quick.words import Answer, not_there, spread_words
from millstream.bench.summary import FigureReport

__all__ = ["progress", "show_answers", "show_notes"]


@contextmanager
def progress() -> Iterator[Callable[[str, str], None]]:
    """Takes what is done and what is left, and tells both on standard error.

    That is one line which changes; where it is no terminal, a line for each question.
    """
    out = Console(stderr=True, highlight=False)
    if out.is_terminal:
        with out.status("") as status:
            yield lambda doing, left: status.update(f"{doing}; {left}")
        return
    told: set[str] = set()

    def tell(doing: str, left: str) -> None:
        if doing not in told:
            told.add(doing)
            out.print(f"{doing}; {left}", soft_wrap=True)

    yield tell


def show_answers(out: Console, answers: Sequence[Answer]) -> None:
    """The one table."""
    table = Table()
    table.add_column("what is done, and by what")
    table.add_column("how much", justify="right", no_wrap=True)
    table.add_column("so millstream does")
    for answer in answers:
        table.add_row(f"[bold]{answer.done}[/]", f"[dim]{answer.unit}[/]")
        table.add_row(_indented("[bold]millstream[/]"), f"[bold]{answer.value}[/]", end_section=not answer.beside)
        for line in answer.beside:
            table.add_row(_indented(line.words), line.value, line.ratio, end_section=line is answer.beside[-1])
    out.print()
    out.print(table)


def show_notes(out: Console, figures: Sequence[FigureReport], *, loop: str, runs: int) -> None:
    """What must be known to read it."""
    out.print(
        "A change is a deposit into an account that must be open. On disk: it survives a power cut, as the caller "
        "is answered after an fsync. That is so for what stands beside millstream, too."
    )
    out.print(f"Medians of runs in turn, {runs} of each, on {loop}. {spread_words(figures)}")
    out.print("The numbers are this machine's. What can be compared with other machines is the last column.")
    if absent := not_there(figures):
        out.print(f"Not installed, so not beside it: {', '.join(absent)}.")
    out.print("More questions, more software, larger sizes: docs/benchmarks.md.")


def _indented(text: str) -> Padding:
    return Padding(text, (0, 0, 0, 2))
