"""``millstream agenda …``: reactions that are owed or parked, and what is to become of them.

Each command reads its arguments, calls the engine or `millstream.engine.upkeep`, and shows what that returned.
"""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import typer
from msgspec import to_builtins
from msgspec.json import decode
from msgspec.json import format as formatted

from millstream.engine.cli.arguments import AppArgument, LogArgument
from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.load import load_app
from millstream.engine.cli.output import Json, log_to_stderr, printable, show_figures, show_json, show_note, show_table
from millstream.engine.engine import Engine
from millstream.engine.errors import NotOnAgenda
from millstream.engine.upkeep import agenda_in, attached, settle_entry
from millstream.engine.write.agenda import Entry

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Show what reactions owe and have parked, and settle it.",
    rich_markup_mode="rich",
)

_Position = Annotated[int, typer.Argument(min=1, metavar="POSITION", help="Of the event that the reaction follows.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The reaction's name: Selling.placed.")]


@app.command("list")
def _list(log: LogArgument, json: Json = False) -> None:
    """List what is owed, in the order in which it is decided, and what is parked.

    The log may be in use. Exit code 1 when something is parked.
    """
    entries = anyio.run(_entries, log)
    if json:
        for entry in entries:
            show_json(_plain(entry))
    elif not entries:
        show_note("nothing is owed, and nothing is parked")
    else:
        show_table(("position#", "reaction", "event", "is", "decided#", "problem"), map(_row, entries))
    if any(entry.is_parked for entry in entries):
        raise typer.Exit(ExitCode.DAMAGED)


@app.command("show")
def _show(log: LogArgument, position: _Position, name: _Name, json: Json = False) -> None:
    """Show one entry with its event, who asked for what led to it, and what went wrong. The log may be in use."""
    entries = anyio.run(_entries, log)
    found = next((entry for entry in entries if entry.name == (position, name)), None)
    if found is None:
        raise NotOnAgenda(position, name, len(entries))
    if json:
        show_json(_plain(found))
        return
    told = {key: value for key, value in to_builtins(found.metadata).items() if value is not None}
    show_figures(
        {
            "reaction": found.by,
            "event": f"at position {found.position:,}",
            "is": _state(found),
            "commands decided": f"{found.decided:,}",
            **{key: printable(str(value)) for key, value in told.items()},
        }
    )
    typer.echo(formatted(found.event))


@app.command("park")
def _park(log: LogArgument, position: _Position, name: _Name, json: Json = False) -> None:
    """Park a reaction that is owed, so that it is not decided when the log is opened. Nobody may have the log open."""
    anyio.run(settle_entry, log, position, name, "parked")
    _tell(position, name, "parked", json=json)


@app.command("drop")
def _drop(log: LogArgument, position: _Position, name: _Name, json: Json = False) -> None:
    """Strike a reaction that is owed or parked: it is never decided. Nobody may have the log open."""
    anyio.run(settle_entry, log, position, name, "dropped")
    _tell(position, name, "dropped", json=json)


@app.command("retry")
def _retry(
    application: AppArgument,
    log: LogArgument,
    position: _Position,
    name: _Name,
    again: Annotated[
        bool, typer.Option("--again", help="Also where commands of it were decided: they are sent a second time.")
    ] = False,
    json: Json = False,
) -> None:
    """Let a parked reaction be decided once more. Nobody else may have the log open.

    A program that has it open calls engine.agenda.retry() itself. Exit code 1 when it failed again.
    """
    log_to_stderr("warning")

    async def work() -> bool:
        async with Engine(load_app(application), log=log) as engine:
            return await engine.agenda.retry(position, name, again=again)

    is_done = anyio.run(work)
    _tell(position, name, "done" if is_done else "parked", json=json)
    if not is_done:
        raise typer.Exit(ExitCode.DAMAGED)


def _tell(position: int, name: str, how: str, *, json: bool) -> None:
    """What has become of an entry."""
    if json:
        show_json({"position": position, "by": name, "how": how})
    else:
        show_note(f"{name} for position {position:,} is {how}")


async def _entries(log: str) -> list[Entry]:
    async with attached(log) as (found, _):
        return await agenda_in(found)


def _plain(entry: Entry) -> dict[str, Any]:
    return {**to_builtins(entry), "event": decode(entry.event), "parked": entry.is_parked}


def _state(entry: Entry) -> str:
    return f"parked: {_problem(entry)}" if entry.is_parked else "owed"


def _problem(entry: Entry) -> str:
    """What went wrong: the error's text, which may begin with its type."""
    return printable(entry.text if entry.text.startswith(entry.error) else f"{entry.error}: {entry.text}")


def _row(entry: Entry) -> tuple[str, ...]:
    kind = str(decode(entry.event).get("type"))
    return (
        f"{entry.position:,}",
        printable(entry.by),
        printable(kind),
        "parked" if entry.is_parked else "owed",
        f"{entry.decided:,}",
        _problem(entry) if entry.is_parked else "",
    )
