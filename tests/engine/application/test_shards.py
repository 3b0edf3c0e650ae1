"""Where a key belongs, of several logs."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.engine import App, DefinitionError, Engine, LogRefused, MemoryLog, WrongShard
from millstream.engine.application.shards import Shard, shard_of
from millstream.engine.stores.memory import MemoryStore
from tests.handlers.test_answers import Hold, theatre
from tests.selling import Order, selling
from tests.shop import Add, Everything, Move, Note, shop


def test_a_key_has_the_same_place_for_ever() -> None:
    """Written out: with another rule, data that exists would be looked for where it is not."""
    keys = ["", "a", "b", "order-1", "Zoë", "\ud800"]
    assert [shard_of(key, 4) for key in keys] == [1, 4, 2, 2, 3, 1]
    assert [shard_of(key, 3) for key in keys] == [1, 3, 3, 3, 2, 3]
    assert {shard_of(key, 1) for key in keys} == {1}


def test_keys_are_spread_evenly() -> None:
    counts = [0] * 8
    for number in range(8_000):
        counts[shard_of(f"order-{number}", 8) - 1] += 1
    assert min(counts) > 900
    assert max(counts) < 1_100


def test_a_place_is_read_and_written() -> None:
    assert Shard.read("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2 of 4"
    assert Shard(2, 4).owner("shop") == "shop-2-of-4"
    assert Shard.named("shop-2-of-4") == ("shop", Shard(2, 4))
    assert Shard.named("shop") == ("shop", None)
    assert Shard.named("shop-5-of-2") == ("shop-5-of-2", None)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/1025", "1", "1/", "a/b", "-1/4", "1/4/2", ""])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="shard"):
        Shard.read(text)


def test_a_shard_is_not_sharded_again() -> None:
    with pytest.raises(DefinitionError, match="application 'shop-1-of-2' is shard 1 of 2 already"):
        shop.sharded(1, 2).sharded(1, 2)
    assert (shop.name, shop.shard) == ("shop", None)


def key_at(place: int, of: int = 2) -> str:
    return next(key for key in map(str, range(100)) if shard_of(key, of) == place)


@pytest.mark.anyio
async def test_a_log_is_held_to_its_place() -> None:
    store = MemoryStore()
    async with Engine(shop.sharded(1, 2), log=MemoryLog(store)) as engine:
        await engine.execute(Add(key_at(1), 1))
    for other in (shop, shop.sharded(2, 2), shop.sharded(1, 3)):
        with pytest.raises(LogRefused, match="it belongs to application 'shop-1-of-2', not to"):
            await Engine(other, log=MemoryLog(store)).__aenter__()
    async with Engine(shop.sharded(1, 2), log=MemoryLog(store)) as engine:
        assert await engine.ask(Everything()) == {key_at(1): 1}


@pytest.mark.anyio
async def test_a_command_of_a_key_that_belongs_elsewhere_is_refused_and_one_without_a_key_is_not() -> None:
    async with Engine(shop.sharded(1, 2), log="memory:") as engine:
        key = key_at(2)
        with pytest.raises(WrongShard) as refused:
            await engine.execute(Add(key, 1))
        assert str(refused.value) == (
            f"key {key!r} is at the wrong shard: it belongs to shard 2 of 2, and this is shard 1 of 2"
        )
        outcomes = await engine.execute_many([Add(key, 1), Add(key_at(1), 1)], command_ids=["1", "2"])
        assert [type(each).__name__ for each in outcomes] == ["WrongShard", "Receipt"]
        assert (await engine.execute(Note("anywhere"))).position == 2
        assert await engine.ask(Everything(), after=2) == {key_at(1): 1}


@pytest.mark.anyio
async def test_a_reaction_to_a_key_that_belongs_elsewhere_is_parked_and_not_written_where_nobody_looks() -> None:
    app: App = selling.sharded(1, 2)
    async with Engine(app, log="memory:") as engine:
        assert (await engine.execute(Order(key_at(1), key_at(1), 1))).parked == 0
        assert (await engine.execute(Order(key_at(1), key_at(2), 1))).parked == 1
        (entry,) = engine.agenda.entries()
        assert "belongs to shard 2 of 2" in str(entry)


@pytest.mark.anyio
async def test_an_event_of_a_key_that_belongs_elsewhere_is_refused_with_its_command() -> None:
    async with Engine(shop.sharded(1, 2), log="memory:", check_purity=True) as engine:
        await engine.execute(Add(key_at(1), 3))
        with pytest.raises(WrongShard, match="belongs to shard 2 of 2"):
            await engine.execute(Move(key_at(1), key_at(2)))
        assert await engine.ask(Everything(), after=1) == {key_at(1): 3}
        other = next(key for key in map(str, range(200)) if shard_of(key, 2) == 1 and key != key_at(1))
        assert (await engine.execute(Move(key_at(1), other))).events == 2
        assert engine.position == 3


@pytest.mark.anyio
async def test_a_handler_that_promises_an_answer_gives_it_in_a_shard_too() -> None:
    async with Engine(theatre.sharded(1, 1), log="memory:") as engine:
        plain = Engine(theatre, log="memory:")
        async with plain:
            assert (await engine.execute(Hold("hamlet", 2))).answer == (await plain.execute(Hold("hamlet", 2))).answer


@pytest.mark.parametrize(("place", "of"), [(1.0, 2), (True, 2), ("1", 2), (1, 2.0)])
def test_a_place_is_a_whole_number(place: Any, of: Any) -> None:
    with pytest.raises(DefinitionError, match="a place is a whole number"):
        shop.sharded(place, of)
