"""``millstream log …``: verifying, copying, exporting, importing, showing and checking a log.

Each command reads its arguments, calls `millstream.engine.upkeep`, and shows what that returned. Nothing else is here.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import anyio
import typer
from msgspec import to_builtins
from msgspec.structs import replace

from millstream.engine.application.app import App
from millstream.engine.cli.arguments import AppArgument, LogArgument
from millstream.engine.cli.connection_options import Caller, with_link
from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.load import load_app
from millstream.engine.cli.option_groups import grouped
from millstream.engine.cli.output import (
    Json,
    printable,
    progress_of,
    show_json,
    show_note,
    show_table,
    show_verified,
)
from millstream.engine.cli.tail import TOLD, Wanted, event_row, tail_lines, tail_log, tail_server
from millstream.engine.commits.commit import DIGEST_BYTES, FORMAT
from millstream.engine.errors import LogRefused
from millstream.engine.errors.unreadable import UnreadableEvent
from millstream.engine.recovery.readability import Readability, check_events, unknown_commands
from millstream.engine.stores.address import log_at, shown_address
from millstream.engine.stores.capabilities import Copyable, MadeBySql, Sized
from millstream.engine.stores.owner import require_owner
from millstream.engine.upkeep import (
    ComparedState,
    Downgrade,
    StoredEvent,
    Verified,
    agenda_in,
    attached,
    backup_log,
    compared_states,
    export_log,
    import_log,
    stored_events,
    verify_log,
)
from millstream.engine.upkeep.atomic_file import created_whole
from millstream.engine.wire.address import is_server

__all__ = ["app"]

#: Of `log show`, as `event_row` gives them.
_COLUMNS: tuple[str, ...] = (
    "position#", "commit#", "recorded at", "type", "key", "command id", "given by its caller", "event"
)  # fmt: skip

app = typer.Typer(
    no_args_is_help=True, help="Verify, back up, export, import, show and check a log.", rich_markup_mode="rich"
)

T = TypeVar("T")

_STREAM = "-"


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_BYTES:
        raise typer.BadParameter(f"a digest has {2 * DIGEST_BYTES} hexadecimal digits")
    return digest


def _require_file(name: str) -> str:
    if name != _STREAM and not Path(name).is_file():
        raise typer.BadParameter(f"there is no file {name!r}")
    return name


@contextmanager
def _standard_input() -> Iterator[BinaryIO]:
    """While it is read, an interrupt ends the process at once, which a log survives: the thread that waits for input
    could not be stopped, and would be waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield sys.stdin.buffer
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield sys.stdin.buffer
    finally:
        signal.signal(signal.SIGINT, before)


@app.command("verify")
def _verify(
    log: LogArgument,
    expect: Annotated[
        bytes | None,
        typer.Option(
            metavar="HEX",
            parser=_digest,
            help="A digest noted earlier, as this command and backup print it. Without it, a log that was cut off at "
            "its end, or written anew with new digests, can't be known from a whole one.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Read a whole log and see that each commit is the one that was written."""

    async def work(progress: Callable[[Verified], None] | None) -> Verified:
        async with attached(log) as (found, _):
            return await verify_log(found, expect=expect, progress=progress)

    found = _run("verifying", _bytes_of(log), work)
    if not json:
        show_note(f"{shown_address(log)} is whole: each of its commits follows the one before")
        if found.expected_at is not None:
            show_note(f"the expected digest is that of commit {found.expected_at:,}")
    show_verified(found, {"log": shown_address(log)}, json=json)


@app.command("backup")
def _backup(
    log: LogArgument,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The copy: a file that is not there yet.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Copy a log to a new file while it is written, and verify the copy.

    The copy has its name only when it is whole and durable. It is a log: to restore it, stop what writes, move the old
    log away together with its -wal and -shm, and back the copy up to the log's place.
    """
    found = _run("verifying the copy", _bytes_of(log), lambda progress: backup_log(log, target, progress=progress))
    if not json:
        show_note(f"{target} is a whole copy of {shown_address(log)}; note its digest elsewhere, for verify --expect")
    show_verified(found, {"log": shown_address(log), "target": str(target)}, json=json)


@app.command("export")
def _export(
    log: LogArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file that is not there yet, or - for standard output.")
    ] = _STREAM,
    version: Annotated[
        int,
        typer.Option(
            "--format",
            min=1,
            max=FORMAT,
            metavar="N",
            help="1: what millstream 0.1 can import, with new digests.",
            show_default=str(FORMAT),
        ),
    ] = FORMAT,
    json: Json = False,
) -> None:
    """Write a log as JSON lines: a header, then a line for each commit, verified.

    With --format 1 the digests are not those of the log, whose commits have another form: the new one is shown, and
    what that format has no place for.
    """
    downgrade = None if version == FORMAT else Downgrade(log)

    async def work(progress: Callable[[Verified], None] | None) -> Verified:
        async with attached(log) as (found, application):
            if file == _STREAM:
                return await export_log(found, application, sys.stdout.buffer, downgrade=downgrade, progress=progress)
            async with created_whole(Path(file), like=found.path if isinstance(found, Copyable) else None) as part:
                with part.open("wb") as out:
                    return await export_log(found, application, out, downgrade=downgrade, progress=progress)

    found = _run("exporting", _bytes_of(log), work)
    to_stream = file == _STREAM
    if not to_stream and not json:
        show_note(f"{shown_address(log)} is exported to {file}")
    told: dict[str, object] = {"log": shown_address(log), "file": file}
    if downgrade is not None:
        found = replace(found, digest=downgrade.head.digest)
        dropped = {name: count for name, count in downgrade.dropped.items() if count}
        told |= {"format": version, "dropped": dropped}
        if not json:
            left_out = ", ".join(f"{count:,} of {name}" for name, count in dropped.items()) or "nothing"
            show_note(f"as format {version}, with a chain of its own; left out: {left_out}", err=to_stream)
    if not to_stream or json or downgrade is not None:
        show_verified(found, told, json=json, err=to_stream)


@app.command("import")
def _import(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            callback=_require_file,
            help="What export wrote, or - for standard input.",
            show_default=False,
        ),
    ],
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG",
            envvar="MILLSTREAM_LOG",
            help="The log: a path, sqlite:PATH or postgresql://HOST/DATABASE?schema=NAME. New, or a beginning of the "
            "export; no process may have it open.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Append what was exported to a log, which has the same commits and digests then.

    Each commit is verified, and durable before the next. An import that was interrupted goes on when it is started
    again.
    """
    from_stream = file == _STREAM
    with _standard_input() if from_stream else Path(file).open("rb") as lines:
        found = _run(
            "importing",
            None if from_stream else _bytes_in(Path(file)),
            lambda progress: import_log(
                lines, log, source="standard input" if from_stream else file, progress=progress
            ),
        )
    if not json:
        show_note(f"{shown_address(log)} holds what {file} holds")
    show_verified(found, {"file": file, "log": shown_address(log)}, json=json)


@app.command("sql")
def _sql(log: LogArgument, json: Json = False) -> None:
    """Show the statements that make an empty log in a database, for an administrator to run by hand.

    For a program whose own role may not make tables. Nothing is connected to.
    """
    found = log_at(log)
    if not isinstance(found, MadeBySql):
        raise LogRefused(found.name, "it is made by opening it", "serve it")
    if json:
        show_json({"log": shown_address(log), "sql": found.schema_sql()})
    else:
        sys.stdout.write(found.schema_sql())


@app.command("show")
def _show(
    log: LogArgument,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Only events after position N.")] = 0,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most N events.")] = 50,
    key: Annotated[str | None, typer.Option(metavar="K", help="Only events with this key.", show_default=False)] = None,
    tag: Annotated[
        str | None, typer.Option("--type", metavar="T", help="Only events of this type.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Show a log's events in order, as a table or as JSON lines. Nothing is verified."""

    async def work() -> tuple[list[StoredEvent], bool]:
        events: list[StoredEvent] = []
        async with attached(log) as (found, _):
            async for event in stored_events(found, after=after, key=key, tag=tag):
                if len(events) == limit:
                    return events, True
                events.append(event)
        return events, False

    events, more = anyio.run(work)
    if json:
        for event in events:
            show_json(event)
    elif not events:
        show_note("no such events", err=True)
    else:
        columns, rows = _COLUMNS, list(map(event_row, events))
        if not any(row[TOLD] for row in rows):
            columns, *rows = [(*row[:TOLD], *row[TOLD + 1 :]) for row in (columns, *rows)]
        show_table(columns, rows)
        if more:
            show_note(f"more follow: --after {events[-1].position}", err=True)


@app.command("tail")
@grouped
def _tail(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG|ADDRESS",
            help="A log's path, or where a server listens: tcp://HOST:PORT, tls://HOST:PORT, unix://PATH.",
            show_default=False,
        ),
    ],
    *,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Begin after position N.", show_default="ten events before the end"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N events.", show_default=False)
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="K", help="Only events with this key.", show_default=False)] = None,
    tag: Annotated[
        str | None, typer.Option("--type", metavar="T", help="Only events of this type.", show_default=False)
    ] = None,
    caller: Caller,
    json: Json = False,
) -> None:
    """Show a log's last events, and each that is appended, until interrupted.

    A log that is in use is read beside its writer. From a server, a lost connection is made again without a gap.
    """
    wanted = Wanted(after, limit, key, tag)
    show = tail_lines(json=json)
    if is_server(log):
        with_link(log, caller, lambda link: tail_server(link, wanted, show))
    else:
        anyio.run(tail_log, log, wanted, show)


@app.command("check")
def _check(
    app: AppArgument,
    log: LogArgument,
    json: Json = False,
) -> None:
    """Read every event of a log as an application would, before it is deployed, and show which can't be read.

    So are the commands of timers. Nothing is applied and nothing changed. Exit code 1 when one can't be read.
    """
    found = anyio.run(_readability, load_app(app), log)
    if json:
        show_json({"log": shown_address(log), "app": app, **to_builtins(found)})
    else:
        problems = {each.type: each for each in found.unreadable}
        rows = ((printable(name), f"{count:,}", _problem(problems.get(name))) for name, count in found.types.items())
        show_table(("type", "events#", "problem"), rows)
        show_note(f"{found.events:,} events in {found.commits:,} commits; {len(found.unreadable)} kinds can't be read")
        for name, count in found.commands.items():
            show_note(f"{count:,} timers send {printable(name)}, which the application does not know")
    if found.unreadable or found.commands:
        raise typer.Exit(ExitCode.DAMAGED)


async def _readability(app: App, address: str) -> Readability:
    async with attached(address) as (log, owner):
        require_owner(log.name, owner, app.name)
        found = await check_events(log, app)
        return replace(found, commands=unknown_commands(app, await agenda_in(log)))


@app.command("states")
def _states(app: AppArgument, log: LogArgument, json: Json = False) -> None:
    """See that the states from snapshots are those that the log makes from its first event on.

    They are, unless an @applies method changed without a new code_version, or is not pure. Nothing is changed; it needs
    the memory for two states. Exit code 1 when one differs, can't be made, or when there was nothing to compare.
    """

    async def work(loaded: App) -> list[ComparedState]:
        async with attached(log) as (found, owner):
            require_owner(found.name, owner, loaded.name)
            return await compared_states(found, loaded)

    states = anyio.run(work, load_app(app))
    compared = [state.name for state in states if state.is_compared]
    different = [state.name for state in states if state.differs]
    if json:
        show_json(
            {"log": shown_address(log), "app": app, "different": different, "compared": compared, "states": states}
        )
    else:
        for state in states:
            show_note(f"{state.name}: {_state_in_words(state)}")
        if not compared and not different:
            show_note("nothing was compared: close an engine that has this log open once, so that there are snapshots")
    if different or not compared:
        raise typer.Exit(ExitCode.DAMAGED)


def _state_in_words(state: ComparedState) -> str:
    if state.problem is None:
        return "what the log makes"
    return printable(state.problem if state.differs else f"not compared: {state.problem}")


def _problem(found: UnreadableEvent | None) -> str:
    if found is None:
        return ""
    what = found.problem if found.known else "the application has no such event"
    return printable(f"{found.count:,} can't be read, the first at position {found.position:,}: {what}")


def _run(what: str, total_bytes: int | None, work: Callable[[Callable[[Verified], None] | None], Awaitable[T]]) -> T:
    """Run ``work`` to its end with a bar that is full after so many bytes."""
    with progress_of(what, total_bytes) as progress:
        return anyio.run(work, progress)


def _bytes_of(address: str) -> int | None:
    """About how many bytes a log has, where that is known."""
    log = log_at(address)
    return (log.size_bytes() or None) if isinstance(log, Sized) else None


def _bytes_in(*files: Path) -> int | None:
    return sum(file.stat().st_size for file in files if file.is_file()) or None
