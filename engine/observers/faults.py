"""Tells of what code of the application has raised: each with its traceback, but not without end.

Here: how many are reported in a second. Not here: what becomes of what failed (`write`, `read`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from millstream.engine.observers.observer import Observer

__all__ = ["Fault", "Faults"]

#: A handler that fails for every command would otherwise write more than anybody reads.
_TOLD_PER_SECOND = 10


class Fault(NamedTuple):
    """Code of the application has raised: which method, the type of what it was given, what it has raised, or what is
    wrong with what it gave; and the correlation of the command that led to it, where there is one.
    """

    place: str
    message: str
    error: BaseException
    correlation: str | None = None


class Faults:
    """Tells one observer.

    Args:
        observer: whom.
        clock: seconds, from any beginning.
    """

    def __init__(self, observer: Observer, clock: Callable[[], float]) -> None:
        self._observer = observer
        self._clock = clock
        self._since = float("-inf")
        self._told = 0
        self._left_out = 0

    def tell(self, fault: Fault) -> None:
        """Report one, unless so many were reported within a second."""
        now = self._clock()
        if now - self._since >= 1:
            self._since, self._told = now, 0
        if self._told >= _TOLD_PER_SECOND:
            self._left_out += 1
            return
        self._told += 1
        left_out, self._left_out = self._left_out, 0
        self._observer.application_failed(
            place=fault.place,
            message=fault.message,
            error=fault.error,
            left_out=left_out,
            correlation=fault.correlation,
        )
