"""When timers are due: the clock's side of the agenda.

Here: which timers' time has come, and when to look again. It follows from the agenda, and is made anew with it. Not
here: what is sent (`cascade`), and in which commit (`batch`).

Two kinds of waiting. A timer that counts from the moment in which it was set waits by the measuring clock, as long as
the process lives: setting the clock makes it neither early nor late. All others wait by the time of day, looked
at each second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import heapify, heappop, heappush
from math import inf
from typing import TypeAlias

from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.steady import SteadyClock
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Name, Timer

__all__ = ["Due", "Timetable"]

#: A timer, and the time for which it was set: if it has another one since, it is not due.
Due: TypeAlias = tuple[Name, str]

#: How often the time of day is looked at, while something waits by it.
_LOOK_SECONDS = 1.0
#: The day's clock may be so far behind the measuring one because it is kept right; by more, it was set.
_SLEWED_SECONDS = 1.0
#: How many timers are taken in at once.
_AT_ONCE = 500
#: How many wait to be sent at most: the others wait here, so that no look takes long.
_DUE_MAX = 1_000
#: How many entries of timers that are there no more are kept, beside as many as there are timers.
_STALE_MAX = 1_000


class Timetable:
    """Says which timers are due.

    Args:
        clock: the time of day.
    """

    def __init__(self, clock: SteadyClock) -> None:
        self._clock = clock
        #: Those whose time has come, in order.
        self.due: deque[Due] = deque()
        #: What was not looked at since a restart.
        self._left: Iterator[Timer] = iter(())
        #: By the measuring clock, when those among them are due that had counted from a moment.
        self._known: dict[Due, float] = {}
        #: The same of those that came due: what sends them may fail, and they are due still.
        self._came: dict[Due, float] = {}
        self._is_loading = False
        #: By the measuring clock, and by the time of day; of two at one time that comes first which was set first.
        self._measured: list[tuple[float, int, Due]] = []
        self._dated: list[tuple[datetime, int, Due]] = []
        self._count = 0
        self._agenda: Agenda | None = None
        #: When to look again, by the measuring clock.
        self._look_at = inf
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = inf

    def follow(self, agenda: Agenda) -> None:
        """Begin with what is on the agenda, which was made anew. Who counts from a moment goes on to."""
        self._known |= self._came | {due: at for at, _, due in self._measured}
        self._came.clear()
        self._agenda, self._measured, self._dated = agenda, [], []
        self.due.clear()
        timers = list(agenda.timers.values())
        self._left = iter(timers)
        self._is_loading = bool(timers)
        self._look_at = -inf if timers else inf

    def add(self, timer: Timer, *, is_measured: bool) -> None:
        """One that was set now.

        Args:
            timer: it.
            is_measured: whether it counts from now.
        """
        self._count += 1
        due, moment = (timer.name, timer.due), datetime.fromisoformat(timer.due)
        if is_measured and self._clock.is_guarded:
            ahead = (moment - self._clock.now()).total_seconds()
            at = elapsed() + ahead
            heappush(self._measured, (at, self._count, due))
            self._look_at = min(self._look_at, at)
        else:
            heappush(self._dated, (moment, self._count, due))
            self._look_at = -inf
        self._clear_away()

    def look(self, day: datetime | None = None) -> bool:
        """Whether anything is due, or is to be looked at further at once.

        Args:
            day: the time of day, if it was just read: what waits by it need not wait for the next look.
        """
        if day is not None and self._dated and self._dated[0][0] <= day:
            self._look_at = -inf
        if self._look_at < inf and elapsed() >= self._look_at:
            if self._is_loading:
                self._load()
            if not self._is_loading:
                self._take_due(self._clock.now() if day is None else day)
        return bool(self.due) or self._is_loading

    def _load(self) -> None:
        """Take in some of those that were there at a restart. None is due before all are known: they have an order."""
        for _ in range(_AT_ONCE):
            timer = next(self._left, None)
            if timer is None:
                self._is_loading = False
                self._known.clear()
                return
            self._count += 1
            due = (timer.name, timer.due)
            at = self._known.get(due)
            if at is None:
                heappush(self._dated, (datetime.fromisoformat(timer.due), self._count, due))
            else:
                heappush(self._measured, (at, self._count, due))

    def _take_due(self, day: datetime) -> None:
        now = elapsed()
        self._look_at = inf
        room = _DUE_MAX
        while self._measured and self._measured[0][0] <= now and len(self.due) < room:
            at, count, due = heappop(self._measured)
            short = (datetime.fromisoformat(due[1]) - day).total_seconds()
            if 0 < short < _SLEWED_SECONDS:  # the day's clock was slowed down since
                heappush(self._measured, (now + short, count, due))
            else:
                self._came[due] = at
                self.due.append(due)
        if self._dated:
            while self._dated and self._dated[0][0] <= day and len(self.due) < room:
                self.due.append(heappop(self._dated)[2])
            if self._dated:
                self._look_at = now + min(max(0.0, (self._dated[0][0] - day).total_seconds()), _LOOK_SECONDS)
        if self._measured:
            self._look_at = min(self._look_at, self._measured[0][0])

    def _clear_away(self) -> None:
        """Forget those that were called off or set anew, once they are as many as those that wait."""
        if self._agenda is None or self._is_loading:
            return
        timers = self._agenda.timers
        if len(self._measured) + len(self._dated) + len(self._came) <= 2 * len(timers) + _STALE_MAX:
            return

        def waits(due: Due) -> bool:
            timer = timers.get(due[0])
            return timer is not None and timer.due == due[1]

        self._measured = [each for each in self._measured if waits(each[2])]
        self._dated = [each for each in self._dated if waits(each[2])]
        self._came = {due: at for due, at in self._came.items() if waits(due)}
        heapify(self._measured)
        heapify(self._dated)

    def arm(self, wake: Callable[[], None], *, within: float = inf, looks: bool = True) -> None:
        """Call ``wake`` when it is time to look again, and after so many seconds at the latest.

        Args:
            wake: is called.
            within: so many seconds.
            looks: False where nothing can be sent, so that looking is no use.
        """
        at = min(self._look_at if looks else inf, elapsed() + within)
        if at == inf or (self._alarm is not None and self._rings_at <= at and not self._alarm.cancelled()):
            return
        self.disarm()
        self._rings_at = at

        def ring() -> None:
            self._alarm, self._rings_at = None, inf
            wake()

        self._alarm = asyncio.get_running_loop().call_later(max(0.0, at - elapsed()), ring)

    def disarm(self) -> None:
        """Wake nothing any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm, self._rings_at = None, inf
