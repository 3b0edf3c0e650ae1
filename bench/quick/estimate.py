"""How long it will still take: what each turn took that is due again, and else what was expected of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from millstream.engine.loop.clock import elapsed

__all__ = ["Estimate", "Turn", "about"]


class Turn(NamedTuple):
    """One run of a contender, and the seconds that it is expected to take until it was measured."""

    who: str
    seconds: float


class Estimate:
    """The seconds that are left, as turn after turn begins.

    A contender that had its turn is expected to take as long again. Others are by how much slower than expected the
    machine was until now; that differs, as one has a slow disk and another a slow processor.

    Args:
        expected: by question its turns, in order.
        clock: seconds since some moment.
    """

    def __init__(self, expected: Sequence[Sequence[Turn]], *, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._waiting = deque(map(deque, expected))
        self._turns: deque[Turn] = deque()
        self._running: Turn | None = None
        self._began = 0.0
        #: Of turns that are over: what was expected, and what they took; and by contender of this question.
        self._expected = self._taken = 0.0
        self._measured: dict[str, float] = {}

    def next_question(self) -> None:
        """The next question begins. What is left of the one before, which may have failed, does not count any more."""
        self._ended()
        self._turns = self._waiting.popleft()
        self._measured.clear()

    def next_turn(self) -> float:
        """The next turn begins; the seconds that are left from now on."""
        self._ended()
        slowness = self._taken / self._expected if self._expected else 1.0
        left = sum(self._measured.get(turn.who, turn.seconds * slowness) for turn in self._turns)
        left += slowness * sum(turn.seconds for turns in self._waiting for turn in turns)
        self._running, self._began = self._turns.popleft(), self._clock()
        return left

    def _ended(self) -> None:
        if self._running is not None:
            taken = self._clock() - self._began
            self._expected += self._running.seconds
            self._taken += taken
            self._measured[self._running.who] = taken
            self._running = None


def about(seconds: float) -> str:
    """So many seconds, no more precisely than an estimate is."""
    minutes, rest = divmod(max(10, round(seconds, -1)), 60)
    told = [f"{minutes:.0f} min"] * bool(minutes) + [f"{rest:.0f} s"] * bool(rest)
    return " ".join(told)
