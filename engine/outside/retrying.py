"""When a failed attempt is made again, by tenacity: imported only where a method wants more than one.

Here: how long to wait. Not here: what an attempt is (`attempts`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential
from tenacity.wait import wait_base

from millstream.engine.application.effects import Terms

__all__ = ["retrying"]

T = TypeVar("T")


class _Spread(wait_base):
    """Between a half and the whole of what another says, by the name of what is tried: many that failed together do not
    come again together, and a simulation goes the same way each time.
    """

    def __init__(self, wait: wait_base, name: str) -> None:
        self._wait = wait
        self._name = name

    def __call__(self, retry_state: RetryCallState) -> float:
        chance = blake2b(f"{self._name}/{retry_state.attempt_number}".encode(), digest_size=4).digest()
        return self._wait(retry_state) * (0.5 + int.from_bytes(chance) / 2**33)


async def retrying(
    attempt: Callable[[], Awaitable[T]], name: str, terms: Terms, rest: Callable[[float], Awaitable[None]]
) -> T:
    """Call ``attempt`` until it succeeds, as often as the terms say; raises what the last one raised.

    Args:
        attempt: raises an Exception where it has failed.
        name: of what is tried.
        terms: ``attempts_max``, ``backoff_seconds`` and ``backoff_seconds_max`` are honoured.
        rest: waits for so many seconds; what it raises ends it all.
    """
    # Of the first wait a half to the whole is about the backoff: 1.33 times as much, less a quarter on average.
    wait = wait_exponential(multiplier=terms.backoff_seconds * 4 / 3, max=terms.backoff_seconds_max)
    tries = AsyncRetrying(
        stop=stop_after_attempt(terms.attempts_max),
        wait=_Spread(wait, name),
        retry=retry_if_exception_type(Exception),
        sleep=rest,
        reraise=True,
    )
    return await tries(attempt)
