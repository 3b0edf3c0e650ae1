"""A command that expects a version happens at that version of its key, or not at all."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from millstream.engine import Engine, InvalidMessage, Limits, MemoryLog, Receipt, Rejected, VersionConflict
from tests.shop import Add, Move, Note, Nothing, Take, shop
from tests.support import ScriptedLog, settled, start, write_state

pytestmark = pytest.mark.anyio

ONE = Limits(batch_commands_max=1)
ADD = Add("a", 3)


def versions(engine: Engine) -> dict[str, int]:
    state = write_state(engine)
    assert state is not None
    return state.index.versions


async def test_a_command_happens_at_the_version_that_it_expects_or_not_at_all() -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        assert await engine.execute(Add("a", 1), expected_version=0) == Receipt(1, 1, 1, version=1)
        assert await engine.execute(Add("a", 1), expected_version=1) == Receipt(2, 2, 1, version=2)
        for expected in (0, 1, 3):
            with pytest.raises(VersionConflict) as raised:
                await engine.execute(Add("a", 1), expected_version=expected)
            assert (raised.value.key, raised.value.expected, raised.value.actual) == ("a", expected, 2)
        with pytest.raises(VersionConflict, match="key 'new' is at version 0, not at 1"):
            await engine.execute(Add("new", 1), expected_version=1)
        assert await engine.execute(Add("new", 1), expected_version=0) == Receipt(3, 3, 1, version=1)
        assert engine.stats().writer.commands_refused == 4
    assert len(log.store.commits) == 3


async def test_a_key_counts_the_events_of_all_models_whoever_yielded_them() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(Add("a", 5))
        assert (await engine.execute(Move("a", "b"), expected_version=1)).version == 2
        assert versions(engine) == {"a": 2, "b": 1}
        assert (await engine.execute(Move("b", "b"), expected_version=1)).version == 3
        assert (await engine.execute(Nothing("b"), expected_version=3)).version == 3
        assert (await engine.execute(Note("no key"))).version is None
        with pytest.raises(Rejected):
            await engine.execute(Take("b", 99), expected_version=3)
        assert versions(engine) == {"a": 2, "b": 3}


async def test_a_conflict_is_heard_before_the_rules_are_asked() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        with pytest.raises(VersionConflict):
            await engine.execute(Take("a", 1), expected_version=1)


async def test_a_repeated_command_is_not_asked_for_its_version() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        first = await engine.execute(ADD, command_id="id-1", expected_version=0)
        await engine.execute(ADD)
        for expected in (0, 7, None):
            again = await engine.execute(ADD, command_id="id-1", expected_version=expected)
            assert (again.position, again.version, again.repeated) == (first.position, 1, True)


@pytest.mark.parametrize("expected", [-1, True, False, 1.0, "1", [1]])
async def test_what_is_no_version_is_refused(expected: Any) -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        with pytest.raises(InvalidMessage, match="expected_version is not valid: a whole number from 0 on, not "):
            await engine.execute(ADD, expected_version=expected)
    assert log.store.commits == []


async def test_a_command_without_a_key_has_no_version_to_expect() -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        with pytest.raises(InvalidMessage, match="expected_version is not valid: Note has no Key field"):
            await engine.execute(Note("hi"), expected_version=0)
    assert log.store.commits == []


@pytest.mark.parametrize("limits", [ONE, Limits()])
async def test_of_those_who_race_for_a_version_exactly_one_wins(limits: Limits) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=limits) as engine:
        await engine.execute(Add("a", 1))
        async with anyio.create_task_group() as group:
            log.hold()
            racing = [start(group, engine.execute(Add("a", 1), expected_version=1)) for _ in range(10)]
            await settled()
            log.release()
        assert [outcome.kind for outcome in racing] == ["Receipt"] + ["VersionConflict"] * 9
        assert racing[0].value == Receipt(2, 2, 1, version=2)
    assert len(log.commits) == 2


async def test_a_conflict_with_what_is_not_written_in_the_end_is_none() -> None:
    log = ScriptedLog()
    log.steps.append("refused")
    async with Engine(shop, log=log, limits=ONE) as engine:
        async with anyio.create_task_group() as group:
            log.hold()
            racing = [start(group, engine.execute(Add("a", 1), expected_version=0)) for _ in range(2)]
            await settled()
            log.release()
        assert [outcome.kind for outcome in racing] == ["CommitFailed", "CommitFailed"]
        assert (await engine.execute(Add("a", 1), expected_version=0)).version == 1
