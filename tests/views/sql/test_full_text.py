"""What the page says of full text is true of PostgreSQL, too: its programs, on a server."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from millstream.engine import App
from tests.test_docs import ROOT, blocks_of, run
from tests.views.sql.places import new_database

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """On one loop: what is looked at are databases."""
    return "asyncio", {"use_uvloop": False}


PAGE = ROOT / "docs/how-to/sql-reading.md"


async def test_the_page_s_view_finds_the_same_in_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("page_on_a_server")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    definitions, asking, *_ = (block for block in blocks_of(PAGE) if block.language == "python")
    run(definitions, PAGE, module)
    run(asking._replace(content=asking.content.partition("\napp = ")[0]), PAGE, module)
    view = type("Notes", (module.Notes,), {"metadata": module.tables, "database": new_database()})
    app = App(models=[module.Author], views=[view], name="notes")
    for words, expected in (
        ("run mill", {"Running a mill", "The mill turns while the stream runs"}),
        ('"stream runs"', {"The mill turns while the stream runs"}),
        ("river -stream", set()),
    ):
        assert set(await module.found(app, str(tmp_path / "log.db"), words)) == expected
