"""For how long a store that fails is asked again before callers get an error.

Here: when it began to fail, how often it was asked since, and the pauses between. Not here: what is asked (`append`,
`failure`).
"""

from __future__ import annotations

from millstream.engine.loop.clock import elapsed

__all__ = ["Patience"]

_FIRST_SECONDS = 0.05
#: While callers wait.
_PAUSE_SECONDS_MAX = 1.0


class Patience:
    """One store's failures, from the first until it works again.

    Args:
        seconds: how long it is asked again before those who wait are refused; and how long the pauses between are at
            most when that is over.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._tries = 0

    @property
    def is_over(self) -> bool:
        """Whether callers that wait are to get the error of the store."""
        return self._since is not None and elapsed() - self._since >= self._seconds

    def begin(self) -> None:
        """The store has failed; it may have done so before."""
        if self._since is None:
            self._since = elapsed()

    def end(self) -> None:
        """It works."""
        self._since, self._tries = None, 0

    def pause(self) -> float:
        """In how many seconds to ask it again, after one more failure."""
        self._tries += 1
        longest = self._seconds if self.is_over else min(self._seconds, _PAUSE_SECONDS_MAX)
        return min(_FIRST_SECONDS * 2.0 ** min(self._tries - 1, 30), longest)
