"""``millstream view …``: what views could not apply, letting them try again, and leaving it out for good.

Each command reads its arguments, calls the engine or `millstream.engine.upkeep`, and shows what that returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import anyio
import typer
from msgspec import to_builtins

from millstream.engine.application.app import App
from millstream.engine.cli.arguments import AppArgument, LogArgument
from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.load import load_app
from millstream.engine.cli.output import Json, log_to_stderr, printable, show_json, show_note, show_table
from millstream.engine.engine import Engine
from millstream.engine.read.parked import Parked
from millstream.engine.stores.owner import require_owner
from millstream.engine.upkeep import attached, parked_in

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Show events that views have parked, let views try them again, or leave them out for good.",
    rich_markup_mode="rich",
)


@app.command("parked")
def _parked(application: AppArgument, log: LogArgument, json: Json = False) -> None:
    """Show what the views of an application have parked.

    The log may be in use: its states are made in this process, from snapshots and what came after them, and nothing is
    changed. Exit code 1 when something is parked.
    """

    async def work(loaded: App) -> list[Parked]:
        async with attached(log) as (found, owner):
            require_owner(found.name, owner, loaded.name)
            return await parked_in(found, loaded)

    _tell(anyio.run(work, load_app(application)), json=json)


@app.command("retry")
def _retry(
    application: AppArgument,
    log: LogArgument,
    view: Annotated[
        str | None, typer.Option(metavar="VIEW", help="Only this view, by its class name.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Let the views try again what they have parked, and show what is still parked.

    Nobody else may have the log open. A program that has it open calls replay_parked() itself. Exit code 1 when
    something is still parked.
    """
    log_to_stderr("info")

    async def work(loaded: App) -> list[Parked]:
        async with Engine(loaded, log=log, effects=False) as engine:
            return await engine.replay_parked(view)

    _tell(anyio.run(work, load_app(application)), json=json)


@app.command("skip")
def _skip(
    application: AppArgument,
    log: LogArgument,
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The view, by its class name.", show_default=False)],
    position: Annotated[int, typer.Argument(metavar="POSITION", help="The event's position.", min=1)],
    json: Json = False,
) -> None:
    """Leave out for good what a view has parked of an event, try again what waited behind it, and show what is still
    parked.

    Nobody else may have the log open. A program that has it open calls skip_parked() itself. Exit code 1 when
    something is still parked.
    """
    log_to_stderr("info")

    async def work(loaded: App) -> list[Parked]:
        async with Engine(loaded, log=log, effects=False) as engine:
            return await engine.skip_parked(view, position)

    _tell(anyio.run(work, load_app(application)), json=json)


def _tell(parked: Sequence[Parked], *, json: bool) -> None:
    if json:
        for each in parked:
            show_json(to_builtins(each))
    elif not parked:
        show_note("nothing is parked")
    else:
        show_table(("view", "position#", "key", "type", "code version#", "cause"), map(_row, parked))
    if parked:
        raise typer.Exit(ExitCode.DAMAGED)


def _row(parked: Parked) -> tuple[str, ...]:
    return (
        parked.view,
        str(parked.position),
        printable(parked.key),
        type(parked.event).__name__,
        str(parked.code_version),
        printable(parked.cause) if parked.cause else "waits behind the one before",
    )
