"""A refusal tells a state, so it says at which position that was, and is a token for reads as a receipt is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from millstream.engine import (
    App,
    Command,
    CommandIdReused,
    CommitFailed,
    Engine,
    Event,
    InvalidMessage,
    Key,
    MemoryLog,
    NotYetVisible,
    Receipt,
    Rejected,
    VersionConflict,
)
from millstream.engine.client import Client
from millstream.engine.server import Server
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import WriteModel, applies, handles
from tests.shop import Add, Break, Nothing, StockOf, Take, shop
from tests.support import ScriptedLog, settled, start, views_held

pytestmark = pytest.mark.anyio


async def refused(running: Engine | Client, command: Command, **options: Any) -> Any:
    """The refusal, which tells a state."""
    with pytest.raises((Rejected, VersionConflict, CommandIdReused)) as raised:
        await running.execute(command, **options)
    return raised.value


# Where it was decided.


async def test_a_rejection_has_the_position_that_it_was_decided_at_and_is_a_token() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        assert (await refused(engine, Take("a", 9))).position == 0
        await engine.execute(Add("a", 2))
        await engine.execute(Add("b", 1))
        rejection = await refused(engine, Take("a", 9))
        assert (rejection.position, rejection.details) == (2, {"left": 2})
        assert await engine.ask(StockOf("a"), after=rejection) == 2
        assert (await engine.answer(StockOf("a"), after=rejection)).position == 2
        async with engine.watch(StockOf("a"), after=rejection) as answers:
            assert (await anext(answers)).answer == 2


async def test_what_else_tells_a_state_has_its_position_too() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(Add("a", 2), command_id="first")
        receipt = await engine.execute(Add("b", 1))
        conflict = await refused(engine, Add("a", 1), expected_version=7)
        reused = await refused(engine, Add("a", 3), command_id="first")
        assert (conflict.position, conflict.actual) == (2, 1)
        assert (reused.position, reused.commit) == (2, 1)
        for token in (conflict, reused, receipt):
            assert await engine.ask(StockOf("a"), after=token) == 2


async def test_each_refusal_of_a_batch_has_the_position_of_what_was_decided_before_it() -> None:
    commands = [Take("a", 1), Add("a", 1), Take("a", 5), Nothing("a"), Add("a", 2), Take("a", 5), Take("a", 1)]
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        outcomes = await engine.execute_many(commands)
    assert [each.position for each in outcomes if isinstance(each, Receipt | Rejected)] == [0, 1, 1, 1, 2, 2, 3]
    assert [isinstance(each, Rejected) for each in outcomes] == [True, False, True, False, False, True, False]
    assert len(log.store.commits) == 1


async def test_a_read_after_a_refusal_waits_until_the_view_is_there() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(Add("a", 1))
        async with views_held(engine):
            await engine.execute(Add("a", 1))
            with pytest.raises(Rejected) as refused:
                await engine.execute(Take("a", 9))
            with pytest.raises(NotYetVisible) as raised:
                await engine.ask(StockOf("a"), after=refused.value, timeout=0.01)
        assert (raised.value.position, raised.value.after) == (1, 2)


# It is durable when the caller hears of it.


async def test_a_refusal_is_heard_when_what_it_was_decided_on_is_durable() -> None:
    async with Engine(shop, log=(log := ScriptedLog())) as engine, anyio.create_task_group() as group:
        log.hold()
        added = start(group, engine.execute(Add("a", 1)))
        await settled()
        outcomes = [
            start(group, engine.execute(Take("a", 2))),
            start(group, engine.execute(Add("a", 1), expected_version=0)),
        ]
        await settled()
        assert [each.kind for each in (added, *outcomes)] == ["waiting"] * 3
        log.release()
        await settled()
        assert [each.kind for each in (added, *outcomes)] == ["Receipt", "Rejected", "VersionConflict"]
        errors: list[Any] = [each.error for each in outcomes]
        assert [error.position for error in errors] == [added.value.position] * 2 == [1, 1]


async def test_a_position_that_never_became_durable_is_told_to_nobody() -> None:
    async with Engine(shop, log=(log := ScriptedLog())) as engine, anyio.create_task_group() as group:
        log.steps.append("refused")
        log.hold()
        added = start(group, engine.execute(Add("a", 1)))
        await settled()
        rejected = start(group, engine.execute(Take("a", 2)))
        await settled()
        log.release()
        await settled()
        assert (type(added.error), type(rejected.error)) == (CommitFailed, CommitFailed)
        assert (await refused(engine, Take("a", 2))).position == 0


async def test_what_is_refused_before_a_damaged_state_has_its_position() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        outcomes = await engine.execute_many([Add("a", 1), Take("a", 2), Break("apply"), Take("a", 3)])
        assert [type(each).__name__ for each in outcomes] == ["Receipt", "Rejected", "ApplyFailed", "Rejected"]
        assert [each.position for each in outcomes if isinstance(each, Rejected)] == [1, 1]


async def test_a_preview_is_refused_without_a_position_as_nothing_of_it_need_be_durable() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(Add("a", 1))
        with pytest.raises(Rejected) as raised:
            engine.preview(Take("a", 2))
        assert raised.value.position is None
        with pytest.raises(InvalidMessage, match="after is not valid: this Rejected has no position") as no_token:
            await engine.ask(StockOf("a"), after=raised.value)
        assert "take one that execute raised" in str(no_token.value)


# Whatever the application raises.


class Ring(Command):
    bell: Key


class Look(Command):
    bell: Key


class Rung(Event):
    bell: Key


class OwnPosition(Rejected):
    """Has a property of that name."""

    @property
    def position(self) -> int:  # type: ignore[override]
        raise KeyError("not here")


class Bare(Rejected):
    def __init__(self) -> None:
        """Leaves out what every rejection has."""


CAUSE = ValueError("why")
ALWAYS = Rejected("always", "the same object each time", {"left": [1]})
ALWAYS.__cause__ = CAUSE
KINDS = {"always": ALWAYS, "own": OwnPosition("own"), "bare": Bare(), "given": Rejected("given", position=4_711)}


class Bells(WriteModel):
    rung: int = 0

    @handles
    def ring(self, command: Ring) -> Iterator[Event]:
        yield Rung(command.bell)

    @handles
    def look(self, command: Look) -> Iterator[Event]:
        raise KINDS[command.bell]

    @applies
    def count(self, event: Rung) -> None:
        self.rung += 1


bells = App(models=[Bells], name="bells")


async def test_one_object_that_is_raised_again_and_again_tells_each_caller_its_own_position() -> None:
    async with Engine(bells, log=MemoryLog()) as engine:
        first = await engine.execute_many([Look("always"), Ring("a"), Look("always"), Ring("a"), Look("always")])
        second = await engine.execute_many([Look("always"), Ring("a"), Look("always")])
    told = [each for each in (*first, *second) if isinstance(each, Rejected)]
    assert [each.position for each in told] == [0, 1, 2, 2, 3]
    assert {(type(each), each.code, each.message, str(each.details)) for each in told} == {
        (Rejected, "always", "the same object each time", "{'left': [1]}")
    }
    assert [each.__cause__ for each in told] == [CAUSE] * 5
    with pytest.raises(Rejected) as raised:
        async with Engine(bells, log=MemoryLog()) as engine:
            engine.preview(Look("always"))
    assert raised.value.position is None


async def test_the_writer_says_where_it_was_decided_whatever_a_handler_says() -> None:
    async with Engine(bells, log=MemoryLog()) as engine:
        await engine.execute(Ring("a"))
        assert [(await refused(engine, Look(kind))).position for kind in ("given", "bare", "given", "bare")] == [1] * 4
        assert type(await refused(engine, Look("own"))) is OwnPosition
        assert (await engine.execute(Ring("a"))).position == 2


# Elsewhere.


@pytest.mark.parametrize(
    "error",
    [Rejected("no", "why", {"left": 3}), VersionConflict("a", 1, 2), CommandIdReused("i", "Add", 1)],
    ids=lambda error: type(error).__name__,
)
def test_the_position_is_still_there_after_pickling_and_copying(error: Any) -> None:
    error.position = 9
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), again.position, str(again), vars(again)) == (type(error), 9, str(error), vars(error))


async def test_a_refusal_over_the_wire_is_a_token_there_and_at_the_engine() -> None:
    store = MemoryStore()
    async with (
        Engine(shop, log=MemoryLog(store)) as engine,
        Server(engine, listen=["tcp://127.0.0.1:0"]) as server,
        Client(str(server.addresses[0])) as client,
    ):
        await client.execute(Add("a", 2), command_id="first")
        tokens = [
            await refused(client, Take("a", 9)),
            await refused(client, Add("a", 1), expected_version=7),
            await refused(client, Add("a", 3), command_id="first"),
        ]
        assert [each.position for each in tokens] == [1, 1, 1]
        for token in tokens:
            assert await client.ask(StockOf("a"), after=token) == 2
            assert await engine.ask(StockOf("a"), after=token) == 2
            async with client.watch(StockOf("a"), after=token) as answers:
                assert (await anext(answers)).position == 1
        (rejection,) = await client.execute_many([Take("a", 9)])
        assert isinstance(rejection, Rejected)
        assert rejection.position == 1
        with pytest.raises(InvalidMessage, match="this Rejected has no position"):
            await client.ask(StockOf("a"), after=Rejected("made here"))
