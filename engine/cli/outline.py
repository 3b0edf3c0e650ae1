"""``millstream describe APP``: what an application does with which message, as a table, as JSON, or as a drawing.

Here: showing it. Not here: reading it off an application (`millstream.engine.application.outline`).
"""

from __future__ import annotations

import typer

from millstream.engine.application.app import App
from millstream.engine.application.outline import mermaid_of, outline_of
from millstream.engine.cli.output import show_json, show_table

__all__ = ["show_outline"]


def show_outline(app: App, *, json: bool, mermaid: bool) -> None:
    """Show what handles, applies, reacts to, performs and answers what.

    Raises:
        typer.BadParameter: both ways to show it are wanted.
    """
    if json and mermaid:
        raise typer.BadParameter("--json and --mermaid are two ways to show it: choose one")
    steps = outline_of(app)
    if json:
        show_json({"app": app.name, "steps": [step._asdict() for step in steps]})
    elif mermaid:
        typer.echo(mermaid_of(steps), nl=False)
    else:
        rows = ((each.kind, each.message, each.verb, each.by, ", ".join(each.gives)) for each in steps)
        show_table(("kind", "message", "", "by", "may give"), rows)
