"""The agenda of an application that runs elsewhere, as a program sees it: the same calls, with and without await."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import msgspec
import pytest
from msgspec.structs import replace

from millstream.engine import AgendaItem, Engine, Metadata
from millstream.engine.client import Client, ClientLimits, SyncClient
from millstream.engine.errors import ConnectionLost, InvalidMessage, NotOnAgenda, ProtocolViolated, RemoteError
from millstream.engine.server import Server
from tests.engine.client.peer import peer
from tests.handlers.test_timers import Hold, Release, theatre
from tests.selling import Order, mended, selling
from tests.stores import MemoryPlace
from tests.support import start, until

pytestmark = pytest.mark.anyio

PARKED = "event:1/Selling.hold_seats"


@asynccontextmanager
async def serving(engine: Engine) -> AsyncIterator[str]:
    async with engine, Server(engine, listen=["tcp://127.0.0.1:0"]) as server:
        yield str(server.addresses[0])


async def test_what_is_parked_is_found_tried_again_and_dropped_as_in_the_engines_own_process() -> None:
    place = MemoryPlace()
    async with serving(Engine(selling, log=place.log())) as address, Client(address) as client:
        await client.execute(Order("o1", "fire", 2), metadata=Metadata(actor="ann"))
        await client.execute(Order("o2", "fire", 2))
        first, second = await client.agenda.entries(parked=True)
        assert (first.id, first.kind, first.error, first.metadata.actor) == (PARKED, "event", "KeyError", "ann")
        assert isinstance(first.event, msgspec.Raw)
        assert json.loads(bytes(first.event))["order"] == "o1"
        assert await client.agenda.find(PARKED) == first
        assert await client.agenda.retry(PARKED) is False
        await client.agenda.drop(second.id)
        with pytest.raises(NotOnAgenda, match=r"no 'event:2/Selling\.hold_seats'; it holds 1"):
            await client.agenda.drop(second.id)
        with pytest.raises(InvalidMessage, match="no timer that waits"):
            await client.agenda.fire_now(PARKED)
        with pytest.raises(ProtocolViolated, match="`int` <= 500"):
            await client.agenda.page(limit=501)
    async with serving(Engine(mended, log=place.log())) as address, Client(address) as client:
        assert await client.agenda.retry(PARKED) is True
        assert await client.agenda.entries() == []


async def test_the_engine_itself_shows_the_same_pages_and_refuses_what_a_server_would() -> None:
    engine = Engine(theatre, log="memory:")
    async with serving(engine) as address, Client(address) as client:
        await client.execute_many([Hold("s", order) for order in "abc"])
        first, same = [await each.agenda.page(kind="timer", limit=2) for each in (engine, client)]
        assert replace(first, next=same.next) == same
        assert await engine.agenda.page(after=first.next) == await client.agenda.page(after=same.next)
        with pytest.raises(InvalidMessage, match="from 0 to 500, not -1"):
            await engine.agenda.page(limit=-1)
        with pytest.raises(InvalidMessage, match="one of event, timer, effect, outcome, not 'reaction'"):
            await engine.agenda.page(kind="reaction")  # type: ignore[arg-type]
        with pytest.raises(InvalidMessage, match="retry, drop, fire_now, not 'park'"):
            await engine.agenda.settle("timer:hold/a@s", "park")  # type: ignore[arg-type]
        assert (await engine.agenda.settle("timer:hold/a@s", "fire_now")).position == 4


async def test_who_only_asks_how_many_there_are_pushes_out_nobody() -> None:
    engine = Engine(theatre, log="memory:")
    async with serving(engine) as address, Client(address) as client:
        await client.execute_many([Hold("s", order) for order in "abc"])
        first = await client.agenda.page(limit=1)
        for _ in range(2_000):
            page = await engine.agenda.page(limit=0)
        assert (page.entries, page.next, page.total) == ([], None, 3)
        assert len((await client.agenda.page(after=first.next)).entries) == 2
        with pytest.raises(InvalidMessage, match="`after` is what the page before it has as `next`"):
            await engine.agenda.page(after=5)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessage, match="`parked` is true, false, or left out"):
            await engine.agenda.page(parked="yes")  # type: ignore[arg-type]


async def test_all_entries_are_there_however_many_pages_that_takes() -> None:
    async with serving(Engine(theatre, log="memory:")) as address, Client(address) as client:
        await client.execute_many([Hold("s", f"o{number}") for number in range(1_201)])
        found = await client.agenda.entries(kind="timer")
        assert [entry.title for entry in found] == [f"hold/o{number}" for number in range(1_201)]
        assert isinstance(found[-1].command, msgspec.Raw)
        assert msgspec.json.decode(bytes(found[-1].command), type=Release) == Release("s", "o1200")


async def test_a_script_looks_after_it_without_await() -> None:
    async with serving(Engine(theatre, log="memory:")) as address:

        def script() -> tuple[list[AgendaItem], list[str]]:
            with SyncClient(address) as client:
                client.execute_many([Hold("s", order) for order in ("a", "odd", "c", "d")])
                timer = client.agenda.find("timer:hold/a@s")
                done = [client.agenda.fire_now(timer.id), client.agenda.fire_now("timer:hold/odd@s")]
                done.append(client.agenda.retry("timer:hold/odd@s"))
                assert done == [True, False, False]
                client.agenda.drop("timer:hold/odd@s")
                assert client.agenda.settle("timer:hold/c@s", "fire_now").parked == 0
                page = client.agenda.page(limit=1)
                return client.agenda.entries(kind="timer"), [entry.id for entry in page.entries]

        found, first = await anyio.to_thread.run_sync(script)
    assert ([entry.id for entry in found], first) == (["timer:hold/d@s"], ["timer:hold/d@s"])


async def test_a_verdict_is_not_sent_again_when_the_connection_is_lost_and_a_question_is() -> None:
    limits = ClientLimits(retry_seconds_min=0.001)
    async with peer() as there, Client(there.address, limits=limits) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        asked = start(group, client.agenda.page(kind="timer", after="1.2.3"))
        settled = start(group, client.agenda.retry("event:1/A.b", again=True))
        assert [(each["method"], each["params"]) for each in await visit.requests(2)] == [
            ("agenda", {"kind": "timer", "after": "1.2.3", "limit": 100}),
            ("settle", {"entry": "event:1/A.b", "verdict": "retry", "again": True}),
        ]
        visit.close()
        visit = await there.visit()
        again = await visit.request()
        assert again["method"] == "agenda"
        visit.reply(again, {"entries": [], "next": None, "total": 0, "parked": 0, "position": 0})
        await until(lambda: asked.settled and settled.settled)
        assert asked.value.total == 0
        assert isinstance(settled.error, ConnectionLost)
        assert settled.error.sent


async def test_what_is_no_page_and_no_receipt_is_the_servers_fault() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        outcomes = [start(group, client.agenda.page()), start(group, client.agenda.drop("timer:a"))]
        for request in await visit.requests(2):
            visit.reply(request, {"entries": 3})
        await until(lambda: all(outcome.settled for outcome in outcomes))
        for outcome, kind in zip(outcomes, ("AgendaPage", "Receipt"), strict=True):
            assert isinstance(outcome.error, RemoteError)
            assert f"what came back is no {kind}" in str(outcome.error)
