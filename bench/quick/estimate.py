"""How long it will still take: what was expected of what is left, by how much slower the machine was until now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from millstream.engine.loop.clock import elapsed

__all__ = ["Estimate", "about"]


class Estimate:
    """The seconds that are left, as turn after turn begins.

    Args:
        expected: by question the seconds that each of its turns was expected to take.
        clock: seconds since some moment.
    """

    def __init__(self, expected: Sequence[Sequence[float]], *, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._waiting = deque(map(deque, expected))
        self._turns: deque[float] = deque()
        self._done = self._running = 0.0
        self._began = clock()

    def next_question(self) -> None:
        """The next question begins. What is left of the one before, which may have failed, does not count any more."""
        self._turns = self._waiting.popleft()

    def next_turn(self) -> float:
        """The next turn begins; the seconds that are left from now on."""
        self._done += self._running
        taken = self._clock() - self._began
        left = sum(self._turns) + sum(map(sum, self._waiting))
        self._running = self._turns.popleft()
        return left * taken / self._done if self._done else left


def about(seconds: float) -> str:
    """So many seconds, no more precisely than an estimate is."""
    minutes, rest = divmod(max(10, round(seconds, -1)), 60)
    told = [f"{minutes:.0f} min"] * bool(minutes) + [f"{rest:.0f} s"] * bool(rest)
    return " ".join(told)
