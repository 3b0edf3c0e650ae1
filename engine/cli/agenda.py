"""``millstream agenda …``: what is owed, due later or parked, and what is to become of it.

Each command reads its arguments, calls the engine, `millstream.engine.upkeep` or a server, and shows what that
returned.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NamedTuple, TypeAlias

import anyio
import typer
from msgspec import UNSET, to_builtins
from msgspec.json import format as formatted

from millstream.engine.application.agenda import PAGE_ENTRIES_MAX, AgendaItem, EntryKind, Verdict
from millstream.engine.application.messages import Receipt
from millstream.engine.cli.arguments import LogArgument
from millstream.engine.cli.connection_options import Caller, with_link
from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.load import load_app
from millstream.engine.cli.option_groups import grouped
from millstream.engine.cli.output import Json, log_to_stderr, printable, show_figures, show_json, show_note, show_table
from millstream.engine.client import Link
from millstream.engine.client.agenda import ClientAgenda
from millstream.engine.engine import Engine
from millstream.engine.errors import NotOnAgenda
from millstream.engine.upkeep import RefusedEntry, agenda_in, attached, refused_in, settle_entry
from millstream.engine.wire.address import is_server
from millstream.engine.write.listing import item_of, kind_of

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Show what is owed, due later and parked, and settle it: of a log, or of a server that runs.",
    rich_markup_mode="rich",
)

_Where: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="LOG|ADDRESS",
        help="A log's path, or where a server listens: tcp://HOST:PORT, tls://HOST:PORT, unix://PATH.",
        show_default=False,
    ),
]
_Id: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="ENTRY",
        help="As the list names it: event:812/Selling.placed, timer:hold/o7@s1, effect:812/Payments.charge.",
    ),
]
_App: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[APP]",
        help="With a log: the application, as module:attribute, like shop.main:app. A server knows its own.",
        show_default=False,
    ),
]


class _Kind(StrEnum):
    EVENT = "event"
    TIMER = "timer"
    EFFECT = "effect"
    OUTCOME = "outcome"


class _Wanted(NamedTuple):
    """Which entries, and how many."""

    kind: EntryKind | None
    parked: bool | None
    limit: int


class _Listed(NamedTuple):
    """What there is: entries, whether there are more like these, and how many of all are parked."""

    items: list[AgendaItem]
    more: bool
    parked: int


@app.command("list")
@grouped
def _list(
    where: _Where,
    *,
    kind: Annotated[
        _Kind | None, typer.Option(help="Only entries whose ids begin with that.", show_default=False)
    ] = None,
    parked: Annotated[bool, typer.Option("--parked", help="Only what is parked.")] = False,
    refused: Annotated[
        bool,
        typer.Option("--refused", help="Of a log: instead, the last commands of timers and effects that were refused."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most N entries.")] = 1_000,
    caller: Caller,
    json: Json = False,
) -> None:
    """List what is owed, in the order in which it is decided; timers; and what is parked.

    The log may be in use. Exit code 1 when something is parked.
    """
    if refused:
        if kind is not None or parked:
            raise typer.BadParameter("--kind and --parked are for what is on the agenda, and what was refused is not")
        _list_refused(where, limit, json=json)
        return
    wanted = _Wanted(None if kind is None else kind.value, True if parked else None, limit)
    if _is_server(where):
        found = with_link(where, caller, lambda link: _at_server(link, wanted))
    else:
        found = anyio.run(_in_log, where, wanted)
    if json:
        for item in found.items:
            show_json(item)
    elif found.items:
        show_table(("entry", "message", "is", "problem"), map(_row, found.items))
    elif kind is None and not parked:
        show_note("nothing is owed, nothing is due later, and nothing is parked")
    else:
        show_note("no such entries")
    if found.more:
        show_note(f"there are more: --limit {limit}, --kind and --parked say which are shown", err=True)
    if found.parked:
        raise typer.Exit(ExitCode.DAMAGED)


@app.command("show")
@grouped
def _show(where: _Where, entry: _Id, *, caller: Caller, json: Json = False) -> None:
    """Show an entry with its event or command, who asked for what led to it, and what went wrong.

    The log may be in use.
    """
    if _is_server(where):
        found = with_link(where, caller, lambda link: ClientAgenda(link).find(entry))
    else:
        found = anyio.run(_one_in_log, where, entry)
    if json:
        show_json(found)
        return
    told = {key: value for key, value in to_builtins(found.metadata).items() if value is not None}
    show_figures(
        {
            "entry": printable(found.id),
            "is": _state(found),
            **({"problem": _problem(found)} if found.parked else {}),
            **_figures(found),
            **{key: printable(str(value)) for key, value in told.items()},
        }
    )
    typer.echo(_message(found))


@app.command("park")
def _park(log: LogArgument, entry: _Id, json: Json = False) -> None:
    """Park what is owed or due later, so that it is not decided. No process may have the log open.

    A server parks nothing by request: what it owes is decided at once, and of an effect that is
    performed just now the outcome would be lost.
    """
    if _is_server(log):
        raise typer.BadParameter("a server parks nothing because it is asked to: drop the entry, or stop the server")
    anyio.run(settle_entry, log, entry, "parked")
    _tell(entry, "parked", json=json)


@app.command("drop")
@grouped
def _drop(where: _Where, entry: _Id, *, caller: Caller, json: Json = False) -> None:
    """Strike what is owed, due later or parked: it is never decided. No other process may have a log open."""
    if _is_server(where):
        with_link(where, caller, lambda link: ClientAgenda(link).drop(entry))
    else:
        anyio.run(settle_entry, where, entry, "dropped")
    _tell(entry, "dropped", json=json)


@app.command("retry")
@grouped
def _retry(
    *,
    application: _App = None,
    where: _Where,
    entry: _Id,
    again: Annotated[
        bool, typer.Option("--again", help="Also where commands of it were decided: they are sent a second time.")
    ] = False,
    caller: Caller,
    json: Json = False,
) -> None:
    """Let what is parked be decided once more: APP LOG ENTRY, or ADDRESS ENTRY.

    No other process may have a log open. Exit code 1 when it failed again.
    """
    _decide(application, where, entry, "retry", caller, again=again, json=json)


@app.command("fire-now")
@grouped
def _fire_now(*, application: _App = None, where: _Where, entry: _Id, caller: Caller, json: Json = False) -> None:
    """Send the command of a timer before its time: APP LOG ENTRY, or ADDRESS ENTRY.

    No other process may have a log open. Exit code 1 when it failed, and is parked.
    """
    _decide(application, where, entry, "fire_now", caller, json=json)


def _decide(
    application: list[str] | None,
    where: str,
    entry: str,
    verdict: Verdict,
    caller: Caller,
    *,
    again: bool = False,
    json: bool,
) -> None:
    if _is_server(where):
        if application:
            raise typer.BadParameter("a server knows its application: say ADDRESS ENTRY")
        receipt = with_link(where, caller, lambda link: ClientAgenda(link).settle(entry, verdict, again=again))
    else:
        if application is None or len(application) != 1:
            raise typer.BadParameter("say APP LOG ENTRY; or of a server, ADDRESS ENTRY")
        log_to_stderr("warning")
        loaded = load_app(application[0])

        async def work() -> Receipt:
            async with Engine(loaded, log=where, effects=False) as engine:
                return await engine.agenda.settle(entry, verdict, again=again)

        receipt = anyio.run(work)
    is_owed = verdict == "retry" and entry.startswith("effect:")  # performed in its turn, where effects are
    _tell(entry, "parked" if receipt.parked else "owed again" if is_owed else "done", json=json)
    if receipt.parked:
        raise typer.Exit(ExitCode.DAMAGED)


def _list_refused(where: str, limit: int, *, json: bool) -> None:
    if _is_server(where):
        raise typer.BadParameter("what was refused stands in the log: say LOG, which may be in use")
    found = anyio.run(_refused_in_log, where, limit)
    if json:
        for each in found:
            show_json(each)
    elif not found:
        show_note("no command of a timer or an effect was refused")
    else:
        show_table(("entry", "message", "commit#", "at", "refused"), map(_refused_row, found))


def _is_server(where: str) -> bool:
    return is_server(where)


def _tell(entry: str, how: str, *, json: bool) -> None:
    """What has become of an entry."""
    if json:
        show_json({"entry": entry, "how": how})
    else:
        show_note(f"{printable(entry)} is {how}")


# Where it is.


async def _in_log(log: str, wanted: _Wanted) -> _Listed:
    async with attached(log) as (found, _):
        entries = await agenda_in(found)
    chosen = [
        entry
        for entry in entries
        if wanted.kind in (None, kind_of(entry)) and (wanted.parked is None or entry.is_parked)
    ]
    items = list(map(item_of, chosen[: wanted.limit]))
    return _Listed(items, len(chosen) > wanted.limit, sum(entry.is_parked for entry in entries))


async def _one_in_log(log: str, entry: str) -> AgendaItem:
    async with attached(log) as (opened, _):
        entries = await agenda_in(opened)
    found = next((each for each in entries if each.id == entry), None)
    if found is None:
        raise NotOnAgenda(entry, len(entries))
    return item_of(found)


async def _refused_in_log(log: str, limit: int) -> list[RefusedEntry]:
    async with attached(log) as (found, _):
        return await refused_in(found, limit)


async def _at_server(link: Link, wanted: _Wanted) -> _Listed:
    agenda, found, after = ClientAgenda(link), list[AgendaItem](), None
    size = min(wanted.limit, PAGE_ENTRIES_MAX)
    while True:
        page = await agenda.page(kind=wanted.kind, parked=wanted.parked, after=after, limit=size)
        found += page.entries
        after = page.next
        if after is None or len(found) >= wanted.limit:
            break
    return _Listed(found[: wanted.limit], after is not None or len(found) > wanted.limit, page.parked)


# How it is shown.


def _figures(item: AgendaItem) -> dict[str, str]:
    match item.kind:
        case "event":
            return {"commands decided": f"{item.decided:,}"}
        case "timer":
            return {"due": str(item.due)}
        case "effect":
            return {"attempts": f"{item.attempts:,}", "is known outside as": str(item.attempt_id)}
        case "outcome":
            return {} if item.commands is UNSET else {"commands left": f"{len(item.commands):,}"}


def _message(item: AgendaItem) -> str:
    """Its event, or its command: the first of several, which is the one that failed."""
    for message in (item.event, item.command, *(() if item.commands is UNSET else item.commands)):
        if message is not UNSET:
            return formatted(bytes(message).decode())
    return "its command is shown to those who may give commands"


def _state(item: AgendaItem) -> str:
    if item.parked:
        return "parked"
    return f"due {item.due}" if item.kind == "timer" else "owed"


def _problem(item: AgendaItem) -> str:
    """What went wrong: the error's text, which may begin with its type."""
    error, text = item.error or "", item.text or ""
    return printable(text if text.startswith(error) else f"{error}: {text}" if text else error)


def _row(item: AgendaItem) -> tuple[str, ...]:
    return (printable(item.id), printable(item.type), _state(item), _problem(item) if item.parked else "")


def _refused_row(refused: RefusedEntry) -> tuple[str, ...]:
    said = f"{refused.code}: {refused.message}" if refused.message else refused.code
    return (
        printable(refused.id),
        printable(refused.type),
        f"{refused.commit:,}",
        refused.recorded_at,
        printable(said),
    )
