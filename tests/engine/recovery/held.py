"""The shop with a view that holds up whatever process takes its snapshots for an engine, at a place that a test names.

The test names it in a file, and waits at a pipe until the process says there that it has come. The writer's own process
is never held up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from millstream.engine import App, Query
from millstream.views import View, answers, applies
from tests.shop import Added, Book, Shelf, Stock

FOLDER = "MILLSTREAM_TEST_FOLDER"


def hold(place: str) -> None:
    """Stay here for ever if the test says so, and say which process does."""
    is_child = "-P" in sys.orig_argv and "millstream.engine.recovery.child" in sys.modules
    if not is_child or FOLDER not in os.environ:
        return
    folder = Path(os.environ[FOLDER])
    wanted = (folder / "hold").read_text().split() if (folder / "hold").exists() else []
    if place not in wanted:
        return
    if "failing" in wanted:
        raise ArithmeticError(f"it fails at {place}")
    if "stubborn" in wanted:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "held").write_text(str(os.getpid()))
    threading.Event().wait()


hold("import")


class Count(Query[int]):
    pass


class Adds(View):
    adds: int = 0

    @applies
    def added(self, event: Added) -> None:
        hold("apply")
        self.adds += 1

    @answers
    def count(self, query: Count) -> int:
        return self.adds

    def snapshot(self) -> Iterator[bytes]:
        pieces = super().snapshot()
        assert pieces is not None
        return self._held(pieces)

    def _held(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield from pieces
        hold("pieces")


class Complex(View):
    """Can't be put into pieces."""

    count: complex = 0j

    @applies
    def added(self, event: Added) -> None:
        self.count += event.count


held_shop = App(models=[Stock, Book], views=[Shelf, Adds], name="shop")
broken_shop = App(models=[Stock, Book], views=[Shelf, Complex], name="shop")
