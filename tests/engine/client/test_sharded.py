"""Several logs of one application, apart by key, and clients that go to the right one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from millstream.engine import App, DefinitionError, Engine, InvalidMessage, MemoryLog, Receipt, WrongShard
from millstream.engine.client import (
    Client,
    ShardAnswered,
    ShardedClient,
    ShardReceipt,
    SyncShardedClient,
    shard_of,
)
from millstream.engine.errors import DeadlineExceeded, EngineClosed
from millstream.engine.server import Server
from millstream.engine.stores.memory import MemoryStore
from tests.shop import Add, Everything, Note, Notes, StockOf, shop

pytestmark = pytest.mark.anyio

KEYS = [f"k{number}" for number in range(20)]


@asynccontextmanager
async def serving(apps: Sequence[App], folder: Path | None = None) -> AsyncIterator[list[str]]:
    """A server for each of some logs; their addresses."""
    async with AsyncExitStack() as stack:
        addresses = []
        for number, app in enumerate(apps):
            listen = "tcp://127.0.0.1:0" if folder is None else f"unix://{folder}/{number}"
            engine = await stack.enter_async_context(Engine(app, log="memory:"))
            server = await stack.enter_async_context(Server(engine, listen=[listen]))
            addresses.append(str(server.addresses[0]))
        yield addresses


def shards(count: int) -> list[App]:
    return [shop.sharded(place, count) for place in range(1, count + 1)]


async def test_each_key_has_its_log_and_all_are_asked_together() -> None:
    async with serving(shards(3)) as addresses, ShardedClient(addresses) as client:
        receipts = {key: await client.execute(Add(key, 1), command_id=key) for key in KEYS}
        for key, receipt in receipts.items():
            assert receipt.shard == shard_of(key, 3) == client.place_of(Add(key, 1))
            assert await client.ask(StockOf(key), after=receipt) == 1
            assert (await client.execute(Add(key, 1), command_id=key)).repeated
        each = await client.answer_each(Everything(), after={receipt.shard: receipt for receipt in receipts.values()})
        assert [answered.shard for answered in each] == [1, 2, 3]
        assert sorted(key for answered in each for key in answered.answer) == sorted(KEYS)
        assert sum(answered.position for answered in each) == len(KEYS)
        assert await client.clients[receipts["k0"].shard - 1].ask(StockOf("k0")) == 1


async def test_many_commands_are_answered_in_the_order_in_which_they_were_given() -> None:
    async with serving(shards(3)) as addresses, ShardedClient(addresses) as client:
        commands = [Add(KEYS[number % 20], number + 1) for number in range(200)]
        outcomes = await client.execute_many(commands, command_ids=map(str, range(200)))
        assert [each.command_id for each in outcomes if isinstance(each, ShardReceipt)] == list(map(str, range(200)))
        assert [each.version for each in outcomes if isinstance(each, ShardReceipt)] == [
            1 + n // 20 for n in range(200)
        ]
        assert await client.execute_many([]) == []
        with pytest.raises(InvalidMessage):
            await client.execute_many(commands, command_ids=["one"])
        wrong: Any = [1] * 200
        assert {type(each) for each in await client.execute_many(commands, command_ids=wrong)} == {InvalidMessage}
        outcomes = await client.execute_many([Note("whose?"), Add("a", 1)])
        assert [type(each) for each in outcomes] == [InvalidMessage, ShardReceipt]
        token = outcomes[1]
        assert isinstance(token, ShardReceipt)
        with pytest.raises(InvalidMessage, match="there is no shard 9"):
            await client.answer_each(Everything(), after={9: token})


async def test_what_has_no_key_says_whose_log_it_is_for() -> None:
    async with serving(shards(2)) as addresses, ShardedClient(addresses) as client:
        with pytest.raises(InvalidMessage, match="Note is not valid: it has no Key field: say whose log it is for"):
            await client.execute(Note("hello"))
        with pytest.raises(InvalidMessage, match="it has a Key field, so no other key can be given"):
            await client.execute(Add("a", 1), key="b")
        receipt = await client.execute(Note("hello"), key="a")
        assert receipt.shard == shard_of("a", 2)
        assert await client.ask(Notes(), key="a", after=receipt) == ("hello",)
        other = next(key for key in KEYS if shard_of(key, 2) != receipt.shard)
        assert await client.ask(Notes(), key=other) == ()


async def test_a_token_of_one_log_is_none_of_another() -> None:
    async with serving(shards(2)) as addresses, ShardedClient(addresses) as client:
        here = next(key for key in KEYS if shard_of(key, 2) == 1)
        there = next(key for key in KEYS if shard_of(key, 2) == 2)
        receipt = await client.execute(Add(here, 1))
        with pytest.raises(WrongShard, match="a token of shard 1 is at the wrong shard: the question goes to shard 2"):
            await client.ask(StockOf(there), after=receipt)
        with pytest.raises(WrongShard):
            await client.answer_each(Everything(), after={2: receipt})
        answered = await client.answer(StockOf(here), after=receipt)
        assert answered == ShardAnswered(1, 1, 1)
        assert await client.ask(StockOf(here), after=answered) == 1
        plain: Any = Receipt(1, 1, 1)
        with pytest.raises(InvalidMessage, match="does not say which log it is of"):
            await client.ask(StockOf(here), after=plain)


@pytest.mark.parametrize(
    ("apps", "problem"),
    [
        (shards(2)[::-1], "it serves 'shop-2-of-2', and its address is number 1 of 2 in the list"),
        (shards(3)[:2], "it serves 'shop-1-of-3', and its address is number 1 of 2 in the list"),
        ([shop], "it serves 'shop', and its address is number 1 of 1 in the list"),
        (
            [shop.sharded(1, 2), App(models=shop.models, views=shop.views, name="other").sharded(2, 2)],
            "it serves 'other', and others in the list serve 'shop'",
        ),
    ],
)
async def test_a_list_that_is_not_that_of_the_servers_is_refused(apps: Sequence[App], problem: str) -> None:
    async with serving(apps) as addresses:
        with pytest.raises(WrongShard, match=problem):
            await ShardedClient(addresses).__aenter__()
        async with ShardedClient(addresses, eager=False) as client:
            with pytest.raises(WrongShard, match=problem):
                await client.answer_each(Everything())


async def test_servers_that_change_places_later_are_found_out(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        addresses = await first.enter_async_context(serving(shards(2), tmp_path))
        client = await stack.enter_async_context(ShardedClient(addresses))
        await client.execute(Add("a", 1))
        await first.aclose()
        await stack.enter_async_context(serving(shards(2)[::-1], tmp_path))
        with pytest.raises(WrongShard):
            await client.ask(StockOf("a"))
        with pytest.raises(WrongShard):
            await client.answer_each(Everything())
        with pytest.raises(WrongShard):
            await client.execute(Note("lost?"), key="a")
        (outcome,) = await client.execute_many([Add("a", 1)])
        assert isinstance(outcome, WrongShard)


async def test_where_one_is_away_the_others_are_answered_and_a_timeout_holds(tmp_path: Path) -> None:
    async with serving(shards(2)[:1], tmp_path) as addresses:
        away = f"unix://{tmp_path}/away.sock"
        async with ShardedClient([*addresses, away], eager=False) as client:
            here, there = (next(key for key in "abcdefgh" if shard_of(key, 2) == place) for place in (1, 2))
            one, other = await client.execute_many([Add(here, 1), Add(there, 1)], timeout=0.2)
            assert isinstance(one, ShardReceipt)
            assert isinstance(other, DeadlineExceeded)
            assert await client.ask(StockOf(here), after=one) == 1
            with pytest.raises(DeadlineExceeded):
                await client.ask(StockOf(there), timeout=0.1)


async def test_a_server_that_was_the_wrong_one_is_forgotten_when_the_right_one_is_there(tmp_path: Path) -> None:
    other = App(models=shop.models, views=shop.views, name="other")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        addresses = await first.enter_async_context(serving([other.sharded(1, 2), shop.sharded(2, 2)], tmp_path))
        client = await stack.enter_async_context(ShardedClient(addresses, eager=False))
        with pytest.raises(WrongShard, match="others in the list serve"):
            await client.answer_each(Everything())
        await first.aclose()
        await stack.enter_async_context(serving(shards(2), tmp_path))
        for _ in range(2):
            with suppress(WrongShard):  # the one that was right is held to the other until that is connected again
                await client.answer_each(Everything())
        assert [each.answer for each in await client.answer_each(Everything())] == [{}, {}]


async def test_a_client_of_another_kind_is_refused_by_the_log_itself() -> None:
    async with serving(shards(2)) as addresses, Client(addresses[0]) as client:
        key = next(key for key in KEYS if shard_of(key, 2) == 2)
        with pytest.raises(WrongShard) as refused:
            await client.execute(Add(key, 1))
        assert refused.value.what == f"key {key!r}"


async def test_each_log_may_have_a_standby(tmp_path: Path) -> None:
    stores = [MemoryStore(), MemoryStore()]
    async with AsyncExitStack() as stack:
        writers, lists = [], []
        for app, store in zip(shards(2), stores, strict=True):
            names = [f"unix://{tmp_path}/{app.name}-{name}" for name in "ab"]
            writer = await stack.enter_async_context(AsyncExitStack())
            for name, into in zip(names, (writer, stack), strict=True):
                engine = await into.enter_async_context(Engine(app, log=MemoryLog(store), standby=True, address=name))
                await into.enter_async_context(Server(engine, listen=[name]))
            writers.append(writer)
            lists.append(names)
        async with ShardedClient(lists, name_commands=True) as client:
            await client.execute_many([Add(key, 1) for key in KEYS])
            await writers[0].aclose()
            with anyio.fail_after(20):
                outcomes = await client.execute_many([Add(key, 1) for key in KEYS])
            assert [type(each) for each in outcomes] == [ShardReceipt] * len(KEYS)
            each = await client.answer_each(Everything())
            assert {key: count for told in each for key, count in told.answer.items()} == dict.fromkeys(KEYS, 2)


def test_a_list_is_wanted() -> None:
    wrong: list[Any] = ["tcp://a:1,tcp://b:1", {1: "tcp://a:1"}, {"tcp://a:1", "tcp://b:1"}, None, 1]
    for given in wrong:
        with pytest.raises(DefinitionError, match="a list of addresses is wanted, one for each log, in the order"):
            ShardedClient(given)
    for given in (None, [None], [["tcp://a:1", 2]]):
        with pytest.raises(DefinitionError, match="an address is a text or an Address, not"):
            ShardedClient([given])  # type: ignore[list-item]
    with pytest.raises(DefinitionError, match="there is no address"):
        ShardedClient([])


@contextmanager
def served(count: int) -> Iterator[list[str]]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(shards(count))) as addresses:
        yield addresses


def test_a_script_does_the_same_without_await() -> None:
    with served(2) as addresses:
        client = SyncShardedClient(addresses)
        with pytest.raises(EngineClosed, match="not open yet"):
            client.ask(StockOf("a"))
        with client:
            receipts = [client.execute(Add(key, 2)) for key in KEYS]
            assert {each.shard for each in receipts} == {1, 2}
            assert client.place_of(StockOf("k0")) == receipts[0].shard
            assert client.ask(StockOf("k0"), after=receipts[0]) == 2
            assert client.answer(StockOf("k0"), after=receipts[0]).shard == receipts[0].shard
            assert sum(len(each.answer) for each in client.answer_each(Everything())) == len(KEYS)
            outcomes = client.execute_many([Add(key, 1) for key in KEYS])
            assert [type(each) for each in outcomes] == [ShardReceipt] * len(KEYS)
        with pytest.raises(EngineClosed, match="closed"):
            client.ask(StockOf("a"))
