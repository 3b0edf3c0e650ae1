"""How something is measured, whoever does it: percentiles, the open-loop schedule, the size of files.

Nearest-rank percentiles are taken of the latencies themselves, not of a histogram.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from penstock.engine.clock import elapsed

__all__ = ["bytes_in", "latencies", "open_loop", "percentile"]

T = TypeVar("T")


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least ``share`` of all do not exceed.

    Args:
        ordered: the values, ascending; at least one.
        share: 0 < share ≤ 1, so 0.99 for the 99th percentile.
    """
    if not ordered or not 0 < share <= 1:
        raise ValueError(f"a percentile needs values and a share above 0 and up to 1, not {share} of {len(ordered)}")
    return ordered[math.ceil(share * len(ordered)) - 1]


def latencies(seconds: Iterable[float]) -> dict[str, float]:
    """The percentiles of latencies, in milliseconds."""
    ordered = sorted(each * 1e3 for each in seconds)
    return {
        "p50 ms": percentile(ordered, 0.5),
        "p99 ms": percentile(ordered, 0.99),
        "p99.9 ms": percentile(ordered, 0.999),
        "max ms": ordered[-1],
    }


async def open_loop(
    ask: Callable[[T], Awaitable[object]],
    questions: Sequence[T],
    interval_seconds: float,
    *,
    clock: Callable[[], float] = elapsed,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> list[float]:
    """Ask on a schedule that does not wait for the answers; the seconds from each intended moment to its answer.

    A question whose moment has passed already, because the loop was busy or the one before took long, is asked at
    once, and what it waited counts.

    Args:
        ask: is awaited with one question after another.
        questions: one each ``interval_seconds``, the first after one such interval.
        interval_seconds: of the schedule.
        clock: seconds since some moment.
        sleep: waits about so many seconds, on that clock.
    """
    seconds: list[float] = []
    intended = clock()
    for question in questions:
        intended += interval_seconds
        left = intended - clock()
        while left > 0:  # some loops wake up to half a millisecond early
            await sleep(left)
            left = intended - clock()
        await ask(question)
        seconds.append(clock() - intended)
    return seconds


def bytes_in(directory: Path) -> int:
    """The size of all files in a directory."""
    return sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
