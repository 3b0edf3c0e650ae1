from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["millstream.engine.testing.plugin"]

# How long an example takes says how busy the machine is, and nothing of what is tested; and a change passes or fails by what
# it changes, not by what is drawn that day. The large runs draw anew.
settings.register_profile(
    "millstream",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get("MILLSTREAM_TORTURE"),
)
settings.load_profile("millstream")


# The tests start hundreds of interpreters. Each of them would compile all that it imports, where it may not find what one
# before it has compiled; and so would each worker compile all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking over nine thousand tests: a full collection took 0.3 s, many tests do some."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: tests wait for disks and for processes more than they compute."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every async test runs on both loops."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(autouse=True)
def log_lines() -> Iterator[list[Any]]:
    """The structured log lines of the test, kept off the screen.

    A command line that runs in the test configures logging for the whole process: the next test must not notice.
    """
    configured = structlog.get_config()
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.configure(**configured)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it where nobody can miss it: a green run without a browser has not tried the console."""
    left_out = [each for each in terminalreporter.stats.get("skipped", ()) if "no browser" in str(each.longrepr)]
    if left_out:
        terminalreporter.write_sep(
            "=", f"{len(left_out)} tests of the console were LEFT OUT: no chromium here", yellow=True
        )
