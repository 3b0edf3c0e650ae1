"""The program ``millstream``: its groups of commands, each a room of its own, and what all of them have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer
import typer.core

from millstream.engine.cli import agenda, log, new, remote, serving, snapshot, view
from millstream.engine.cli.exits import MEANINGS, ExitCode, exit_code_of
from millstream.engine.cli.output import show_json, told_as_json, wants_json
from millstream.engine.cli.plugins import add_plugged
from millstream.engine.errors import MillstreamError

__all__ = ["app"]


class _Root(typer.core.TyperGroup):
    """Turns the errors that millstream knows into one line on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:
            code = exit_code_of(error)
            if code is None:
                raise
            if code is ExitCode.READER_GONE:
                _drop_output()
            elif code is not ExitCode.INTERRUPTED:
                if isinstance(error, MillstreamError) and wants_json(ctx):
                    show_json(told_as_json(error), flush=True)
                typer.echo(f"millstream: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(code) from error
        return result


def _drop_output() -> None:
    """Let nothing be written to the pipe any more, or Python would complain when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


_EPILOG = "\n\n".join(["Exit codes:", *(f"{code.value:>4}  {meaning}" for code, meaning in MEANINGS.items())])

app = typer.Typer(
    cls=_Root,
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Begin": (new.new,),
    "Run an application": (serving.serve, serving.replica),
    "Use one that runs": (
        remote.execute,
        remote.ask,
        remote.watch,
        remote.describe,
        remote.stats,
        remote.health,
    ),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(log.app, name="log", rich_help_panel="Look after logs")
app.add_typer(agenda.app, name="agenda", rich_help_panel="Look after logs")
app.add_typer(view.app, name="view", rich_help_panel="Look after logs")
app.add_typer(snapshot.app, name="snapshot", rich_help_panel="Look after logs")
add_plugged(app, panel="Added by packages")


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=lambda wanted: _version(wanted))
    ] = False,
) -> None:
    """Run applications of millstream, the CQRS engine, use those that run, and look after their logs."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"millstream {version('millstream')}")
        raise typer.Exit
