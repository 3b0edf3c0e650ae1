"""What callers asked for, and what they were answered.

Here: sending commands through an engine and remembering it. Not here: whether it is true (`checks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from millstream.engine.application.messages import Command, Receipt
from millstream.engine.engine import Engine
from millstream.engine.errors import DeadlineExceeded, MillstreamError, OutcomeUnknown
from millstream.engine.testing.faulty import FaultyLog
from millstream.engine.testing.simulation import Simulation

__all__ = ["Call", "History"]


class Call(msgspec.Struct, eq=False):
    """One command that a caller sent, and the answer.

    ``heard`` is the last commit that any receipt had named when it was sent, ``durable`` the last one that was in the
    log when it was answered. ``outcome`` is None while it is waiting, and stays None if it was cancelled.
    """

    command: Command
    command_id: str
    heard: int
    status: Literal["waiting", "answered", "cancelled"] = "waiting"
    outcome: Receipt | MillstreamError | None = None
    durable: int = 0

    @property
    def type(self) -> str:
        """What the command is called in the log."""
        return str(type(self.command).__struct_config__.tag)

    @property
    def may_stand(self) -> bool:
        """Whether the caller's answer, if it got one, leaves open that the command happened."""
        match self.outcome:
            case None | OutcomeUnknown():
                return True
            case DeadlineExceeded(decided=decided):
                return decided
        return False


class History:
    """Sends commands, and remembers what became of them. Send all commands of a scenario through one history.

    Args:
        world: gets a line in its trace for each command and each answer.
        log: the one that all engines of the scenario are opened on.
    """

    def __init__(self, world: Simulation, log: FaultyLog) -> None:
        self.log = log
        self.calls: list[Call] = []
        self._world = world
        self._heard = 0

    async def execute(
        self, engine: Engine, command: Command, *, command_id: str | None = None, **how: Any
    ) -> Receipt | MillstreamError:
        """As `Engine.execute`, but what millstream raises is returned.

        Args:
            engine: to whom it is sent.
            command: the command.
            command_id: an id that was used before, to send a command once more; a new one if none is given.
            how: whatever else `Engine.execute` takes.
        """
        call = self._sent(command, command_id)
        try:
            outcome: Receipt | MillstreamError = await engine.execute(command, command_id=call.command_id, **how)
        except MillstreamError as error:
            outcome = error
        except asyncio.CancelledError:
            self._cancelled([call])
            raise
        self._answered(call, outcome)
        return outcome

    async def execute_many(
        self, engine: Engine, commands: Iterable[Command], **how: Any
    ) -> Sequence[Receipt | MillstreamError]:
        """As `Engine.execute_many`, each command with a new id."""
        calls = [self._sent(command, None) for command in commands]
        todo, command_ids = [call.command for call in calls], [call.command_id for call in calls]
        try:
            outcomes = await engine.execute_many(todo, command_ids=command_ids, **how)
        except asyncio.CancelledError:
            self._cancelled(calls)
            raise
        for call, outcome in zip(calls, outcomes, strict=True):
            self._answered(call, outcome)
        return outcomes

    def _sent(self, command: Command, command_id: str | None) -> Call:
        call = Call(command, command_id or f"c{len(self.calls) + 1}", self._heard)
        self.calls.append(call)
        self._world.note(f"{call.command_id}: {command!r}")
        return call

    def _answered(self, call: Call, outcome: Receipt | MillstreamError) -> None:
        call.status, call.outcome, call.durable = "answered", outcome, len(self.log.commits)
        if isinstance(outcome, Receipt):
            self._heard = max(self._heard, outcome.commit)
        self._world.note(f"{call.command_id} ← {outcome!r}")

    def _cancelled(self, calls: Iterable[Call]) -> None:
        for call in calls:
            call.status = "cancelled"
            self._world.note(f"{call.command_id} cancelled")
