"""Any history of timers, of clocks, failing stores and restarts, against a plain model of what must come of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import (
    App,
    Command,
    CommitFailed,
    Engine,
    Event,
    Key,
    Limits,
    MemoryLog,
    OutcomeUnknown,
    Timer,
    WriterUnavailable,
)
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import Decision, Rejected, Schedule, Unschedule, WriteModel, applies, handles
from tests.support import ScriptedLog, Step, agenda_of, write_state

START = datetime(2026, 1, 1, tzinfo=UTC)
How = Literal["ok", "ok", "refuse", "raise", "break", "again"]
NAMES, KEYS = ("x", "y", "z"), ("a", "b")


class Set(Command):
    """A timer of a name; what becomes of it when it is due is in its number."""

    key: Key
    name: str
    seconds: int
    how: str
    number: int


class Cancel(Command):
    key: Key
    name: str


class Ring(Command):
    key: Key
    number: int
    how: str
    name: str


class Look(Command):
    """Makes the writer look at the clock, and is durable behind all that was due."""

    number: int


class Rang(Event):
    key: Key
    number: int
    breaks: bool = False


class Looked(Event):
    number: int


class Belfry(WriteModel):
    rang: list[int] = []
    looked: int = 0

    @handles
    def set(self, command: Set) -> Decision:
        ring = Ring(command.key, command.number, command.how, command.name)
        yield Schedule(ring, after=timedelta(seconds=command.seconds), name=command.name)

    @handles
    def cancel(self, command: Cancel) -> Decision:
        yield Unschedule(command.name)

    @handles
    def ring(self, command: Ring) -> Decision:
        if command.how == "refuse":
            raise Rejected("no", "not today")
        if command.how == "raise":
            raise KeyError(command.number)
        yield Rang(command.key, command.number, command.how == "break")
        if command.how == "again":
            again = Ring(command.key, command.number + 1_000, "ok", command.name)
            yield Schedule(again, after=timedelta(seconds=2), name=command.name)

    @handles
    def look(self, command: Look) -> Decision:
        yield Looked(command.number)

    @applies
    def when_rang(self, event: Rang) -> None:
        if event.breaks:
            raise ValueError("it breaks")
        self.rang.append(event.number)

    @applies
    def when_looked(self, event: Looked) -> None:
        self.looked = event.number


belfry = App(models=[Belfry])


class Waiting(NamedTuple):
    due: int
    order: int
    number: int
    how: str


class Plain:
    """The rules once more: a dict of those that wait, one of those that are parked, and what rang."""

    def __init__(self) -> None:
        self.now = 0
        self.count = 0
        self.waiting: dict[tuple[str, str], Waiting] = {}
        self.parked: dict[tuple[str, str], int] = {}
        self.rang: list[int] = []

    def set(self, key: str, name: str, seconds: int, how: str, number: int) -> None:
        self.count += 1
        self.parked.pop((key, name), None)
        self.waiting[key, name] = Waiting(self.now + seconds, self.count, number, how)

    def cancel(self, key: str, name: str) -> None:
        self.waiting.pop((key, name), None)
        self.parked.pop((key, name), None)

    def ring(self) -> None:
        """All that are due, the earliest first; what is set anew meanwhile waits for its own time."""
        while due := sorted((each, name) for name, each in self.waiting.items() if each.due <= self.now):
            ((_, _, number, how), (key, name)) = due[0]
            del self.waiting[key, name]
            if how in ("raise", "break"):
                self.parked[key, name] = number
            elif how != "refuse":
                self.rang.append(number)
            if how == "again":
                self.set(key, name, 2, "ok", number + 1_000)


SETS = st.tuples(
    st.just("set"), st.sampled_from(KEYS), st.sampled_from(NAMES), st.integers(0, 4),
    st.sampled_from(["ok", "ok", "refuse", "raise", "break", "again"]),
)  # fmt: skip
CANCELS = st.tuples(st.just("cancel"), st.sampled_from(KEYS), st.sampled_from(NAMES))
PASSES = st.tuples(st.just("pass"), st.integers(1, 3))
RESTARTS = st.just(("restart",))


@pytest.mark.parametrize("batch_commands_max", [2, 500])
@settings(max_examples=120)
@given(
    st.lists(SETS | SETS | CANCELS | PASSES | PASSES | RESTARTS, max_size=25),
    st.lists(st.sampled_from(["ok", "ok", "ok", "ok", "lost", "written"]), max_size=20),
)
def test_whatever_is_set_and_called_off_rings_as_a_plain_model_says_and_a_replay_says_the_same(
    batch_commands_max: int, steps: list[tuple[object, ...]], appends: list[Step]
) -> None:
    plain, log, limits = Plain(), ScriptedLog(), Limits(batch_commands_max=batch_commands_max)
    log.steps.extend(appends)

    def clock() -> datetime:
        return START + timedelta(seconds=plain.now)

    async def scenario() -> None:
        left = iter([*steps, ("pass", 10), ("restart",)])
        number, is_over = 0, False
        while not is_over:
            async with Engine(belfry, log=log, limits=limits, clock=clock) as engine:
                await look(engine, number := number + 1)
                plain.ring()
                for step in left:
                    if step[0] == "restart":
                        break
                    number += 1
                    await taken(engine, plain, step, number)
                    require_same(engine, plain)
                else:
                    is_over = True
                live = agenda_of(engine)
        async with Engine(belfry, log=MemoryLog(MemoryStore(log.commits)), clock=clock, snapshots=False) as engine:
            assert (write_state(engine).models[0].rang, agenda_of(engine)) == (plain.rang, live)

    anyio.run(scenario)


async def taken(engine: Engine, plain: Plain, step: tuple[object, ...], number: int) -> None:
    match step:
        case ("set", str(key), str(name), int(seconds), str(how)):
            await sent(engine, Set(key, name, seconds, how, number), number)
            plain.set(key, name, seconds, how, number)
        case ("cancel", str(key), str(name)):
            await sent(engine, Cancel(key, name), number)
            plain.cancel(key, name)
        case ("pass", int(seconds)):
            plain.now += seconds
    await look(engine, number)
    plain.ring()


def require_same(engine: Engine, plain: Plain) -> None:
    entries = [entry for entry in engine.agenda.entries() if isinstance(entry, Timer)]
    found = {(entry.scope, entry.title): entry for entry in entries}
    assert {name for name, entry in found.items() if not entry.is_parked} == set(plain.waiting)
    assert {name for name, entry in found.items() if entry.is_parked} == set(plain.parked)
    assert write_state(engine).models[0].rang == plain.rang


async def look(engine: Engine, number: int) -> None:
    """All that is due now was sent, and is durable: whoever looks comes after it, and what was set in a commit waits
    for the next.
    """
    for turn in range(3):
        await sent(engine, Look(number), f"look-{number}-{turn}")


async def sent(engine: Engine, command: Command, command_id: object) -> None:
    """A command is sent again until it is known what became of it."""
    while True:
        try:
            await engine.execute(command, command_id=f"{command_id}")
        except (CommitFailed, OutcomeUnknown, WriterUnavailable):
            continue
        return
