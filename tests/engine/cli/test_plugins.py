"""Commands that packages add: found by their entry points, called with what stands behind their name."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from millstream.bench.__main__ import main as bench
from millstream.engine.cli import plugins

ROOT = Path(__file__).parents[3]
calls: list[list[str]] = []


def called(arguments: list[str]) -> int:
    calls.append(arguments)
    return 3


def program(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> typer.Typer:
    def found(**selection: Any) -> tuple[EntryPoint, ...]:
        assert selection == {"group": "millstream.commands"}
        return entries

    monkeypatch.setattr(plugins, "entry_points", found)
    app = typer.Typer()
    app.command("own")(lambda: None)
    plugins.add_plugged(app, panel="Added")
    return app


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, plugins.GROUP)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--json", "x", "-v", "y"]])
def test_everything_behind_the_name_is_handed_over(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    calls.clear()
    app = program(monkeypatch, entry("other", f"{__name__}:called"))
    monkeypatch.setattr(EntryPoint, "load", lambda _: called)
    assert CliRunner().invoke(app, ["other", *arguments]).exit_code == 3
    assert calls == [arguments]


def test_a_program_that_is_not_called_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    app = program(monkeypatch, entry("broken", "no_such_module:main"))
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "millstream broken --help" in done.output


def test_of_two_with_the_same_name_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    app = program(monkeypatch, entry("twice", "first:main"), entry("twice", "second:main"))

    def load(found: EntryPoint) -> Any:
        seen.append(found.value)
        return called

    monkeypatch.setattr(EntryPoint, "load", load)
    CliRunner().invoke(app, ["twice"])
    assert seen == ["first:main"]


def test_the_harness_is_one_of_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {name: entry(name, value).load() for name, value in project["entry-points"][plugins.GROUP].items()}
    assert declared == {"bench": bench}
