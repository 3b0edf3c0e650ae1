"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from millstream.engine.limits import Limits

__all__ = ["SNAPSHOTS_KEPT", "AppArgument", "LogArgument", "SnapshotsKept"]

LogArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="LOG",
        envvar="MILLSTREAM_LOG",
        help="The log: a path, sqlite:PATH or postgresql://HOST/DATABASE?schema=NAME. It may be in use.",
        show_default=False,
    ),
]

SNAPSHOTS_KEPT = Limits().snapshots_kept
SnapshotsKept: TypeAlias = Annotated[
    int, typer.Option(min=1, metavar="N", help="How many are kept of each view: the writer's own snapshots_kept.")
]

AppArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="APP",
        help="The application, as module:attribute, like shop.main:app; shop.main:app#2/4 for the second of four logs.",
        show_default=False,
    ),
]
