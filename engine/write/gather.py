"""Whether a commit waits for those who were just answered, so that it takes their next commands, too.

Callers that go on and on split into two groups otherwise: one is written while the other one's next commands come, so
that each commit takes half of them, and each group waits for the other one's. Where callers come back soon, waiting for
them makes half as many commits, and all of them are answered earlier. Where they think for a while, or where commands
come by themselves, as in an open loop, it makes all of them later.

Which of the two it is can't be known from commands, so it is tried. Where callers come back, more of them are answered
in a second if each is answered sooner: that is measured, with and without in turn, and what is better is kept for some
thousand commits. Where commands come by themselves, the same number is answered either way, and what is waited for does
not come in time: it is as many as were there at once, which grows with each wait.

    pauses          no commit waits, for 1,024 commits, or twice as many as after the last trial that found no gain
    tries           of 128 commits every other eight wait; a few that wait in vain end it
    gathers         commits wait, for 4,096 of them, until too many waited in vain

Pure: its user says what time it is.
"""

from __future__ import annotations

from enum import Enum
from math import inf

__all__ = ["COMMANDS_MAX", "Gather", "Phase"]

#: Commits of more share the cost of a write already.
COMMANDS_MAX = 256

_FIRST_PAUSE = 64
_PAUSE_MIN = 1_024
_PAUSE_MAX = 65_536
_TRIAL = 128
_TURN = 8
_GATHERS = 4_096
#: So many waits in vain end a trial; and gathering, if they come within so many commits.
_VAIN_MAX = 12
_VAIN_WITHIN = 128
#: A wait is no longer than so many commits take.
_COMMITS = 2
#: Of how many commits the mean is taken, about.
_MEAN_OF = 8
#: A gain is at least so much: commits differ in how long they take.
_GAIN = 1.05


class Phase(Enum):
    """What is done with commits just now."""

    PAUSES = "pauses"
    TRIES = "tries"
    GATHERS = "gathers"


class Gather:
    """One commit after another.

    Args:
        seconds_max: how long each may wait; or twice as long as commits take, if that is less.
    """

    __slots__ = (
        "_answered",
        "_commit_seconds",
        "_expected",
        "_landed_at",
        "_left",
        "_pause",
        "_seconds",
        "_seconds_max",
        "_vain",
        "phase",
        "until",
    )

    def __init__(self, seconds_max: float) -> None:
        self.phase = Phase.PAUSES
        #: When the wait is over, on the clock `elapsed`.
        self.until = inf
        self._seconds_max = seconds_max
        #: For how many commits this phase goes on, and how long the next pause is.
        self._left, self._pause = _FIRST_PAUSE, _PAUSE_MIN
        #: How many commands the next commit is to have; 0 while nothing is waited for.
        self._expected = 0
        #: How many waits were in vain, of late.
        self._vain = 0
        self._landed_at: float | None = None
        #: How long commits take, about.
        self._commit_seconds = 0.0
        #: Of a trial, without and with: how many were answered, and in how many seconds.
        self._answered = [0, 0]
        self._seconds = [0.0, 0.0]

    def landed(self, answered: int, ready: int, now: float, seconds: float) -> None:
        """A commit is durable.

        Args:
            answered: how many callers get their outcome.
            ready: how many commands wait already.
            now: on the clock `elapsed`.
            seconds: how long it took.
        """
        self._commit_seconds += (seconds - self._commit_seconds) / _MEAN_OF
        before, self._landed_at, self._expected = self._landed_at, now, 0
        there = answered + ready
        if not answered or not 1 < there <= COMMANDS_MAX:
            self._landed_at = None
            return
        if self.phase is Phase.TRIES and before is not None:
            waits = self._waits
            self._answered[waits] += answered
            self._seconds[waits] += now - before
        elif self.phase is Phase.GATHERS and self._left % _VAIN_WITHIN == 0:
            self._vain = 0
        self._left -= 1
        if self._left <= 0:
            self._go_on()
        if self._waits:
            self._expected, self.until = there, inf

    def lasts(self, ready: int, now: float) -> bool:
        """Whether to wait on. A wait begins when it is first asked, when those that wait have their outcomes.

        Args:
            ready: how many commands there are for the next commit.
            now: on the clock `elapsed`.
        """
        if not self._expected:
            return False
        if ready < self._expected:
            if self.until == inf:
                self.until = now + min(self._seconds_max, _COMMITS * self._commit_seconds)
            if now < self.until:
                return True
            self._vain += 1
            if self._vain >= _VAIN_MAX:
                self._rest()
        self._expected = 0
        return False

    @property
    def _waits(self) -> bool:
        return self.phase is Phase.GATHERS or (self.phase is Phase.TRIES and self._left // _TURN % 2 == 0)

    def _go_on(self) -> None:
        self._vain = 0
        if self.phase is Phase.TRIES:
            (fewer, more), (without, with_) = self._answered, self._seconds
            if more * without > _GAIN * fewer * with_:
                self.phase, self._left, self._pause = Phase.GATHERS, _GATHERS, _PAUSE_MIN
            else:
                self._rest()
        else:
            self.phase, self._left = Phase.TRIES, _TRIAL
            self._answered, self._seconds = [0, 0], [0.0, 0.0]

    def _rest(self) -> None:
        self.phase, self._left, self._vain = Phase.PAUSES, self._pause, 0
        self._pause = min(2 * self._pause, _PAUSE_MAX)
