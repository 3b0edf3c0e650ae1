from __future__ import annotations

from typing import Any

import pytest

from tests.engine.server import caller
from tests.engine.server.front_here import FrontHere


@pytest.fixture(params=["asyncio", "uvloop", "front"])
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """Every async test runs on both loops, and once more with all that is served behind a front."""
    monkeypatch.setattr("millstream.engine.server.fronts.fronts.Process", FrontHere)
    monkeypatch.setattr(caller, "fronts", int(request.param == "front"))
    return "asyncio", {"use_uvloop": request.param == "uvloop"}
