"""``millstream new NAME``: a small application with its tests, to begin with.

Here: its two files, and writing them. Not here: what else an application may have, which the tutorial shows.
"""

from __future__ import annotations

from keyword import iskeyword
from pathlib import Path
from sys import stdlib_module_names
from typing import Annotated

import typer

from millstream.engine.cli.exits import ExitCode
from millstream.engine.cli.output import Json, show_json, show_note

__all__ = ["new"]

_APP = '''"""NAME: seats are booked, as long as there are any."""

from collections.abc import Iterator
from typing import Annotated

from millstream.engine import App, Command, Event, Key, Query
from millstream.handlers import Aggregate, Rejected, applies, handles
from millstream.views import View, answers
from msgspec import Meta


class Book(Command):
    show: Key
    seats: Annotated[int, Meta(gt=0)]


class Booked(Event):
    show: Key
    seats: int


class SeatsBooked(Query[int]):
    show: str


class Show(Aggregate):
    """What decides, one for each show."""

    left: int = 100

    @handles
    def book(self, command: Book) -> Iterator[Booked]:
        if command.seats > self.left:
            raise Rejected("sold_out", f"{self.left} seats are left")
        yield Booked(command.show, command.seats)

    @applies
    def booked(self, event: Booked) -> None:
        self.left -= event.seats


class Sales(View):
    """What answers, fed by the same events."""

    booked: dict[str, int] = {}

    @applies
    def was_booked(self, event: Booked) -> None:
        self.booked[event.show] = self.booked.get(event.show, 0) + event.seats

    @answers
    def seats_booked(self, query: SeatsBooked) -> int:
        return self.booked.get(query.show, 0)


app = App(models=[Show], views=[Sales], name="NAME")
'''

_TESTS = '''"""What is to hold for NAME."""

from pathlib import Path

import anyio
from millstream.engine import Engine
from millstream.engine.testing import Scenario

from NAME import Book, Booked, SeatsBooked, app


def test_seats_are_booked_as_long_as_there_are_any() -> None:
    with Scenario(app) as scenario:
        scenario.when(Book("hamlet", 60))
        scenario.then(Booked("hamlet", 60))
        scenario.when(Book("hamlet", 60))
        scenario.then_refused("sold_out")
        assert scenario.ask(SeatsBooked("hamlet")) == 60


def test_what_was_acknowledged_is_there_after_a_restart_and_sent_twice_it_is_done_once(tmp_path: Path) -> None:
    async def run() -> None:
        for _ in range(2):
            async with Engine(app, log=tmp_path / "NAME.db") as engine:
                receipt = await engine.execute(Book("hamlet", 60), command_id="order-1")
                assert await engine.ask(SeatsBooked("hamlet"), after=receipt) == 60

    anyio.run(run)
'''


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, as of a Python module.", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Where; by default a folder of that name.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Write a small application with tests, to begin with. What is there already is left alone."""
    if not name.isidentifier() or iskeyword(name) or name in stdlib_module_names or name == "millstream":
        raise typer.BadParameter(f"{name!r} can't be the name of a module of yours: give another one, like shop")
    folder = Path(name) if folder is None else folder
    files = {folder / f"{name}.py": _APP, folder / f"test_{name}.py": _TESTS}
    there = [str(path) for path in files if path.exists()]
    if there:
        show_note(f"millstream: {' and '.join(there)} is there already: give another folder", err=True)
        raise typer.Exit(ExitCode.NOT_OPENED)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text.replace("NAME", name))
    if json:
        show_json({"files": list(map(str, files))})
        return
    show_note(f"{' and '.join(map(str, files))} are there. Next, in {folder}:")
    show_note("")
    for line in (
        "python -m pytest",
        f"millstream serve {name}:app",
        "millstream execute Book show=hamlet seats:=2",
        "millstream ask SeatsBooked show=hamlet",
    ):
        show_note(f"    {line}")
