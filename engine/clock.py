"""The two clocks: one tells the time of day for the record, the other measures. Both can be replaced in tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter

__all__ = ["Clock", "elapsed", "utc_now"]

Clock = Callable[[], datetime]

#: Seconds since some moment, for measuring how long things take. The only such clock in the engine.
elapsed: Callable[[], float] = perf_counter


def utc_now() -> datetime:
    """The time of day, UTC."""
    return datetime.now(UTC)
