"""When the time of calls is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from millstream.engine.application.options import Deadline
from millstream.engine.client.calls import Call
from millstream.engine.loop.clock import elapsed

__all__ = ["Alarm"]


class _Expirer(Protocol):
    def expire(self, calls: Iterable[Call], late: str | None = None) -> None: ...


class Alarm:
    """Rings when the time of calls is over, and once more when that of waiting for the server's word is.

    Args:
        link: which they belong to.
        calls: which; more may be added.
        deadline: theirs.
        late_seconds: how long the server's word is waited for.
    """

    def __init__(self, link: _Expirer, calls: Sequence[Call], deadline: Deadline, late_seconds: float) -> None:
        self._link = link
        self._calls = calls
        self._seconds = deadline.timeout_seconds
        self._late_seconds = late_seconds
        self._timer = asyncio.get_running_loop().call_later(deadline.at - elapsed(), self._ring)

    def cancel(self) -> None:
        """Not any more."""
        self._timer.cancel()

    def _ring(self) -> None:
        self._link.expire(self._calls)
        self._timer = asyncio.get_running_loop().call_later(self._late_seconds, self._ring_again)

    def _ring_again(self) -> None:
        self._link.expire(self._calls, f"it has not answered within {self._seconds + self._late_seconds:g} s")
