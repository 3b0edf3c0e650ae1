"""`Engine.effects`: which instances perform, and pausing a method.

Here: choosing the instances, and what is said of each method. Not here: performing (`runner`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from millstream.engine.application.app import App
from millstream.engine.application.effects import EffectSide
from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError, UnknownMessage
from millstream.engine.limits import Limits
from millstream.engine.loop.home import Home
from millstream.engine.observers import Observer
from millstream.engine.outside.lane import Lane
from millstream.engine.outside.runner import Runner
from millstream.engine.stats import EffectStats
from millstream.engine.write.entries import Effect, Outcome
from millstream.engine.write.writer import Writer

__all__ = ["Given", "Outside", "by_class"]

#: What an engine is given: instances; None to make those that are not there; or to perform nothing.
Given: TypeAlias = Iterable[object] | Literal[False] | None


class Outside:
    """The effects of one engine.

    Args:
        app: whose they are.
        given: instances, each of one of the application's classes; others are made without arguments, when the engine
            opens, unless that is in a simulation. False: nothing is performed, and what is owed stays so.
        writer: the engine's.
        home: the loop that it may be used on.
        limits: the engine's.
        observer: is called with what goes wrong.

    Raises:
        DefinitionError: what is given is no instance of such a class, or there are two of one.
    """

    def __init__(self, app: App, given: Given, writer: Writer, home: Home, limits: Limits, observer: Observer) -> None:
        self._app = app
        self._given = None if given is False else by_class(app, given or ())
        self._writer = writer
        self._home = home
        self._limits = limits
        self._observer = observer
        entries = [entry for those in app.effects.values() for entry in those]
        self._lanes = {entry.name: Lane(entry) for entry in entries}
        #: What performs, while the engine is open; None if nothing does.
        self.runner: Runner | None = None

    def prepare(self) -> Runner | None:
        """What performs in an engine that opens now, on the loop that runs; None if nothing does.

        Raises:
            DefinitionError: a class can't be made without arguments.
        """
        if self._given is None or not self._lanes:
            return None
        if not self._given and getattr(asyncio.get_running_loop(), "is_simulated", False):
            return None
        instances: dict[type[EffectSide], Any] = dict(self._given)
        for owner in self._app.effect_classes:
            if owner not in instances:
                instances[owner] = _made(owner)
        self.runner = Runner(self._app, instances, self._lanes, self._writer, self._limits, self._observer)
        return self.runner

    async def entered(self) -> None:
        """Wait until what performs is ready to.

        Raises:
            BaseException: what an instance raised that was entered.
        """
        if self.runner is not None:
            await self.runner.entered()

    async def drained(self, seconds: float) -> None:
        """Let none begin, and wait for those that run, and until what came of them is durable; for so long."""
        if self.runner is not None:
            await self.runner.drained(seconds)

    def pause(self, name: str) -> None:
        """Let no effect of one method begin; those that run go on. It is not kept: the next engine performs again.

        Args:
            name: of the method, as the log calls it: ``Payments.charge``.

        Raises:
            UnknownMessage: there is no such method.
            WrongLoop: the engine was opened on another event loop.
        """
        self._home.require()
        self._lane(name).is_paused = True

    def resume(self, name: str) -> None:
        """Let effects of one method begin again.

        Args:
            name: as for `pause`.

        Raises:
            UnknownMessage: there is no such method.
            WrongLoop: the engine was opened on another event loop.
        """
        self._home.require()
        lane = self._lane(name)
        lane.is_paused = False
        if self.runner is not None:
            self.runner.go(lane)

    def stats(self) -> dict[str, EffectStats]:
        """By name of a method, how far it is."""
        owed, parked = dict.fromkeys(self._lanes, 0), dict.fromkeys(self._lanes, 0)
        agenda = None if self._writer.state is None else self._writer.state.agenda
        if agenda is not None and self._lanes:
            for entry in (*agenda.effects.values(), *agenda.parked.values()):
                known = self._app.effects_by_name.get(entry.by) if isinstance(entry, Effect | Outcome) else None
                if known is not None:
                    counts = parked if entry.is_parked else owed
                    counts[known.name] += 1
        return {
            name: EffectStats(
                owed=owed[name],
                running=lane.running,
                parked=parked[name],
                is_paused=lane.is_paused,
                succeeded=lane.succeeded,
                failed=lane.failed,
            )
            for name, lane in self._lanes.items()
        }

    def _lane(self, name: str) -> Lane:
        if name not in self._lanes:
            raise UnknownMessage("effect", name, self._app.name, tuple(self._lanes))
        return self._lanes[name]


def by_class(app: App, given: Iterable[object]) -> Mapping[type[EffectSide], Any]:
    """What is given, each by the class of the application's that it is an instance of.

    Raises:
        DefinitionError: what is given is no instance of such a class, or there are two of one.
    """
    found: dict[type[EffectSide], Any] = {}
    for each in given:
        owner = next((owner for owner in app.effect_classes if isinstance(each, owner)), None)
        if owner is None:
            known = ", ".join(owner.__name__ for owner in app.effect_classes) or "none"
            raise DefinitionError(f"effects= takes instances of the application's classes ({known}), not {each!r:.80}")
        if owner in found:
            raise DefinitionError(f"effects= has two instances of {owner.__name__}", place_of(owner))
        found[owner] = each
    return found


def _made(owner: type[EffectSide]) -> Any:
    try:
        return owner()
    except TypeError as error:
        raise DefinitionError(
            f"{owner.__name__} can't be made without arguments: give Engine(…, effects=[{owner.__name__}(…)]), or "
            f"effects=False to perform nothing: {error}",
            place_of(owner),
        ) from error
