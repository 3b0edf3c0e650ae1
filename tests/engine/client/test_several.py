"""A client of several servers, of which one writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import anyio
import pytest

from millstream.engine import DefinitionError, Engine, MemoryLog, NotLeader, Receipt
from millstream.engine.client import Client, ClientLimits
from millstream.engine.errors import ConnectionLost
from millstream.engine.server import Server
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.wire.address import Address, addresses_of, parse_address
from tests.shop import Add, StockOf, shop
from tests.support import until

pytestmark = pytest.mark.anyio


class Site:
    """Engines on one log in memory, each behind a socket of its own: one writes, the others stand by."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = MemoryStore()
        self._stacks: dict[str, AsyncExitStack] = {}
        self.engines: dict[str, Engine] = {}

    def address(self, name: str) -> str:
        return f"unix://{self._folder}/{name}"

    async def begin(self, name: str, *, says_where: bool = True) -> Engine:
        address = self.address(name)
        stack = AsyncExitStack()
        engine = Engine(shop, log=MemoryLog(self._store), standby=True, address=address if says_where else None)
        self.engines[name] = await stack.enter_async_context(engine)
        await stack.enter_async_context(Server(engine, listen=[address]))
        self._stacks[name] = stack
        return engine

    async def end(self, name: str) -> None:
        del self.engines[name]
        await self._stacks.pop(name).aclose()

    async def is_written_by(self, name: str) -> None:
        with anyio.fail_after(20):
            await until(lambda: not self.engines[name].not_ready)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    made = Site(folder)
    try:
        yield made
    finally:
        for name in list(made.engines):
            await made.end(name)


async def test_commands_get_to_the_one_that_writes_and_to_the_next_one_after_it(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        for name in ("a", "b", "c"):
            await there.begin(name)
        async with Client([there.address(name) for name in ("c", "b", "a")]) as client:
            assert (await client.execute(Add("x", 1), command_id="1")).position == 1
            await there.end("a")
            receipt = await client.execute(Add("x", 2), command_id="2")
            assert receipt.position == 2
            assert await client.ask(StockOf("x"), after=receipt) == 3
            outcomes = await client.execute_many([Add("x", 1)] * 5, command_ids=map(str, range(3, 8)))
            assert [each.position for each in outcomes if isinstance(each, Receipt)] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("says_where", [True, False])
async def test_many_commands_at_once_find_the_writer_in_order(tmp_path: Path, says_where: bool) -> None:
    async with site(tmp_path) as there:
        await there.begin("a", says_where=says_where)
        await there.begin("b", says_where=says_where)
        async with Client([there.address("b"), there.address("a")]) as client:
            outcomes = await client.execute_many([Add("x", 1)] * 1_000)
            assert [each.position for each in outcomes if isinstance(each, Receipt)] == list(range(1, 1_001))


async def test_a_client_of_one_server_is_told_who_writes_and_goes_there_if_it_knows_the_address(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        await there.begin("a")
        await there.begin("b")
        await until(lambda: "stands by for the writer at" in there.engines["b"].not_ready[0])
        async with Client(there.address("b")) as client:
            with pytest.raises(NotLeader) as refused:  # another path of this machine is not what it was given
                await client.execute(Add("x", 1))
            assert refused.value.address == there.address("a")
            assert await client.ask(StockOf("x")) == 0


async def test_where_no_server_writes_a_command_waits_until_one_does_and_not_for_ever(tmp_path: Path) -> None:
    limits = ClientLimits(reconnect_seconds_max=0.3, retry_seconds_max=0.05)
    async with site(tmp_path) as there:
        await there.begin("a")
        await there.begin("b")
        held = there.engines["a"]
        async with Client([there.address("b")] * 2, limits=limits) as client:
            with pytest.raises(ConnectionLost, match="takes no commands") as lost:
                await client.execute(Add("x", 1))
            assert not lost.value.sent
        assert held.position == 0


class Mute:
    """A server that takes connections and says nothing, as one does that is stopped."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._on_client, parse_address(self.address).path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.read(4_096):
                pass
        finally:
            writer.close()


@pytest.mark.parametrize("says_where", [True, False])
async def test_a_writer_that_says_nothing_is_not_gone_back_to_at_the_word_of_those_who_stand_by(
    tmp_path: Path, says_where: bool
) -> None:
    limits = ClientLimits(quiet_seconds_max=0.3, retry_seconds_max=0.05)
    async with site(tmp_path) as there, Mute(there.address("a")) as mute:
        store = MemoryLog(there._store)
        await store.open("shop", mute.address if says_where else None)
        await there.begin("b", says_where=says_where)
        async with (
            Client([mute.address, there.address("b")], limits=limits) as client,
            anyio.create_task_group() as group,
        ):
            receipts: list[Receipt] = []

            async def execute() -> None:
                receipts.append(await client.execute(Add("x", 1), command_id="1"))

            group.start_soon(execute)
            await until(lambda: client.link._reach._silent is not None)
            await store.close()  # its lease has run out
            await there.is_written_by("b")
            with anyio.fail_after(0.3):  # less than it takes to leave a server that says nothing
                await until(lambda: receipts)
        assert mute.connections == 1


async def test_a_server_that_said_nothing_is_tried_again_after_a_while(tmp_path: Path) -> None:
    limits = ClientLimits(quiet_seconds_max=0.1, retry_seconds_max=0.05)
    async with site(tmp_path) as there:
        await there.begin("b")  # writes, and nobody reaches it
        await there.begin("c")
        store = there._store
        async with Mute(there.address("a")) as mute:
            store.leader = mute.address  # as c says
            addresses = [mute.address, there.address("c")]
            async with Client(addresses, limits=limits) as client, anyio.create_task_group() as group:
                group.start_soon(_refused, client)
                await until(lambda: mute.connections == 2)
                assert client.link.name == ", ".join(addresses), "it has gone to no address that it was not given"
                group.cancel_scope.cancel()


async def _refused(client: Client) -> None:
    await client.execute(Add("x", 1), command_id="1")


def test_with_several_addresses_a_client_notices_soon_that_one_says_nothing() -> None:
    assert Client("tcp://a:1").link.limits.quiet_seconds_max == 30
    assert Client("tcp://a:1,tcp://b:1").link.limits.quiet_seconds_max == 1
    assert Client("tcp://a:1,tcp://b:1", limits=ClientLimits()).link.limits.quiet_seconds_max == 30


def test_addresses_are_given_one_by_one_or_in_one_text() -> None:
    both = (Address("tcp", "a", 1), Address("unix", path="/x,y"))
    assert addresses_of("tcp://a:1,unix:///x,y") == both
    assert addresses_of(["tcp://a:1", both[1]]) == both
    assert addresses_of(both[0]) == both[:1]
    with pytest.raises(DefinitionError, match="there is no address"):
        addresses_of([])
