"""The log's contract as a suite. A store's test file subclasses it and says how to make a handle to its log."""

from __future__ import annotations

from millstream.engine.testing.stores.log_attaching import LogAttaching
from millstream.engine.testing.stores.log_following import LogFollowing
from millstream.engine.testing.stores.log_writing import LogWriting

__all__ = ["LogConformance"]


class LogConformance(LogWriting, LogAttaching, LogFollowing):
    """Every promise of the port `Log`, on a real store. For pytest, with anyio's plugin: mark the module with
    ``pytestmark = pytest.mark.anyio``. A subclass has the methods ``make``, ``break_lock`` and ``traces``.
    """
