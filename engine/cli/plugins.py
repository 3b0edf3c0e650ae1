"""Commands that installed packages add to the program: the entry points of the group ``millstream.commands``.

Each names a function that takes the arguments behind its name as a list, and returns an exit code. It is imported when
it is called, and not before. That is how ``millstream bench`` gets here: the engine doesn't know the harness, which may
know the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import typer

__all__ = ["GROUP", "add_plugged"]

#: The group of entry points.
GROUP = "millstream.commands"

#: Everything behind the name is the other program's to read, ``--help`` too.
_ALL_IS_THEIRS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_plugged(app: typer.Typer, *, panel: str) -> None:
    """Add them, in the order of their names; where two packages add the same name, the first one that is found."""
    found = {entry.name: entry for entry in reversed(tuple(entry_points(group=GROUP)))}
    for name, entry in sorted(found.items()):
        app.command(
            name,
            help=f"A program of its own: millstream {name} --help says what it does.",
            rich_help_panel=panel,
            context_settings=_ALL_IS_THEIRS,
        )(_calling(entry))


def _calling(entry: EntryPoint) -> Callable[[typer.Context], None]:
    def call(context: typer.Context) -> None:
        raise typer.Exit(entry.load()(context.args))

    return call
