"""Fakes for the outside world: what a scenario has instead of it, and performs effects with.

Here: which effect is next, and performing it. Not here: the loop that fakes live on (`stage`), and what becomes of what
came of an effect (`scenario`).

Whose turn it is, and what is an attempt, is the engine's own code (`outside`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator

from millstream.engine.application.app import App
from millstream.engine.errors import InvalidMessage, UnknownMessage
from millstream.engine.limits import Limits
from millstream.engine.observers import Fault, Observer
from millstream.engine.outside.attempts import Work
from millstream.engine.outside.lane import Lane
from millstream.engine.outside.outside import by_class
from millstream.engine.testing.errors import SimulationError
from millstream.engine.testing.stage import Stage, is_entered
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Effect, Name, Outcome, Performed

__all__ = ["Fakes"]


class Fakes:
    """Instances of an application's classes of effects, made for a test.

    Args:
        app: whose they are.
        given: instances, at most one of each class.
        limits: the engine's.

    Raises:
        DefinitionError: what is given is no instance of such a class, or there are two of one.
    """

    def __init__(self, app: App, given: Iterable[object], limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._instances = by_class(app, given)
        entries = [entry for those in app.effects.values() for entry in those]
        self._entries = {entry.name: entry for entry in entries}
        #: A caller says when the scenario ends.
        self._is_held = False
        self._stage: Stage | None = None

    def hold(self) -> None:
        """The caller will `close`."""
        self._is_held = True

    def close(self) -> None:
        """Leave those that were entered, and end what they have left running.

        Raises:
            SimulationError: a loop runs in this thread.
            BaseException: what one of them raised.
        """
        self._is_held = False
        if self._stage is not None:
            self._stage.close()

    def pass_time(self, seconds: float) -> None:
        """Their clock is so much later."""
        if self._stage is not None:
            self._stage.pass_time(seconds)

    def turns(self, agenda: Callable[[], Agenda], methods: Collection[str]) -> Iterator[tuple[Lane, Effect]]:
        """One after another what is owed and may be performed: method by method, each in the order of the events.

        Those of a key whose first has not been struck or parked when the next is asked for do not come.

        Args:
            agenda: gives what is looked at anew each time, so what came to be owed meanwhile comes too.
            methods: only those of these, as the log calls them; none: of all that there are fakes for.

        Raises:
            UnknownMessage: there is no such method.
            InvalidMessage: there is no fake for it.
        """
        names = list(methods or self._faked)
        for name in names:
            self._require(name)
        begun: set[Name] = set()
        while True:
            ready = ((lane, each) for lane in map(self._lane, names) for each in self._ready(lane, agenda()))
            turn = next(((lane, each) for lane, each in ready if each.name not in begun), None)
            if turn is None:
                return
            begun.add(turn[1].name)
            yield turn

    def perform(self, lane: Lane, effect: Effect, tell: Callable[[Fault], None]) -> Performed:
        """Perform one, with as many attempts as its method has. No time passes: fakes may sleep, and time out.

        Args:
            lane: as `turns` gives it.
            effect: as given with it.
            tell: is called for each attempt that fails: where, on what, and with what.

        Raises:
            SimulationError: a loop runs in this thread; or a fake is to be entered, and `hold` was not called.
            Stuck, NotSimulated: a fake goes round in circles, or wants what is not there.
            BaseException: what a fake raised that is entered: in entering, or in a task that it keeps.
        """
        now: Callable[[], float] = lambda: asyncio.get_running_loop().time()  # noqa: E731
        work = Work(self._app, self._limits, asyncio.sleep, tell, now, Observer(), lambda: False)
        if self._stage is None or self._stage.is_closed:
            self._require_holder()
            self._stage = Stage(self._instances.values())
        return self._stage.run(lambda: work.perform(lane, effect, self._instances[lane.entry.owner]))

    @property
    def _faked(self) -> list[str]:
        return [name for name, entry in self._entries.items() if entry.owner in self._instances]

    def _require_holder(self) -> None:
        for owner, instance in self._instances.items():
            if is_entered(instance) and not self._is_held:
                raise SimulationError(
                    f"{owner.__name__} is an async context manager, which is left when the scenario ends: say when, by "
                    "`with Scenario(…) as scenario:` or with the fixture `scenario_of`"
                )

    def _require(self, name: str) -> None:
        if name not in self._entries:
            raise UnknownMessage("effect", name, self._app.name, tuple(self._entries))
        if name not in self._faked:
            owner = self._entries[name].owner.__name__
            raise InvalidMessage(name, f"nothing performs it here: give Scenario(…, effects=[{owner}(…)])")

    def _lane(self, name: str) -> Lane:
        return Lane(self._entries[name])

    def _ready(self, lane: Lane, agenda: Agenda) -> Iterator[Effect]:
        """The first of each key, as far as it need not wait for what is parked."""
        known = self._app.effects_by_name
        for entry in agenda.parked.values():
            if isinstance(entry, Effect | Outcome) and known.get(entry.by) is lane.entry:
                lane.park(entry.key, entry.name)
        for effect in agenda.effects.values():
            if known.get(effect.by) is lane.entry:
                lane.add(effect)
        yield from iter(lane.take, None)
