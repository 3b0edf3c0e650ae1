"""How the program speaks: figures and tables for people, JSON for programs, progress on standard error for who waits.

Standard output holds results only. What is shown to people is never parsed as markup: it may come from a log.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import msgspec
import structlog
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from millstream.engine.upkeep import Verified
from millstream.engine.wire.errors import error_object

__all__ = [
    "Json",
    "events_progress",
    "log_to_stderr",
    "printable",
    "progress_of",
    "show_figures",
    "show_json",
    "show_note",
    "show_row",
    "show_table",
    "show_verified",
    "told_as_json",
    "wants_json",
]

_WANTED = "millstream.json"


def _note_json(context: typer.Context, value: bool) -> bool:
    context.find_root().meta[_WANTED] = value
    return value


def wants_json(context: typer.Context) -> bool:
    """Whether the command that runs was given ``--json``."""
    return bool(context.find_root().meta.get(_WANTED))


#: The option ``--json`` of a command.
Json = Annotated[
    bool,
    typer.Option("--json", callback=_note_json, help="For programs: JSON on standard output instead of tables."),
]

#: Where the output is not a terminal it is as wide as it must be, so that a line stays a line.
_COLUMNS = 100_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def show_json(value: Any, *, err: bool = False, flush: bool = False) -> None:
    """One line of JSON, in UTF-8 wherever the terminal is set to something else; at once, if more comes only later."""
    stream = sys.stderr if err else sys.stdout
    stream.buffer.write(msgspec.json.encode(value) + b"\n")
    if err or flush:
        stream.flush()


def told_as_json(error: BaseException) -> dict[str, Any]:
    """An error for programs: its name, what it says, and its fields, as a server tells it."""
    data = error_object(error).data
    fields = data if isinstance(data, dict) else {}
    return {"error": type(error).__name__, "message": str(error), **fields}


def show_note(text: str, *, err: bool = False) -> None:
    """A line for people."""
    _console(err=err).print(Text(text))


def show_figures(figures: Mapping[str, str], *, err: bool = False) -> None:
    """Names and values, a line each."""
    table = Table.grid(padding=(0, 0, 0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in figures.items():
        table.add_row(Text(name), Text(value))
    _console(err=err).print(table)


def show_verified(found: Verified, names: Mapping[str, object], *, json: bool, err: bool = False) -> None:
    """What a command found to be whole; for programs with ``names``, what it was called with."""
    if json:
        values = {
            **names,
            "commits": found.commits,
            "events": found.events,
            "size_bytes": found.size_bytes,
            "recorded_at": found.recorded_at or None,
            "digest": found.digest.hex(),
            "expected_at": found.expected_at,
            "seconds": round(found.seconds, 6),
            "mb_per_second": round(found.mb_per_second, 3),
        }
        show_json(values, err=err)
        return
    figures = {
        "commits": f"{found.commits:,}",
        "events": f"{found.events:,}",
        "bytes": f"{found.size_bytes:,}",
        "recorded at": found.recorded_at or "-",
        "digest": found.digest.hex(),
        "took": f"{found.seconds:.2f} s, {found.mb_per_second:.0f} MB/s",
    }
    show_figures(figures, err=err)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with a heading. Columns whose name ends with ``#`` hold numbers; the last one is folded if need be."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        is_last = column == columns[-1]
        justify: Literal["left", "right"] = "right" if column.endswith("#") else "left"
        table.add_column(column.rstrip("#"), justify=justify, no_wrap=not is_last, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _console().print(table)


def show_row(cells: Iterable[str]) -> None:
    """One line of a table that has no end, and so no widths to be known: its cells, two blanks apart."""
    console = _console()
    console.print(Text("  ".join(cells)), soft_wrap=True)
    console.file.flush()


def printable(text: str | None) -> str:
    """A text from a log as a terminal may get it: what would move the cursor or change colours is escaped."""
    if text is None:
        return ""
    return text if text.isprintable() else ascii(text)[1:-1]


def log_to_stderr(level: Literal["info", "warning"]) -> None:
    """Log lines from this level on: for people on a terminal, else as JSON for a collector.

    Neither tells what variables held: it may be a secret.
    """
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if sys.stderr.isatty():
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        told = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        processors += [structlog.processors.ExceptionRenderer(told), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@contextmanager
def progress_of(what: str, total_bytes: int | None) -> Iterator[Callable[[Verified], None] | None]:
    """A bar on standard error while the block runs, if that is a terminal; the function moves it on."""
    err = _console(err=True)
    if not err.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[commits]:,} commits"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=total_bytes, commits=0)
        yield lambda found: bar.update(task, completed=found.size_bytes, commits=found.commits)


class _EventsColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = "" if task.speed is None else f", {task.speed:,.0f} a second"
        return Text(f"{task.completed:,.0f} events{rate}")


@contextmanager
def events_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on standard error while the block runs, if that is a terminal; the function says of what, how many events
    of how many were read.
    """
    err = _console(err=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _EventsColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def update(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done)

        yield update


def _console(*, err: bool = False) -> Console:
    found = _Console(stderr=err, highlight=False)
    return found if found.is_terminal else _Console(stderr=err, highlight=False, width=_COLUMNS)
