"""How something is measured, in one place: percentiles, the open-loop schedule, the size of files.

Nearest-rank percentiles are taken of the latencies themselves, not of a histogram: each is a latency that occurred.
Where fewer than 10,000 were taken, the 99.99th is the largest.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from millstream.engine.loop.clock import elapsed

__all__ = [
    "LATENCY",
    "MEMORY",
    "arrivals",
    "bytes_in",
    "curve",
    "latencies",
    "open_loop",
    "peak_bytes",
    "percentile",
    "resident_bytes",
    "stall_ms",
]

#: The names of series in a result.
LATENCY, MEMORY = "latency in ms by share", "memory in MB by seconds"

_TICK_SECONDS = 0.001
#: No loop waits for less: uvloop does not wait at all then, and who asked would keep it from its rest.
_NEAR_SECONDS = 0.0005
#: What is overdue is sent in one go, up to so many: then others run.
_TOGETHER_MAX = 100
#: Of a curve of latencies.
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)

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
        "p99.99 ms": percentile(ordered, 0.9999),
        "max ms": ordered[-1],
    }


def curve(seconds: Iterable[float]) -> list[tuple[float, float]]:
    """The latencies by percentile, as (share, milliseconds): as far as there is a latency beyond each."""
    ordered = sorted(each * 1e3 for each in seconds)
    return [(share, percentile(ordered, share)) for share in _SHARES if round(len(ordered) * (1 - share), 6) >= 1]


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
    once, and what it waited counts. One whose moment is less than half a millisecond away is asked at once, too, and
    what it does not wait does not count.

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
        began = await _due(intended, clock, sleep)
        await ask(question)
        seconds.append(clock() - began)
    return seconds


async def arrivals(
    send: Callable[[T], Awaitable[object]],
    items: Iterable[T],
    interval_seconds: float,
    *,
    senders: int = 1_000,
    clock: Callable[[], float] = elapsed,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> list[float]:
    """Send on a schedule, answered or not; the seconds from each intended moment to its answer.

    A free caller sends what comes next. What is sent late, because the loop was busy or no caller was free, counts from
    the moment that was intended; what is less than half a millisecond away is sent with what is due. A task for each
    item instead would cost more than what is measured.

    Args:
        send: is awaited with one item each.
        items: one each ``interval_seconds``, the first after one such interval.
        interval_seconds: of the schedule.
        senders: how many items may be under way.
        clock: seconds since some moment.
        sleep: waits about so many seconds, on that clock.
    """
    seconds: list[float] = []
    due: deque[tuple[T, float]] = deque()
    idle: deque[asyncio.Future[None]] = deque()
    is_over = False

    async def sender() -> None:
        while due or not is_over:
            if due:
                item, intended = due.popleft()
                await send(item)
                seconds.append(clock() - intended)
            else:
                idle.append(turn := asyncio.get_running_loop().create_future())
                await turn

    intended = clock()
    async with asyncio.TaskGroup() as sending:
        for _ in range(senders):
            sending.create_task(sender())
        for number, item in enumerate(items):
            intended += interval_seconds
            if number % _TOGETHER_MAX == 0 and intended <= clock():
                await sleep(0)
            due.append((item, await _due(intended, clock, sleep)))
            if idle:
                idle.popleft().set_result(None)
        is_over = True
        while idle:
            idle.popleft().set_result(None)
    return seconds


async def _due(intended: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]]) -> float:
    """Wait for a moment, if it is not near; from when what was meant for it counts."""
    left = intended - (now := clock())
    while left > _NEAR_SECONDS:  # some loops wake up half a millisecond early
        await sleep(left)
        left = intended - (now := clock())
    return min(intended, now)


async def stall_ms(work: Callable[[], Awaitable[object]], *, clock: Callable[[], float] = elapsed) -> float:
    """The longest time for which the loop ran no other task while ``work`` was done, in milliseconds.

    A task that asks to be woken every millisecond notes by how much it came late.
    """
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = clock()
            await asyncio.sleep(_TICK_SECONDS)
            longest = max(longest, clock() - before - _TICK_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        await work()
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    return longest * 1e3


def resident_bytes() -> int:
    """The memory that this process holds now; on systems that don't say, the most that it ever held."""
    import resource  # noqa: PLC0415 - not on Windows, where only this figure is missing

    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_bytes()
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most memory that this process ever held.

    On systems without ``/proc`` it may be what the process that started it held: ``ru_maxrss`` goes on over an exec.
    """
    import resource  # noqa: PLC0415 - as above

    try:
        told = Path("/proc/self/status").read_text()
    except OSError:
        told = ""
    for name, _, value in (line.partition(":") for line in told.splitlines()):
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def bytes_in(directory: Path) -> int:
    """The size of all files in a directory."""
    return sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
