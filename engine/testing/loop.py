"""An asyncio loop without a machine under it: time is a number, nothing comes from outside, every run is the same.

Here: the clock, the loop that moves it, and finding out who waits. Not here: what is random (`simulation`).

- Callbacks run in the order in which they were scheduled. asyncio promises that, and what is built on it relies on it,
  so no seed may change it. What a seed changes is how long things take, and so who is scheduled first.
- Each turn of the loop and each look at the clock takes a microsecond. With nothing left to run, the clock jumps to
  the next timer; with no timer either, the run is over: `Stuck`.
- Task groups hold their tasks in sets, and Python orders a set by its members' addresses. Tasks and futures of this
  loop are ordered by when they were made instead, and so are anyio's cancel scopes while it runs.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import PurePath
from random import Random
from threading import Thread, get_ident
from typing import Any, NoReturn, TypeVar
from weakref import ref

import anyio

from millstream.engine.testing.errors import NotSimulated, SimulationError, Stuck

__all__ = ["SimulatedClock", "SimulatedLoop", "confined", "require_no_loop"]

T = TypeVar("T")

_TURN_SECONDS = _LOOK_SECONDS = 1e-6
_STALL_SECONDS_MAX = 5e-3
_DISMISSAL_TURNS_MAX = 100_000
_BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)


class SimulatedClock:
    """The only clock of a simulation.

    Args:
        random: decides when it stalls, and when the time of day is off.
        stalls: how often, per look at it, the machine was busy with something else for up to 5 ms. So what works in
            slices, as the writer and the views do, is interrupted anywhere.
    """

    def __init__(self, random: Random, stalls: float) -> None:
        #: Seconds since the beginning.
        self.now = 0.0
        #: By how many seconds the clock on the wall was set ahead.
        self.ahead = 0.0
        self._random = random
        self._stalls = stalls

    def look(self) -> float:
        """The time, in seconds since the beginning; looking takes a microsecond."""
        self.now += _LOOK_SECONDS
        if self._stalls and self._random.random() < self._stalls:
            self.now += self._random.uniform(0, _STALL_SECONDS_MAX)
        return self.now

    def of_day(self) -> datetime:
        """The time of day. One look in three finds it 3 s behind: clocks on walls are set back now and then."""
        behind = 3 if self._random.random() < 1 / 3 else 0
        return _BEGINNING + timedelta(seconds=self.now + self.ahead - behind)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The loop of a simulation.

    ``is_simulated`` tells an engine so: nothing is done to the outside world there, unless it is given a fake.

    Args:
        clock: is moved by it.
        seconds_max: simulated seconds after which the run is `Stuck`.
        turns_max: turns of the loop after which it is: something goes round in circles.
    """

    is_simulated = True

    def __init__(self, clock: SimulatedClock, seconds_max: float, turns_max: int) -> None:
        self.clock = clock
        self._seconds_max, self._turns_max = seconds_max, turns_max
        self.renew()
        self._thread = get_ident()
        self._intruder: NotSimulated | None = None
        #: Numbers for whatever must have an order.
        self.numbers = count(1)
        #: By address, those of anyio's cancel scopes. They outlive a `confined` block.
        self.scopes: dict[int, tuple[int, ref[Any]]] = {}
        #: The class of those; `confined` finds it out.
        self.scope_type: type[Any] | None = None
        self._outside = _Outside(self._turn)
        super().__init__(self._outside)
        self._outside.sealed = True
        self.set_task_factory(_task)

    def time(self) -> float:
        return self.clock.now

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        """Refuse it.

        Raises:
            NotSimulated: always.
        """
        raise NotSimulated("a thread of an executor")

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """As `call_soon`, for callers in the loop's own thread.

        Raises:
            NotSimulated: it is called from another thread; the simulation ends with the same error.
        """
        if get_ident() != self._thread:
            self._intruder = NotSimulated("a call from another thread")
            raise self._intruder
        return self.call_soon(callback, *args, context=context)

    def renew(self) -> None:
        """Count turns and seconds from now on: each run of several has as many."""
        self.turns_left, self._ends_at = self._turns_max, self.clock.now + self._seconds_max

    def waiting(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, in the order in which they were started."""
        return sorted(asyncio.all_tasks(self), key=hash)

    def dismiss(self) -> None:
        """Cancel what is left, in order, and let it end; a task that won't is forgotten."""
        self.turns_left, self._ends_at = _DISMISSAL_TURNS_MAX, float("inf")
        left = self.waiting()
        for task in left:
            task.cancel()
        try:
            if left:
                self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.run_until_complete(self.shutdown_asyncgens())
        except (Stuck, NotSimulated):
            for task in self.waiting():
                task._log_destroy_pending = False  # type: ignore[attr-defined]

    def _turn(self, timeout: float | None) -> None:
        """Let time pass: a microsecond while something is ready to run, else up to the next timer."""
        if self._intruder is not None:
            raise self._intruder
        if timeout is None:
            raise self._stuck("nothing is left to do, and no timer runs")
        self.clock.now += max(timeout, _TURN_SECONDS)
        self.turns_left -= 1
        if self.clock.now > self._ends_at:
            raise self._stuck(f"it is not over after seconds_max={self._seconds_max:,g}")
        if self.turns_left < 0:
            raise self._stuck(f"it is not over after turns_max={self._turns_max:,} of the loop")

    def _stuck(self, problem: str) -> Stuck:
        return Stuck(problem, self.clock.now, [_described(task) for task in self.waiting()])


class _Outside(selectors.SelectSelector):
    """Where a loop waits for the world outside. There is none: nothing is ever ready, and time passes instead."""

    def __init__(self, turn: Callable[[float | None], None]) -> None:
        super().__init__()
        self._turn = turn
        #: The loop registers a pipe to itself when it is made; after that nothing may be registered.
        self.sealed = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.sealed:
            raise NotSimulated("a socket, a pipe or a subprocess")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turn(timeout)
        return []


class _Task(asyncio.Task[T]):
    """A task that sets order by when it was started."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], *, loop: SimulatedLoop, **how: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(coroutine, loop=loop, **how)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[T]):
    """A future that sets order by when it was made."""

    def __init__(self, *, loop: SimulatedLoop) -> None:
        self._number = next(loop.numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


def _task(loop: Any, coroutine: Any, **how: Any) -> asyncio.Task[Any]:
    return _Task(coroutine, loop=loop, **how)


def _described(task: asyncio.Task[Any]) -> str:
    """The task's name, and where it waits: outermost and innermost function, as far as asyncio's and anyio's own."""
    places: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] not in ("asyncio", "anyio"):
            places.append(f"{frame.f_code.co_qualname} ({PurePath(frame.f_code.co_filename).name}:{frame.f_lineno})")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return f"{task.get_name()}: {' … '.join(dict.fromkeys([*places[:1], *places[-1:]])) or 'nowhere'}"


@contextmanager
def confined(loop: SimulatedLoop) -> Iterator[None]:
    """Make this loop's thread a part of the simulation, until the block ends.

    It may start no thread, `time.sleep` lets simulated time pass, and cancel scopes have an order. These are changes to
    what belongs to others, for want of a hook. Other threads of the process don't notice them.
    """
    here, start, sleep = get_ident(), Thread.start, time.sleep
    numbered = loop.scopes
    if loop.scope_type is None:
        loop.scope_type = _kind_of_scope(loop)

    def refuse(thread: Thread) -> None:
        if get_ident() == here:
            raise NotSimulated(f"the thread {thread.name!r}")
        start(thread)

    def stall(seconds: float) -> None:
        if get_ident() == here:
            loop.clock.now += seconds
        else:
            sleep(seconds)

    def number(scope: Any) -> int:
        if get_ident() != here:
            return object.__hash__(scope)
        key = id(scope)
        if key not in numbered:
            numbered[key] = next(loop.numbers), ref(scope, lambda _: numbered.pop(key))
        return numbered[key][0]

    with (
        _replaced(Thread, "start", refuse),
        _replaced(time, "sleep", stall),
        _replaced(loop.scope_type, "__hash__", number),
    ):
        yield


def require_no_loop(what: str) -> None:
    """See that no loop runs in this thread.

    Raises:
        SimulationError: one does; says who wants a loop of its own.
    """
    if asyncio._get_running_loop() is not None:
        raise SimulationError(f"{what} runs a loop of its own: call it from a plain function, not from a coroutine")


def _kind_of_scope(loop: SimulatedLoop) -> type[Any]:
    """The class of anyio's cancel scopes on asyncio: `anyio.CancelScope` makes another one for each kind of loop."""

    async def make() -> type[Any]:
        return type(anyio.CancelScope())

    return loop.run_until_complete(make())


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
