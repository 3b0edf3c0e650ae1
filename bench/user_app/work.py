"""What is to be run, as values, and the commands that a file holds."""

from __future__ import annotations

from pathlib import Path

import msgspec

from millstream.bench.job import BenchError
from millstream.engine import App, Command
from millstream.engine.application.validation import reader, union_of

__all__ = ["NoCommands", "OwnJob", "commands_in"]


class OwnJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of an application."""

    #: As module:attribute.
    app: str
    #: Where the commands are: those that are executed beforehand, and those that are measured.
    setup: str | None = None
    commands: str
    #: An empty directory.
    directory: str
    loop: str = "asyncio"
    #: Tasks that each wait for a receipt before they send the next command.
    callers: int = 100
    #: Commands a second on a schedule, instead of callers who wait.
    rate: float | None = None
    #: How many of the commands are executed first and not counted.
    warmup: int = 0


class NoCommands(BenchError):
    """A file that holds something else than commands of the application."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def commands_in(app: App, path: str) -> list[Command]:
    """The commands of a file, one JSON object a line; empty lines are passed over.

    Raises:
        NoCommands: the file can't be read, or a line is no command of the application; names the line.
    """
    read = reader(union_of(app.commands))
    found: list[Command] = []
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        found.append(read(line))
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        raise NoCommands(path, f"line {number} is no command of {app.name!r}: {error}") from error
    except OSError as error:
        raise NoCommands(path, f"it can't be read: {error.strerror}") from error
    return found
