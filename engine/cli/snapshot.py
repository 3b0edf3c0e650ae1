"""``millstream snapshot …``: taking snapshots of a log from outside.

Each command reads its arguments, calls `millstream.engine.upkeep`, and shows what that returned.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import anyio
import typer
from msgspec import to_builtins
from msgspec.structs import replace

from millstream.engine.cli.arguments import SNAPSHOTS_KEPT, AppArgument, LogArgument, SnapshotsKept
from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.load import load_app
from millstream.engine.cli.output import Json, log_to_stderr, show_figures, show_json, show_note
from millstream.engine.limits import Limits
from millstream.engine.stores.address import shown_address
from millstream.engine.upkeep import take_snapshots

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Take snapshots, from which a log is opened quickly.", rich_markup_mode="rich"
)


@app.callback()
def _group() -> None:
    """With one command alone, typer would take the group for that command."""


@app.command("take")
def _take(
    application: AppArgument,
    log: LogArgument,
    receipts_max: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="The receipts that the writer remembers: its own receipts_max."),
    ] = Limits().receipts_max,
    receipts_bytes_max: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="The bytes of answers that it remembers: its own receipts_bytes_max."),
    ] = Limits().receipts_bytes_max,
    snapshots_kept: SnapshotsKept = SNAPSHOTS_KEPT,
    json: Json = False,
) -> None:
    """Make the states of an application from its log, and store them as snapshots.

    The log is only read, so its writer may run: opening it again, and replicas, begin there. Where snapshots are being
    taken already, this is refused. Exit code 1 when a state could not be stored.
    """
    log_to_stderr("warning")
    limits = replace(
        Limits(), receipts_max=receipts_max, receipts_bytes_max=receipts_bytes_max, snapshots_kept=snapshots_kept
    )
    taken = anyio.run(partial(take_snapshots, log, load_app(application), limits=limits))
    if json:
        show_json({"log": shown_address(log), "app": application, **to_builtins(taken)})
    else:
        show_note(f"snapshots of {shown_address(log)} are up to position {taken.position:,}")
        show_figures(
            {
                "stored": ", ".join(taken.parts) or "nothing: they were there",
                "bytes": f"{taken.size_bytes:,}",
                "took": f"{taken.seconds:.2f} s",
            }
        )
    if not taken.is_whole:
        raise typer.Exit(ExitCode.DAMAGED)
