"""Performing one effect: its attempts, and what came of them.

Here: calling the application's methods, and sorting what they return and raise. Not here: whose turn it is (`lane`),
and what becomes of what came of it (`runner`).

Invariant: a method is called again because of what the outside world did, and never for what our own code did with its
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import msgspec

from millstream.engine.application.app import App
from millstream.engine.application.effects import Attempt
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Event, Metadata
from millstream.engine.errors import HandlerFailed, LimitReached, MillstreamError
from millstream.engine.errors.said import said_by, told_of
from millstream.engine.limits import Limits
from millstream.engine.observers import Fault, Observer, has_hook
from millstream.engine.outside.lane import Lane
from millstream.engine.write.entries import Effect, Performed

__all__ = ["CutOff", "Work"]


class CutOff(BaseException):
    """The engine closes, and the next attempt does not begin. It is no failure of an attempt, so no `Exception`."""


class _Ours(Exception):
    """What the application's own code did is the reason that it does not go on: the cause."""


class Work:
    """Performs effects of one engine.

    Args:
        app: whose they are.
        limits: ``cascade_bytes_max`` bounds what an outcome may be.
        rest: waits for so many seconds, or raises `CutOff`.
        tell: is called with what the application's code raised.
        now: the measuring clock.
        observer: is called after each attempt.
        ends: whether the engine ends what is performed. Who is cancelled otherwise was so by the application.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        rest: Callable[[float], Awaitable[None]],
        tell: Callable[[Fault], None],
        now: Callable[[], float],
        observer: Observer,
        ends: Callable[[], bool],
    ) -> None:
        self._app = app
        self._limits = limits
        self._rest = rest
        self._tell = tell
        self._now = now
        self._tell_attempted = observer.attempted if has_hook(observer, "attempted") else None
        self._ends = ends

    async def perform(self, lane: Lane, effect: Effect, instance: Any) -> Performed:
        """Perform an effect; returns what came of it.

        Raises:
            CutOff: the engine closes, and it is owed still.
            CancelledError: as that, in the middle of an attempt.
            KeyboardInterrupt, SystemExit: the application's code raised it.
        """
        taken, how = _Taken(self, lane, effect, instance), "done"
        commands: list[Command] = []
        try:
            events = [event for event in self._today(effect) if type(event) is lane.entry.method.event]
            for index, event in enumerate(events):
                attempt_id = effect.attempt_id if len(events) == 1 else f"{effect.attempt_id}-{index}"
                how, command = await taken.perform(event, attempt_id, how)
                if command is not None:
                    commands.append(command)
        except _Ours as ours:
            error = ours.__cause__ or ours
            return _parked(effect, taken.attempts, error)
        except (CutOff, *INTERRUPTS):
            raise
        except BaseException as error:  # it is parked with what it failed with, which was reported
            if isinstance(error, asyncio.CancelledError):
                if self._ends():
                    raise
                lane.failed += 1
                self.tell(lane.entry.method.place, lane.entry.method.event.__name__, error, effect.metadata)
            return _parked(effect, taken.attempts, error)
        return Performed(effect.name, how if events else "void", taken.attempts, tuple(commands))

    def _today(self, effect: Effect) -> list[Event]:
        """What the event means today.

        Raises:
            _Ours: it can't be read.
        """
        try:
            return self._app.today(effect.event.encode())
        except (msgspec.DecodeError, HandlerFailed) as error:
            self.tell(f"effect {effect.id}", "its event", error, effect.metadata)
            raise _Ours from error

    def own(self, returned: Any, before: int) -> tuple[Command, int]:
        """What a method has returned, checked; and how many bytes it has, with those that came before.

        Raises:
            UnknownMessage, InvalidMessage, LimitReached: it is no command that can be decided.
        """
        command = self._app.own_command(returned)
        size = before + len(self._app.encode_command(command))
        if size > self._limits.cascade_bytes_max:  # it may have to be written down, beside what follows from it
            raise LimitReached("cascade_bytes_max", self._limits.cascade_bytes_max)
        return command, size

    async def attempted(self, lane: Lane, attempt_id: str, once: Callable[[], Awaitable[Any]]) -> Any:
        """What the method returned in the end, after as many attempts as it takes and has.

        Raises:
            Exception: what the last one failed with.
        """
        if lane.terms.attempts_max == 1:
            return await once()
        retrying = import_module("millstream.engine.outside.retrying").retrying
        return await retrying(once, attempt_id, lane.terms, self._rest)

    async def turn(self, lane: Lane) -> None:
        """Wait until one more attempt may begin.

        Raises:
            CutOff: the engine closes meanwhile.
        """
        if (seconds := lane.reserve(self._now())) > 0:
            await self._rest(seconds)

    async def called(self, lane: Lane, method: Callable[[], Awaitable[Any]], message: str, attempt: Attempt) -> Any:
        """What one call of a method returned, within its time.

        Raises:
            Exception: it failed; it was reported.
            CancelledError: the engine ends it.
        """
        timeout, began = asyncio.timeout(lane.terms.timeout_seconds), self._now()
        try:
            async with timeout:
                returned = await method()
        except INTERRUPTS:
            raise
        except BaseException as raised:
            task = asyncio.current_task()
            if isinstance(raised, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            error = raised
            if timeout.expired():
                error = TimeoutError(f"it took more than timeout_seconds={lane.terms.timeout_seconds:g}")
            lane.failed += 1
            self.tell(lane.entry.method.place, message, error, attempt.metadata)
            self._ended(lane, attempt, began, error)
            if isinstance(error, Exception):
                raise error from (None if error is raised else raised)
            raise RuntimeError(said_by(error)) from error
        lane.succeeded += 1
        self._ended(lane, attempt, began, None)
        return returned

    def _ended(self, lane: Lane, attempt: Attempt, began: float, error: BaseException | None) -> None:
        if self._tell_attempted is not None:
            self._tell_attempted(
                effect=lane.entry.name,
                key=attempt.key,
                position=attempt.position,
                number=attempt.number,
                seconds=self._now() - began,
                error=error,
                trace=attempt.metadata.trace,
            )

    def tell(self, place: str, message: str, error: BaseException, metadata: Metadata) -> None:
        """Tell of what the application's own code did wrong, and of which caller's command that comes."""
        self._tell(Fault(place, message, error, metadata.correlation))


class _Taken:
    """An effect that is being performed."""

    def __init__(self, work: Work, lane: Lane, effect: Effect, instance: Any) -> None:
        self._work = work
        self._lane = lane
        self._effect = effect
        self._instance = instance
        #: How many attempts there were.
        self.attempts = 0
        #: And how many bytes what came of them has.
        self._bytes = 0

    async def perform(self, event: Event, attempt_id: str, how: str) -> tuple[str, Command | None]:
        """Perform one event; returns how it went, if not as what was before, and what follows.

        Raises:
            _Ours: the application's own code failed.
            Exception: all attempts failed, and no method says what follows from that.
        """
        work, lane, method = self._work, self._lane, self._lane.entry.method
        function, number = getattr(self._instance, method.attribute), 0
        attempt = self._attempt(attempt_id, 1)

        async def once() -> Any:
            nonlocal number, attempt
            if self.attempts:  # for the first one there was a turn before it was taken
                await work.turn(lane)
            number += 1
            self.attempts += 1
            attempt = self._attempt(attempt_id, number)
            arguments = (event, attempt) if method.wants_attempt else (event,)
            return await work.called(lane, lambda: function(*arguments), type(event).__name__, attempt)

        try:
            returned = await work.attempted(lane, attempt_id, once)
        except (CutOff, *INTERRUPTS):
            raise
        except Exception as error:
            if method.gave_up is None:
                raise
            how, returned = "gave up", self._given_up(event, attempt, error)
        if returned is None:
            return how, None
        try:
            command, self._bytes = work.own(returned, self._bytes)
        except MillstreamError as error:
            work.tell(method.place, type(event).__name__, error, attempt.metadata)
            raise _Ours from error
        return how, command

    def _given_up(self, event: Event, attempt: Attempt, error: Exception) -> Any:
        gave_up = self._lane.entry.method.gave_up
        assert gave_up is not None
        try:
            return getattr(self._instance, gave_up.attribute)(event, attempt, said_by(error))
        except INTERRUPTS:
            raise
        except BaseException as ours:
            self._work.tell(gave_up.place, type(event).__name__, ours, attempt.metadata)
            raise _Ours from ours

    def _attempt(self, attempt_id: str, number: int) -> Attempt:
        return Attempt(attempt_id, number, self._effect.position, self._effect.key, self._effect.metadata)


def _parked(effect: Effect, attempts: int, error: BaseException) -> Performed:
    return Performed(effect.name, "parked", attempts, (), *told_of(error))
