"""A loop that makes way: threads that work for it get the interpreter's lock even if it never has nothing to do.

Here: when the loop's thread holds still, and for how long. Not here: what threads do for it (`stores`, `upkeep`).

A thread that wants the lock waits 5 ms for it (``sys.getswitchinterval``), and then demands it. Those 5 ms begin anew
whenever the lock was released meanwhile. A loop releases it each time that it looks for events, and, where callbacks
are ready, has it again before any other thread is awake. So beside callbacks that never end, each shorter than 5 ms, a
thread can wait for seconds. A loop that holds still releases it for long enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import local
from types import TracebackType
from typing import TypeVar, TypeVarTuple

import anyio.to_thread

from millstream.engine.loop.clock import elapsed, worked

__all__ = ["YieldingGil", "in_thread", "release_gil"]

#: In which a thread is awake and has the lock: 0.05 to 0.1 ms on a virtual machine.
_HOLD_SECONDS = 150e-6
#: What is done sooner needs no help.
_FIRST_SECONDS = 1e-3
#: What has waited longer is at work, and needs the lock now and then: holding costs the loop 1 or 2 % by then.
_APART_SECONDS_MAX = 16e-3
#: A loop that has had a core for less of its time has rested meanwhile, and released the lock then.
_BUSY_SHARE = 0.25

T = TypeVar("T")
_Arguments = TypeVarTuple("_Arguments")


class _Holds(local):
    """When the loop of this thread held still last. All who wait have had their chance then."""

    last = float("-inf")


_holds = _Holds()


def release_gil(seconds: float) -> None:
    """Stop the loop's thread, without the interpreter's lock, for at least so long."""
    time.sleep(seconds)


class YieldingGil:
    """A block that awaits a thread: meanwhile the loop holds still for a moment now and then, if it is busy.

    After a millisecond first, then whenever the block has lasted half as long again, in the end every 16 ms.
    """

    __slots__ = ("_looked_at", "_since", "_timer", "_worked")

    def __enter__(self) -> None:
        self._since = self._looked_at = elapsed()
        self._worked = worked()
        self._timer = asyncio.get_running_loop().call_later(_FIRST_SECONDS, self._beat)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _beat(self) -> None:
        now, had_core = elapsed(), worked()
        is_busy = had_core - self._worked > _BUSY_SHARE * (now - self._looked_at)
        self._looked_at, self._worked = now, had_core
        apart = min(max((now - self._since) / 2, _FIRST_SECONDS), _APART_SECONDS_MAX)
        # Half of it: some loops' timers are half a millisecond early, and one that passes over a hold needs another.
        if is_busy and not 0 <= now - max(_holds.last, self._since) < apart / 2:
            release_gil(_HOLD_SECONDS)
            _holds.last = elapsed()
        self._timer = asyncio.get_running_loop().call_later(apart, self._beat)


async def in_thread(
    function: Callable[[*_Arguments], T],
    *arguments: *_Arguments,
    limiter: anyio.CapacityLimiter | None = None,
    leave: bool = False,
) -> T:
    """What the function returns or raises, called in a worker thread that gets the lock in time.

    Args:
        function: called in the thread.
        arguments: its.
        limiter: how many threads there may be; by default as many as anyio allows for all.
        leave: whether a caller that is cancelled leaves the thread to itself, instead of waiting for it.
    """
    with YieldingGil():
        return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter, abandon_on_cancel=leave)
