from __future__ import annotations

import sys
from pathlib import Path

import pytest

from millstream.engine import DefinitionError
from millstream.engine.cli.load import load_app
from tests.shop import shop


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules; what is imported from it is forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def problem_with(name: str, folder: Path) -> DefinitionError:
    with pytest.raises(DefinitionError) as raised:
        load_app(name, folder)
    return raised.value


def test_an_application_is_found_by_its_module_and_attribute(folder: Path) -> None:
    (folder / "mine.py").write_text("from tests.shop import shop\nclass config:\n    app = shop\n", "utf-8")
    assert load_app("mine:shop", folder) is shop
    assert load_app("mine:config.app", folder) is shop


def test_an_application_is_made_for_one_of_several_logs(folder: Path) -> None:
    assert load_app("tests.shop:shop#2/4").name == "shop-2-of-4"
    assert problem_with("tests.shop:shop#5/4", folder).args[0].startswith("there is no shard 5 of 4")
    assert problem_with("tests.shop:shop#", folder).args[0].startswith("'' is no place of a shard: write 2/4")


def test_the_current_folder_is_looked_at_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "antigravity.py").write_text("from tests.shop import shop\n", "utf-8")
    monkeypatch.chdir(folder)
    assert load_app("antigravity:shop") is shop


@pytest.mark.parametrize("name", ["", "shop", "shop:", ":shop"])
def test_a_name_without_both_parts_is_told_how_it_is_written(name: str, folder: Path) -> None:
    error = problem_with(name, folder)
    assert str(error) == f"{name!r} names no application: write module:attribute, as in shop.main:app"


@pytest.mark.parametrize(("name", "missing"), [("nowhere:app", "nowhere"), ("tests.nowhere.else:app", "tests.nowhere")])
def test_a_module_that_is_not_there_is_named(name: str, missing: str, folder: Path) -> None:
    error = problem_with(name, folder)
    assert str(error) == f"there is no module {missing!r}: run millstream in the folder that holds it, or install it"


def test_an_attribute_that_is_not_there_is_named(folder: Path) -> None:
    assert str(problem_with("tests.shop:store", folder)) == (
        "'tests.shop:store' names no application: module 'tests.shop' has no 'store'"
    )
    assert str(problem_with("tests.shop:shop.app", folder)) == (
        "'tests.shop:shop.app' names no application: an object of type App has no 'app'"
    )


def test_what_is_no_application_is_named_by_its_type(folder: Path) -> None:
    (folder / "other.py").write_text("app = 5\ndef make(): ...\n", "utf-8")
    assert str(problem_with("other:app", folder)) == "'other:app' is no App, but of type int"
    assert str(problem_with("other:make", folder)) == (
        "'other:make' is no App, but of type function; give the App itself, not what makes it"
    )


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("import json\n1 / 0\n", "module 'broken' can't be imported: ZeroDivisionError: division by zero", 2),
        ("\n\nimport nowhere\n", "module 'broken' can't be imported: No module named 'nowhere'", 3),
        ("raise ValueError\n", "module 'broken' can't be imported: ValueError", 1),
    ],
)
def test_a_module_that_fails_is_named_with_the_line_that_failed(
    folder: Path, text: str, problem: str, line: int
) -> None:
    (folder / "broken.py").write_text(text, "utf-8")
    error = problem_with("broken:app", folder)
    assert (error.problem, error.places) == (problem, (f"{folder / 'broken.py'}:{line}",))


def test_a_module_that_is_no_python_is_named_with_the_line(folder: Path) -> None:
    (folder / "broken.py").write_text("app = (\n", "utf-8")
    error = problem_with("broken:app", folder)
    assert error.problem == "module 'broken' can't be imported: SyntaxError: '(' was never closed (broken.py, line 1)"
    assert error.places == ()


def test_what_an_application_says_of_itself_is_left_as_it_is(folder: Path) -> None:
    (folder / "empty.py").write_text("from millstream.engine import App\napp = App(models=[])\n", "utf-8")
    assert str(problem_with("empty:app", folder)) == "an App needs at least one write model"
