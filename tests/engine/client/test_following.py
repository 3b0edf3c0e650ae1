"""Following an application that runs elsewhere: typed, as it is understood today there, over what happens to a server."""

from __future__ import annotations

import asyncio

import anyio
import msgspec
import pytest

from millstream.engine import App, Engine, Event, InvalidMessage, Key, Metadata, UnknownMessage
from millstream.engine.client import Client, ClientLimits
from millstream.engine.errors import LimitReached, RemoteError
from millstream.engine.server import Server, ServerLimits
from tests.engine.client.peer import until
from tests.engine.client.test_agenda import serving
from tests.engine.read.test_follow import (
    NewDesk,
    Note,
    Noted,
    OldDesk,
    Opened,
    Rename,
    Renamed,
    Sell,
    Sold,
    desk,
    take,
)
from tests.engine.server.caller import calling
from tests.stores import MemoryPlace, SqlitePlace

pytestmark = pytest.mark.anyio

QUICK = ClientLimits(retry_seconds_min=0.001, retry_seconds_max=0.01)


async def test_a_client_is_told_the_same_as_somebody_in_the_engines_process() -> None:
    engine = Engine(desk, log="memory:")
    async with serving(engine) as address, Client(address) as client:
        told = Metadata("ann", "c-1", None, None, {"till": "3"})
        await client.execute_many([Sell("a", 1), Note("x"), Sell("b", 2, times=3)], metadata=told)
        for keys, count in ((None, 4), (["b"], 3), (["nobody", "a"], 1)):
            here = engine.follow(types=[Sold], keys=keys)
            there = client.follow(types=[Sold], keys=keys)
            assert await take(there, count) == await take(here, count)
        first = (await take(client.follow(types=[Noted, Sold], after=1), 1))[0]
        assert (first.event, first.about.extra) == (Noted("x"), {"till": "3"})


async def test_what_a_retired_event_means_comes_whole_however_much_there_is() -> None:
    place = MemoryPlace()
    async with Engine(App(models=[OldDesk], name="desk"), log=place.log()) as engine:
        await engine.execute_many([Rename("a"), *[Rename(f"k{number}") for number in range(999)]])
    today = App(models=[NewDesk], retired=[Renamed], name="desk")
    engine = Engine(today, log=place.log())
    async with engine, Server(engine, listen=["tcp://127.0.0.1:0"]) as server, calling(server) as caller:
        async with Client(str(server.addresses[0])) as client:
            found = await take(client.follow(types=[Opened, Sold]), 2_000)
            assert [each.about.position for each in found] == [1 + number // 2 for number in range(2_000)]
            assert [type(each.event) for each in found] == [Opened, Sold] * 1_000
        await caller.call("follow", {"today": True, "types": ["Sold", "Opened"]})
        told = 0
        while told < 1_000:
            params = (await caller.reply())["params"]
            positions = [each["about"]["position"] for each in params["events"]]
            assert (positions[0], positions[-1], len(positions) % 2) == (told + 1, params["position"], 0)
            told = params["position"]


async def test_it_goes_on_where_it_was_when_the_server_was_away(tmp_path: object) -> None:
    place = SqlitePlace(tmp_path)  # type: ignore[arg-type]
    async with serving(Engine(desk, log=place.log())) as address:
        client = Client(address, limits=QUICK)
        await client.__aenter__()
        following = client.follow(types=[Sold])
        await client.execute_many([Sell("a", 1), Sell("a", 2)])
        assert [each.event.count for each in await take(following, 1)] == [1]
    engine = Engine(desk, log=place.log())
    async with engine, Server(engine, listen=[address]):
        await engine.execute_many([Note("x"), Sell("a", 3)])
        assert [each.event.count for each in await take(following, 2)] == [2, 3]
        assert following.position == 2
        await client.__aexit__(None, None, None)


async def test_whoever_looks_now_and_then_has_one_stream_and_misses_nothing() -> None:
    engine = Engine(desk, log="memory:")
    async with (
        engine,
        Server(engine, listen=["tcp://127.0.0.1:0"], limits=ServerLimits(follows_max=1)) as server,
        Client(str(server.addresses[0])) as client,
    ):
        following, found = client.follow(types=[Sold]), list[int]()
        await client.execute(Sell("a", 0))
        found += [each.event.count for each in await take(following, 1)]
        for number in range(1, 40):
            with anyio.CancelScope() as scope:
                asyncio.get_running_loop().call_soon(scope.cancel)
                found.append((await anext(following)).event.count)
            await client.execute(Sell("a", number))
        while len(found) < 40:
            found += [each.event.count for each in await take(following, 1)]
        assert found == list(range(40))
        assert server.stats().watches <= 1


class OtherSold(Event, tag="Sold"):
    item: Key
    count: str


async def test_what_is_wrong_is_said() -> None:
    engine = Engine(desk, log="memory:")
    async with (
        engine,
        Server(engine, listen=["tcp://127.0.0.1:0"], limits=ServerLimits(follows_max=1)) as server,
        Client(str(server.addresses[0])) as client,
    ):
        await client.execute(Sell("a", 1))
        with pytest.raises(InvalidMessage, match="`types` are the classes of the events to follow"):
            client.follow(types=[])
        with pytest.raises(InvalidMessage, match="`types` are the classes of the events to follow"):
            client.follow(types=[Note])  # type: ignore[type-var]
        with pytest.raises(InvalidMessage, match="`keys` are texts"):
            client.follow(types=[Sold], keys="a")
        with pytest.raises(UnknownMessage, match="Opened"):
            await take(client.follow(types=[Opened]), 1)
        with pytest.raises(InvalidMessage, match="position 9 is above the head"):
            await take(client.follow(types=[Sold], after=9), 1)
        with pytest.raises(RemoteError, match="is not what the classes say"):
            await take(client.follow(types=[OtherSold]), 1)
        await until(lambda: not server.stats().watches)
        first = client.follow(types=[Sold])
        assert len(await take(first, 1)) == 1
        with pytest.raises(LimitReached, match="follows_max=1"):
            await take(client.follow(types=[Sold]), 1)
        await first.aclose()
        await until(lambda: not server.stats().watches)
        assert msgspec.structs.asdict((await take(client.follow(types=[Sold]), 1))[0].about)["position"] == 1
