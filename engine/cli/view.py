"""``millstream view …``: what views could not apply, letting them try again, and leaving it out for good; and views of
changed code, made and compared before it is deployed.

Each command reads its arguments, calls the engine or `millstream.engine.upkeep`, and shows what that returned.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import anyio
import typer
from msgspec import Raw, to_builtins
from msgspec.json import encode
from msgspec.structs import replace

from millstream.engine.application.app import App
from millstream.engine.cli.arguments import SNAPSHOTS_KEPT, AppArgument, LogArgument, SnapshotsKept
from millstream.engine.cli.connection_options import AddressOption, Caller, options_judged
from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.load import load_app
from millstream.engine.cli.message_arguments import query_in
from millstream.engine.cli.option_groups import grouped
from millstream.engine.cli.output import (
    Json,
    events_progress,
    log_to_stderr,
    printable,
    show_figures,
    show_json,
    show_note,
    show_table,
)
from millstream.engine.client import Client
from millstream.engine.engine import Engine
from millstream.engine.limits import Limits
from millstream.engine.read.parked import Parked
from millstream.engine.stores.owner import require_owner
from millstream.engine.upkeep import (
    ComparedAnswer,
    MadeView,
    StoredAs,
    attached,
    compare_answers,
    drop_stored_view,
    make_views,
    parked_in,
    stored_views,
)
from millstream.engine.wire.address import DEFAULT_ADDRESS

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Show events that views have parked, let views try them again, or leave them out for good; make views of "
    "changed code, and compare their answers.",
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

    No other process may have the log open. A program that has it open calls replay_parked() itself. Exit code 1 when
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

    No other process may have the log open. A program that has it open calls skip_parked() itself. Exit code 1 when
    something is still parked.
    """
    log_to_stderr("info")

    async def work(loaded: App) -> list[Parked]:
        async with Engine(loaded, log=log, effects=False) as engine:
            return await engine.skip_parked(view, position)

    _tell(anyio.run(work, load_app(application)), json=json)


@app.command("rebuild")
def _rebuild(
    application: AppArgument,
    log: LogArgument,
    views: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIEW]…",
            help="The views, by their class names; by default those that have no snapshot that fits this code.",
            show_default=False,
        ),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="From the first event on, also where there is a snapshot that fits.")
    ] = False,
    snapshots_kept: SnapshotsKept = SNAPSHOTS_KEPT,
    json: Json = False,
) -> None:
    """Make the states of views as the code here has them, and store their snapshots, so that its next start is quick.

    The log may be in use, by the code before: it is only read, and that code's snapshots stay. Exit code 1 when a
    state could not be stored.
    """
    log_to_stderr("warning")
    loaded = load_app(application)
    with events_progress() as on_progress:
        limits = replace(Limits(), snapshots_kept=snapshots_kept)
        work = partial(make_views, log, loaded, views or (), anew=anew, limits=limits, on_progress=on_progress)
        made = anyio.run(work)
    if json:
        for each in made:
            show_json(each)
    elif not made:
        show_note("every view has a snapshot that fits this code")
    else:
        titles = ("view", "position#", "events#", "left out#", "bytes#", "seconds#", "stored")
        show_table(titles, map(_made_row, made))
    if not all(each.stored for each in made):
        raise typer.Exit(ExitCode.DAMAGED)


@app.command("diff")
@grouped
def _diff(
    application: AppArgument,
    log: LogArgument,
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY…",
            help='Each as JSON, like \'{"type":"StockOf","item":"a"}\'; - reads them from standard input, one a line.',
            show_default=False,
        ),
    ],
    *,
    address: AddressOption = DEFAULT_ADDRESS,
    caller: Caller,
    json: Json = False,
) -> None:
    """Put queries to a running server and to the code here, at the same position, and show which answers differ.

    The log is the server's, and only read; the states of the code here are made from it, or begin with what rebuild has
    stored. Exit code 1 when an answer differs.
    """
    log_to_stderr("warning")
    loaded = load_app(application)
    lines = [line for line in sys.stdin.buffer if line.strip()] if queries == ["-"] else map(str.encode, queries)
    asked = [query_in(loaded, line) for line in lines]

    async def work() -> list[ComparedAnswer]:
        async with Client(address, token=caller.token, tls=caller.tls) as server:
            return await compare_answers(log, loaded, asked, server)

    with options_judged():
        compared = anyio.run(work)
    for each in compared:
        if json:
            show_json({**to_builtins(each), "query": Raw(encode(each.query)), "differs": each.differs})
        else:
            show_note(f"{'DIFFERS' if each.differs else 'same'} at {each.position:,}: {_text(each.query)}")
            if each.differs:
                show_figures({"server": _text(each.server), "here": _text(each.here)})
    if any(each.differs for each in compared):
        raise typer.Exit(ExitCode.DAMAGED)


@app.command("list")
def _list(application: AppArgument, log: LogArgument, json: Json = False) -> None:
    """Show the databases of views in SQL: of the code here, which of them is current, and of other code.

    The log may be in use. A database without a position has been replaced, or was not finished.
    """

    async def work(loaded: App) -> list[StoredAs]:
        return await stored_views(log, loaded)

    found = anyio.run(work, load_app(application))
    if json:
        for each in found:
            show_json(each)
    elif not found:
        show_note("no view has a database")
    else:
        show_table(("view", "database", "position#", "state"), map(_stored_row, found))


@app.command("drop")
def _drop(
    application: AppArgument,
    log: LogArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The database, as list shows it.", show_default=False)],
    json: Json = False,
) -> None:
    """Remove a database of a view in SQL that is not current.

    One of other code is removed, too: see that nothing runs that code any more.
    """

    async def work(loaded: App) -> None:
        await drop_stored_view(log, loaded, name)

    try:
        anyio.run(work, load_app(application))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if json:
        show_json({"removed": name})
    else:
        show_note(f"{name} was removed")


def _stored_row(stored: StoredAs) -> tuple[str, ...]:
    state = "current" if stored.is_current else "old" if stored.is_of_this_code else "of other code"
    return stored.view, stored.name, "" if stored.position is None else f"{stored.position:,}", state


def _made_row(made: MadeView) -> tuple[str, ...]:
    return (
        made.view,
        f"{made.position:,}",
        f"{made.position - made.began_after:,}",
        f"{made.left_out:,}",
        f"{made.size_bytes:,}",
        f"{made.seconds:.2f}",
        "yes" if made.stored else "no",
    )


def _text(value: Any) -> str:
    return printable(encode(value).decode())


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
