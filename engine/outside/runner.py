"""The runner: performs what is owed to the outside world, and hands in what came of it.

Here: a follower of the log that begins with what the agenda owes, and gets durable commits only. Not here: order
and bounds (`lane`), the attempts at one effect (`attempts`), and striking it (`write.settling`).

Invariants: what is performed is owed by a durable commit; of one key nothing begins before what came of the effect
before it is durable; what came of an effect is handed in again until it is durable, the effect is not owed any more, or
the engine ends. A task is there for each effect that is being performed, and none for one that waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from math import inf
from typing import Any, cast

from millstream.engine.application.app import App
from millstream.engine.application.effects import EffectSide
from millstream.engine.application.interrupts import INTERRUPTS, Interrupted
from millstream.engine.application.messages import Command, Receipt
from millstream.engine.application.options import Deadline, Terms
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import Fenced, NotOnAgenda
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.observers import Faults, Observer
from millstream.engine.outside.attempts import CutOff, Work
from millstream.engine.outside.lane import Lane
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Effect, Name, Outcome, Performed, id_of, outcome_name
from millstream.engine.write.status import WriterStatus
from millstream.engine.write.writer import Writer

__all__ = ["Runner"]

#: Not for the writer to look at: it makes `batch` take what has it by itself.
_BY_ITSELF = Terms(deadline=Deadline(inf, inf))
_TAKEN_OVER = "another writer has the log, and performs it, too: what that one writes of it counts"
#: How soon a lease that is in doubt is looked at again.
_LEASE_SECONDS = 0.1


class Runner:
    """The follower that performs effects.

    Args:
        app: whose they are.
        instances: by class, what has the methods.
        lanes: by today's name of a method.
        writer: the engine's.
        limits: the engine's.
        observer: is called with what goes wrong.
    """

    task_name = "millstream-effects"

    def __init__(
        self,
        app: App,
        instances: Mapping[type[EffectSide], Any],
        lanes: Mapping[str, Lane],
        writer: Writer,
        limits: Limits,
        observer: Observer,
    ) -> None:
        self._app = app
        self._instances = instances
        self._lanes = lanes
        self._writer = writer
        self._observer = observer
        self._work = Work(
            app, limits, self._rest, Faults(observer, elapsed).tell, elapsed, observer, lambda: self._ending.is_set()
        )
        self._agenda: Agenda | None = None
        self._tasks: dict[Name, asyncio.Task[None]] = {}
        #: What came of effects, and is not durable yet.
        self._unsettled: dict[Name, _HandedIn] = {}
        self._alarms: dict[Lane, asyncio.TimerHandle] = {}
        self._is_entered = False
        self._entered: asyncio.Future[None] | None = None
        #: None begins any more; no attempt is made any more; nothing is under way.
        self._ending = asyncio.Event()
        self._stopped = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._defect: BaseException | None = None

    # What the log says.

    def start(self, head: Head) -> None:
        """Begin with what is owed."""
        self._entered = asyncio.get_running_loop().create_future()
        self._list()

    def offer(self, decoded: DecodedCommit) -> None:
        """A commit is durable: what it owes may be performed."""
        agenda, number = self._agenda, decoded.head.number
        if agenda is None or not agenda.news:
            return
        lanes: dict[Lane, None] = {}
        while agenda.news and agenda.news[0][0] <= number:
            _, name = agenda.news.popleft()
            effect, lane = agenda.effects.get(name), self._lane(name)
            if lane is None:
                continue
            lanes[lane] = None
            lane.unpark(name)
            if effect is not None and name not in self._tasks and name not in self._unsettled:
                lane.add(effect)
        for lane in lanes:
            self.go(lane)

    def resync(self, head: Head) -> None:
        """The agenda is made anew by then, and is looked at in `recede`."""

    def recede(self, head: Head) -> None:
        """After a failure the writer has its state again, or has none yet."""
        state = self._writer.state
        if state is not None and state.agenda is not self._agenda:
            self._list()

    def _list(self) -> None:
        """Begin anew with what the agenda says, which is as the log has it. What is under way goes on."""
        state = self._writer.state
        if state is None:
            return
        agenda = self._agenda = state.agenda
        agenda.news = deque()
        for lane in self._lanes.values():
            lane.clear()
        for entry in agenda.parked.values():
            if isinstance(entry, Effect | Outcome) and (behind := self._lane(entry.name)) is not None:
                behind.park(entry.key, entry.name)
        gone: dict[str, int] = {}
        for effect in agenda.effects.values():
            owing, name = self._lane(effect.name), effect.name
            if owing is None:
                gone[effect.by] = gone.get(effect.by, 0) + 1
            elif name not in self._tasks and name not in self._unsettled:
                owing.add(effect)
        if gone:
            self._observer.effects_gone(app=self._app.name, effects=gone)
        for name, handed in list(self._unsettled.items()):
            if handed.is_under_way:
                continue
            if name in agenda.effects:
                self._hand_in(handed)
            else:  # the commit that was in doubt is there
                self._settled(handed)
        for lane in self._lanes.values():
            self.go(lane)

    def _lane(self, name: Name) -> Lane | None:
        """Of the effect of that name; None if the code has no such method."""
        entry = self._app.effects_by_name.get(name[1])
        return None if entry is None else self._lanes[entry.name]

    # Performing.

    def go(self, lane: Lane) -> None:
        """Let those begin that may."""
        agenda = self._agenda
        while self._may_begin and lane.has_room and agenda is not None:
            if not self._writer.leadership.is_held:  # another writer may perform it at this moment
                self._wake_later(lane, _LEASE_SECONDS)
                return
            if (seconds := lane.seconds_until_next(elapsed())) > 0:
                self._wake_later(lane, seconds)
                return
            effect = lane.take()
            if effect is None:
                return
            if agenda.effects.get(effect.name) is not effect:
                lane.release(effect)  # it was dropped
                continue
            lane.reserve(elapsed())
            self._quiet.clear()
            task = asyncio.create_task(self._perform(lane, effect), name=f"millstream-{effect.id}")
            self._tasks[effect.name] = task

    @property
    def _may_begin(self) -> bool:
        return self._is_entered and not self._ending.is_set() and self._writer.status is not WriterStatus.STOPPED

    def _wake_later(self, lane: Lane, seconds: float) -> None:
        if lane in self._alarms:
            return

        def ring() -> None:
            del self._alarms[lane]
            self.go(lane)

        self._alarms[lane] = asyncio.get_running_loop().call_later(seconds, ring)

    async def _rest(self, seconds: float) -> None:
        """Wait between two attempts.

        Raises:
            CutOff: the engine closes meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return
        raise CutOff

    async def _perform(self, lane: Lane, effect: Effect) -> None:
        """One effect's task. What is cut off is owed still, and performed after the next opening."""
        try:
            performed = await self._work.perform(lane, effect, self._instances[lane.entry.owner])
        except (CutOff, asyncio.CancelledError):
            self._forget(lane, effect)
        except INTERRUPTS as error:
            self._forget(lane, effect)
            self._defect = Interrupted("an effect")
            self._defect.__cause__ = error
            self._stopped.set()
        except BaseException as defect:  # noqa: BLE001 - `run` raises it
            self._forget(lane, effect)
            self._defect = defect
            self._stopped.set()
        else:
            handed = self._unsettled[effect.name] = _HandedIn(self, lane, effect, performed)
            self._tasks.pop(effect.name, None)
            self._hand_in(handed)

    def _forget(self, lane: Lane, effect: Effect) -> None:
        self._tasks.pop(effect.name, None)
        lane.release(effect)
        self._look_if_quiet()

    # What came of it.

    def _hand_in(self, handed: _HandedIn) -> None:
        if self._writer.status is WriterStatus.STOPPED:
            handed.is_under_way = False
            if self._writer.leadership.is_lost:
                self._superseded(handed, _TAKEN_OVER)
            self._look_if_quiet()
            return
        handed.is_under_way = True
        self._writer.mailbox.hand_in((handed, cast(Command, handed.performed), _BY_ITSELF))

    def heard(self, handed: _HandedIn, error: BaseException | None) -> None:
        """What became of what was handed in. Where the store has failed, it is handed in again after that."""
        handed.is_under_way = False
        if error is None:
            self._settled(handed)
        elif isinstance(error, NotOnAgenda):
            self._superseded(handed, handed.performed.text)
            self._settled(handed)
        else:
            if isinstance(error, Fenced):
                self._superseded(handed, _TAKEN_OVER)
            self._look_if_quiet()

    def _superseded(self, handed: _HandedIn, problem: str) -> None:
        """What came of it is not written: what another process has written of it counts."""
        performed = handed.performed
        self._observer.effect_superseded(
            effect=id_of(performed.name),
            how=performed.how,
            commands=[type(each).__name__ for each in performed.commands],
            problem=problem,
            correlation=handed.effect.metadata.correlation,
        )

    def _settled(self, handed: _HandedIn) -> None:
        """It is durable."""
        lane, effect, agenda = handed.lane, handed.effect, self._agenda
        self._unsettled.pop(effect.name, None)
        if agenda is not None:
            for name in (effect.name, outcome_name(effect.position, effect.by)):
                if name in agenda.parked:
                    lane.park(effect.key, name)
        lane.release(effect)
        self._look_if_quiet()
        self.go(lane)

    def _look_if_quiet(self) -> None:
        is_lost = self._writer.status is WriterStatus.STOPPED
        if not self._tasks and (not self._unsettled or is_lost):
            self._quiet.set()

    # Its life.

    async def entered(self) -> None:
        """Wait until all instances were entered.

        Raises:
            BaseException: what one of them raised.
        """
        assert self._entered is not None
        await self._entered

    async def run(self) -> None:
        """Enter the instances, perform until `stop`, and leave them.

        Raises:
            Interrupted: a method wants the program to end.
            Exception: an instance failed to leave; or a defect.
        """
        assert self._entered is not None
        async with AsyncExitStack() as stack:
            try:
                for instance in self._instances.values():
                    if hasattr(type(instance), "__aenter__"):
                        await stack.enter_async_context(instance)
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError):
                    self._entered.cancel()
                    raise
                self._entered.set_exception(error)  # opening the engine raises it
                return
            self._entered.set_result(None)
            self._is_entered = True
            for lane in self._lanes.values():
                self.go(lane)
            try:
                await self._stopped.wait()
            finally:
                await self._end()
        if self._defect is not None:
            raise self._defect

    async def drained(self, seconds: float) -> None:
        """Let none begin, and wait until all that run have ended and what came of them is durable; for so long."""
        self._ending.set()
        self._look_if_quiet()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            self._observer.effects_cut_off(effects=[id_of(name) for name in (*self._tasks, *self._unsettled)])

    def stop(self) -> None:
        """Let `run` end. What is under way is cut off, and owed still."""
        self._ending.set()
        self._stopped.set()

    async def _end(self) -> None:
        self._ending.set()
        for alarm in self._alarms.values():
            alarm.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Nothing is left to be done."""


class _HandedIn:
    """What came of an effect, on its way to the writer; and the promise that gets what became of that."""

    def __init__(self, runner: Runner, lane: Lane, effect: Effect, performed: Performed) -> None:
        self._runner = runner
        self.lane = lane
        self.effect = effect
        self.performed = performed
        #: The writer has it.
        self.is_under_way = False

    def done(self) -> bool:
        """It never gives up."""
        return False

    def set_result(self, _: Receipt) -> None:
        """It is durable."""
        self._runner.heard(self, None)

    def set_exception(self, error: BaseException) -> None:
        """It is not."""
        self._runner.heard(self, error)
