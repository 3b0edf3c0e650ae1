"""The time of day, as far as it is to be believed: it does not leap with a clock that was set.

Here: what is done about a leap. Not here: the clocks themselves (`clock`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from millstream.engine.loop.clock import Clock, elapsed

__all__ = ["Jumped", "SteadyClock"]


class Jumped(Protocol):
    """Is called with a leap by so many seconds."""

    def __call__(self, *, seconds: float, believed: bool) -> object: ...


class SteadyClock:
    """The time of day by a clock that may be set: a leap counts once it has lasted.

    Between two looks a day's clock should have moved as the measuring one has. Where it differs by more than
    ``jump_seconds_max``, time goes on as measured; if it still does after as many seconds, the clock is believed.
    Smaller steps are believed at once. A machine that slept is a leap, too: the measuring clock may stand still then.

    Args:
        clock: the time of day.
        jump_seconds_max: how much it may leap without a question; None: it is always believed.
        jumped: is called when a leap begins, and when it is believed.
    """

    def __init__(self, clock: Clock, jump_seconds_max: float | None, jumped: Jumped) -> None:
        self._clock = clock
        self._jump_seconds_max = jump_seconds_max
        self._jumped = jumped
        #: Where the clock was last believed, by both clocks.
        self._day: datetime | None = None
        self._at = 0.0
        #: How far it is off, and since when.
        self._doubt: tuple[float, float] | None = None

    @property
    def is_guarded(self) -> bool:
        """Whether a leap is doubted: the measuring clock is then the better one to wait by."""
        return self._jump_seconds_max is not None

    def now(self) -> datetime:
        """The time of day. It may go back, if the clock was set back."""
        day = self._clock()
        if self._jump_seconds_max is None:
            return day
        at = elapsed()
        if self._day is None:
            return self._believe(day, at)
        expected = self._day + timedelta(seconds=at - self._at)
        off = (day - expected).total_seconds()
        if abs(off) <= self._jump_seconds_max:
            self._doubt = None
            return self._believe(day, at)
        if self._doubt is None or abs(self._doubt[0] - off) > self._jump_seconds_max:
            self._doubt = (off, at)
            self._jumped(seconds=off, believed=False)
        elif at - self._doubt[1] >= self._jump_seconds_max:
            self._doubt = None
            self._jumped(seconds=off, believed=True)
            return self._believe(day, at)
        return expected

    def _believe(self, day: datetime, at: float) -> datetime:
        self._day, self._at = day, at
        return day
