"""``millstream execute``, ``ask``, ``watch``, ``describe``, ``stats``, ``health``: a running application, by shell.

Each command reads its arguments, calls one method of the protocol, and shows what came back. No application is loaded:
what its messages are is the server's to know. Only `describe APP` loads one, and asks no server.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
import typer
from msgspec import Raw

from millstream.engine.application.messages import Receipt
from millstream.engine.cli.completion import messages_of
from millstream.engine.cli.connection_options import AddressOption, Caller, TimeoutOption, with_link
from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.load import load_app
from millstream.engine.cli.message_arguments import message_in, message_of
from millstream.engine.cli.option_groups import grouped
from millstream.engine.cli.outline import show_outline
from millstream.engine.cli.output import Json, show_figures, show_json, show_note, show_table, told_as_json
from millstream.engine.cli.rendering import flat, messages_in, show_value, text_of
from millstream.engine.client import Link
from millstream.engine.client.subscriptions import Policy
from millstream.engine.errors import InvalidMessage, Rejected
from millstream.engine.wire.address import DEFAULT_ADDRESS

__all__ = ["ask", "describe", "execute", "health", "stats", "watch"]

_LOG = "Kept with it in the log"
_Command: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME [FIELD=TEXT|FIELD:=JSON]…",
        help="Deposit account=ann amount:=100, or the whole as JSON.",
        show_default=False,
        autocompletion=messages_of("command"),
    ),
]
_Query: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME [FIELD=TEXT|FIELD:=JSON]…",
        help="BalanceOf account=ann, or the whole as JSON.",
        show_default=False,
        autocompletion=messages_of("query"),
    ),
]
_After: TypeAlias = Annotated[
    int, typer.Option(min=0, metavar="N", help="An answer that reflects the event at position N.", show_default=False)
]
_At: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="As of a position, or of a time such as 2026-01-01T12:00Z.",
        show_default=False,
    ),
]
_Incomplete: TypeAlias = Annotated[
    bool, typer.Option("--incomplete", help="Take an answer, too, from a view that has left out events.")
]


class _About(NamedTuple):
    """What is kept with a command in the log."""

    actor: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Who asks for it.", show_default=False, rich_help_panel=_LOG),
    ] = None
    correlation: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What it belongs to.", show_default=False, rich_help_panel=_LOG),
    ] = None
    causation: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What has led to it.", show_default=False, rich_help_panel=_LOG),
    ] = None
    extra: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT", help="Whatever else; several times.", show_default=False, rich_help_panel=_LOG
        ),
    ] = None

    @property
    def metadata(self) -> dict[str, Any]:
        """What was given.

        Raises:
            BadParameter: an extra is not NAME=TEXT, or is given twice.
        """
        extra: dict[str, str] = {}
        for each in self.extra or ():
            name, equals, text = each.partition("=")
            if not name or not equals or name in extra:
                raise typer.BadParameter(f"--extra is NAME=TEXT, each name once, not {each!r}")
            extra[name] = text
        given = {"actor": self.actor, "correlation": self.correlation, "causation": self.causation, "extra": extra}
        return {name: value for name, value in given.items() if value}


class _Answer(msgspec.Struct):
    answer: Any
    position: int


@grouped
def execute(
    message: _Command,
    *,
    command_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The command's own id: sent twice, executed once.", show_default=False),
    ] = None,
    expected_version: Annotated[
        int | None,
        typer.Option("--expect-version", min=0, metavar="N", help="Only if its key is there.", show_default=False),
    ] = None,
    about: _About,
    timeout: TimeoutOption = None,
    address: AddressOption = DEFAULT_ADDRESS,
    caller: Caller,
    json: Json = False,
) -> None:
    """Execute a command, and show its receipt.

    NAME - reads commands from standard input instead, one JSON object a line, and shows one outcome a line, in order.
    Exit code 6 when the application's rules say no.
    """
    metadata = about.metadata
    shared: dict[str, Any] = {"metadata": metadata} if metadata else {}
    if message == ["-"]:
        if command_id is not None or expected_version is not None:
            raise typer.BadParameter("--id and --expect-version are for one command")
        with_link(address, caller, lambda link: _execute_lines(link, shared, timeout))
        return
    params = {"command": Raw(message_in(message)), **shared}
    if command_id is not None:
        params["command_id"] = command_id
    if expected_version is not None:
        params["expected_version"] = expected_version
    receipt = msgspec.json.decode(
        with_link(address, caller, lambda link: link.call("execute", params, timeout=timeout)), type=Receipt
    )
    if json:
        show_json(receipt)
        return
    show_note("it was executed before: nothing happened now" if receipt.repeated else "done")
    version = {} if receipt.version is None else {"version": f"{receipt.version:,}"}
    show_figures({"position": f"{receipt.position:,}", "events": f"{receipt.events:,}", **version})
    if receipt.answer is not None:
        show_value(receipt.answer)


async def _execute_lines(link: Link, shared: Mapping[str, Any], timeout: float | None) -> None:
    refused = False
    for number, line in enumerate(sys.stdin.buffer, 1):
        if not line.strip():
            continue
        try:
            command = Raw(message_of(line.strip()))
            show_json(await link.call("execute", {"command": command, **shared}, timeout=timeout))
        except (Rejected, InvalidMessage) as error:
            refused = True
            show_json({"line": number, **told_as_json(error)})
    if refused:
        raise typer.Exit(ExitCode.REFUSED)


@grouped
def ask(
    message: _Query,
    *,
    after: _After = 0,
    at: _At = None,
    incomplete: _Incomplete = False,
    timeout: TimeoutOption = None,
    address: AddressOption = DEFAULT_ADDRESS,
    caller: Caller,
    json: Json = False,
) -> None:
    """Ask a query, and show its answer."""
    params = {"query": Raw(message_in(message)), "after": after, "at": at, "incomplete": incomplete}
    result = with_link(address, caller, lambda link: link.call("ask", params, timeout=timeout))
    if json:
        show_json(result)
    else:
        show_value(msgspec.json.decode(result, type=_Answer).answer)


@grouped
def watch(
    message: _Query,
    *,
    after: _After = 0,
    every: Annotated[
        bool, typer.Option("--every", help="Every change, instead of the newest answer when several came at once.")
    ] = False,
    rows: Annotated[
        bool, typer.Option("--rows", help="All rows, and then those that have changed, where a table answers.")
    ] = False,
    rows_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="The same of any list of rows, which this field identifies.", show_default=False
        ),
    ] = None,
    incomplete: _Incomplete = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N answers.", show_default=False)
    ] = None,
    address: AddressOption = DEFAULT_ADDRESS,
    caller: Caller,
    json: Json = False,
) -> None:
    """Show a query's answer, and again whenever it has changed, until interrupted.

    A lost connection is made again, and the watch goes on where it was.
    """
    params = {"query": Raw(message_in(message)), "every": every, "incomplete": incomplete, "rows": rows_by or rows}
    rows = rows or rows_by is not None

    async def follow(link: Link) -> None:
        policy = Policy.STREAM if rows else Policy.EVERY if every else Policy.NEWEST
        watching = await link.subscribe("watch", params, after=after, policy=policy, name=message[0])
        shown = 0
        try:
            while limit is None or shown < limit:
                news = await watching.next()
                shown += 1
                if json:
                    show_json({"rows" if rows else "answer": news.content, "position": news.position}, flush=True)
                else:
                    show_note(f"at {news.position:,}")
                    show_value(msgspec.json.decode(news.content))
        finally:
            watching.close()

    with_link(address, caller, follow)


@grouped
def describe(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME | APP",
            help="Only this command or query. Or an application, as module:attribute: what handles, applies, "
            "reacts to, performs and answers what in it.",
            show_default=False,
        ),
    ] = None,
    *,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Of an APP: as a flowchart for Mermaid.")] = False,
    address: AddressOption = DEFAULT_ADDRESS,
    caller: Caller,
    json: Json = False,
) -> None:
    """Show what the application understands: its commands, queries and events with their fields.

    With --json the whole OpenRPC document, with a JSON Schema of each message. With an APP no server is asked.
    """
    if name is not None and ":" in name:
        show_outline(load_app(name), json=json, mermaid=mermaid)
        return
    if mermaid:
        raise typer.BadParameter("--mermaid draws an application: write describe module:attribute --mermaid")
    document = msgspec.json.decode(with_link(address, caller, lambda link: link.call("describe")))
    if json:
        show_json(document)
        return
    rows = [row for row in messages_in(document) if name in (None, row[1])]
    if not rows:
        known = ", ".join(row[1] for row in messages_in(document))
        raise InvalidMessage(str(name), f"the application has no such message; it has: {known}")
    show_table(("kind", "name", "fields", "answer"), rows)


@grouped
def stats(
    *,
    address: AddressOption = DEFAULT_ADDRESS,
    caller: Caller,
    json: Json = False,
) -> None:
    """Show figures of this moment: the writer, the views, the connections."""
    found = msgspec.json.decode(with_link(address, caller, lambda link: link.call("stats")))
    if json:
        show_json(found)
        return
    views = found.pop("views")
    show_figures(dict(flat(found)))
    if views:
        columns = list(next(iter(views.values())))
        rows = ([view, *(text_of(values[column]) for column in columns)] for view, values in views.items())
        show_table(("view", *(each.replace("_", " ") for each in columns)), rows)


@grouped
def health(
    *,
    address: AddressOption = DEFAULT_ADDRESS,
    caller: Caller,
    json: Json = False,
) -> None:
    """Show whether the server is ready for work. Exit code 0 if it is, 7 if it is not or can't be reached."""
    found = msgspec.json.decode(with_link(address, caller, lambda link: link.call("health")))
    if json:
        show_json(found)
    else:
        show_figures(dict(flat(found)))
    if not found["ready"]:
        raise typer.Exit(ExitCode.TRY_LATER)
