"""Whether a commit waits for those who were just answered, so that it takes their next commands, too.

Callers that go on and on split into two groups otherwise: one is written while the other one's next commands come, so
that each commit takes half of them, and each group waits for the other one's. A millisecond at most is waited, and not
where they do not come back: each time that they did not, twice as many commits are written before it is tried again.

Pure: whoever uses it says what time it is.
"""

from __future__ import annotations

__all__ = ["COMMANDS_MAX", "Gather"]

#: Commits of more share the cost of a write already.
COMMANDS_MAX = 256
#: After so many times in a row the next one comes 4,096 commits later.
_MISSES_MAX = 12


class Gather:
    """One wait after another.

    Args:
        seconds_max: how long each may be.
    """

    __slots__ = ("_expected", "_misses", "_pauses", "_seconds_max", "until")

    def __init__(self, seconds_max: float) -> None:
        #: When it is over, on the clock `elapsed`.
        self.until = 0.0
        self._seconds_max = seconds_max
        #: How many commands the next commit is to have; 0 while nothing is waited for.
        self._expected = 0
        #: How often in a row they did not come.
        self._misses = 0
        #: For how many commits it is not tried.
        self._pauses = 0

    def landed(self, answered: int, ready: int, now: float) -> None:
        """A commit is durable.

        Args:
            answered: how many callers are told so.
            ready: how many commands wait already.
            now: on the clock `elapsed`.
        """
        self._expected = 0
        if self._pauses:
            self._pauses -= 1
        elif 1 < answered + ready <= COMMANDS_MAX:
            self._expected, self.until = answered + ready, now + self._seconds_max

    def lasts(self, ready: int, now: float) -> bool:
        """Whether to wait on.

        Args:
            ready: how many commands there are for the next commit.
            now: on the clock `elapsed`.
        """
        if not self._expected:
            return False
        if ready >= self._expected:
            self._expected = self._misses = 0
            return False
        if now >= self.until:
            self._expected = 0
            self._misses = min(self._misses + 1, _MISSES_MAX)
            self._pauses = 1 << self._misses
            return False
        return True
