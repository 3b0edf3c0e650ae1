"""The program in this process, and a server for it to talk to in another thread."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio.from_thread
import pytest

from millstream.engine import App, Engine
from millstream.engine.cli import main
from millstream.engine.server import Server, Tokens

__all__ = ["Millstream", "Ran", "program", "served"]


class Ran:
    """What a run of the program left: its exit code and its two outputs."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def values(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Each line as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def figures(self) -> dict[str, str]:
        """The lines of a name and a value."""
        return dict(re.findall(r"^(\w[\w ]*?) {2,}(\S.*?) *$", self.out, re.MULTILINE))


Millstream: TypeAlias = Callable[..., Ran]


def program(capsysbinary: pytest.CaptureFixture[bytes]) -> Millstream:
    def run(*arguments: str) -> Ran:
        capsysbinary.readouterr()
        code = main(list(arguments))
        captured = capsysbinary.readouterr()
        return Ran(code, captured.out.decode(), captured.err.decode())

    return run


@contextmanager
def served(app: App, log: Path, socket: Path, tokens: Tokens | None = None) -> Iterator[Engine]:
    """An engine behind a Unix socket, in a thread of its own."""
    engine = Engine(app, log=log)
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(engine),
        portal.wrap_async_context_manager(Server(engine, listen=[f"unix://{socket}"], tokens=tokens)),
    ):
        yield engine
