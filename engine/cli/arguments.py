"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = ["AppArgument", "LogArgument"]

LogArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="LOG", help="The log: a path or sqlite:PATH. It may be in use.", show_default=False)
]

AppArgument: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="APP", help="The application, as module:attribute, like shop.main:app.", show_default=False),
]
