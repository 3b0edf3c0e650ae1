"""``millstream agenda …``: what is owed, due later or parked, and what is to become of it.

Each command reads its arguments, calls the engine or `millstream.engine.upkeep`, and shows what that returned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
from millstream.engine.write.entries import AgendaEntry, Effect, Entry, Outcome, Timer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Show what is owed, due later and parked, and settle it.",
    rich_markup_mode="rich",
)

_Id = Annotated[
    str,
    typer.Argument(
        metavar="ENTRY",
        help="As the list names it: event:812/Selling.placed, timer:hold/o7@s1, effect:812/Payments.charge.",
    ),
]


@app.command("list")
def _list(log: LogArgument, json: Json = False) -> None:
    """List what is owed, in the order in which it is decided; timers; and what is parked.

    The log may be in use. Exit code 1 when something is parked.
    """
    entries = anyio.run(_entries, log)
    if json:
        for entry in entries:
            show_json(_plain(entry))
    elif not entries:
        show_note("nothing is owed, nothing is due later, and nothing is parked")
    else:
        show_table(("entry", "message", "is", "problem"), map(_row, entries))
    if any(entry.is_parked for entry in entries):
        raise typer.Exit(ExitCode.DAMAGED)


@app.command("show")
def _show(log: LogArgument, entry: _Id, json: Json = False) -> None:
    """Show an entry with its event or command, who asked for what led to it, and what went wrong.

    The log may be in use.
    """
    entries = anyio.run(_entries, log)
    found = next((each for each in entries if each.id == entry), None)
    if found is None:
        raise NotOnAgenda(entry, len(entries))
    if json:
        show_json(_plain(found))
        return
    told = {key: value for key, value in to_builtins(found.metadata).items() if value is not None}
    show_figures(
        {
            "entry": printable(found.id),
            "is": _state(found),
            **({"problem": _problem(found)} if found.is_parked else {}),
            **_figures(found),
            **{key: printable(str(value)) for key, value in told.items()},
        }
    )
    typer.echo(formatted(_message(found)))


@app.command("park")
def _park(log: LogArgument, entry: _Id, json: Json = False) -> None:
    """Park what is owed or due later, so that it is not decided. Nobody may have the log open."""
    anyio.run(settle_entry, log, entry, "parked")
    _tell(entry, "parked", json=json)


@app.command("drop")
def _drop(log: LogArgument, entry: _Id, json: Json = False) -> None:
    """Strike what is owed, due later or parked: it is never decided. Nobody may have the log open."""
    anyio.run(settle_entry, log, entry, "dropped")
    _tell(entry, "dropped", json=json)


@app.command("retry")
def _retry(
    application: AppArgument,
    log: LogArgument,
    entry: _Id,
    again: Annotated[
        bool, typer.Option("--again", help="Also where commands of it were decided: they are sent a second time.")
    ] = False,
    json: Json = False,
) -> None:
    """Let what is parked be decided once more. Nobody else may have the log open.

    A program that has it open calls engine.agenda.retry() itself. Exit code 1 when it failed again.
    """
    _decided(application, log, entry, lambda engine: engine.agenda.retry(entry, again=again), json=json)


@app.command("fire-now")
def _fire_now(application: AppArgument, log: LogArgument, entry: _Id, json: Json = False) -> None:
    """Send the command of a timer before its time. Nobody else may have the log open.

    A program that has it open calls engine.agenda.fire_now() itself. Exit code 1 when it failed, and is parked.
    """
    _decided(application, log, entry, lambda engine: engine.agenda.fire_now(entry), json=json)


def _decided(
    application: str, log: str, entry: str, decide: Callable[[Engine], Awaitable[bool]], *, json: bool
) -> None:
    log_to_stderr("warning")

    async def work() -> bool:
        async with Engine(load_app(application), log=log, effects=False) as engine:
            return await decide(engine)

    is_done = anyio.run(work)
    _tell(entry, "done" if is_done else "parked", json=json)
    if not is_done:
        raise typer.Exit(ExitCode.DAMAGED)


def _tell(entry: str, how: str, *, json: bool) -> None:
    """What has become of an entry."""
    if json:
        show_json({"entry": entry, "how": how})
    else:
        show_note(f"{printable(entry)} is {how}")


async def _entries(log: str) -> list[AgendaEntry]:
    async with attached(log) as (found, _):
        return await agenda_in(found)


def _figures(entry: AgendaEntry) -> dict[str, str]:
    match entry:
        case Entry():
            return {"commands decided": f"{entry.decided:,}"}
        case Timer():
            return {"due": entry.due}
        case Effect():
            return {"attempts": f"{entry.attempts:,}", "is known outside as": entry.attempt_id}
        case Outcome():
            return {"commands left": f"{len(entry.commands):,}"}


def _plain(entry: AgendaEntry) -> dict[str, Any]:
    plain = {"id": entry.id, **to_builtins(entry), "parked": entry.is_parked}
    if isinstance(entry, Outcome):
        return {**plain, "commands": [decode(each) for each in entry.commands]}
    message = "command" if isinstance(entry, Timer) else "event"
    return {**plain, message: decode(_message(entry))}


def _message(entry: AgendaEntry) -> str:
    if isinstance(entry, Outcome):
        return entry.commands[0]
    return entry.command if isinstance(entry, Timer) else entry.event


def _state(entry: AgendaEntry) -> str:
    if entry.is_parked:
        return "parked"
    return f"due {entry.due}" if isinstance(entry, Timer) else "owed"


def _problem(entry: AgendaEntry) -> str:
    """What went wrong: the error's text, which may begin with its type."""
    return printable(entry.text if entry.text.startswith(entry.error) else f"{entry.error}: {entry.text}")


def _row(entry: AgendaEntry) -> tuple[str, ...]:
    kind = str(decode(_message(entry)).get("type"))
    return (printable(entry.id), printable(kind), _state(entry), _problem(entry) if entry.is_parked else "")
