from __future__ import annotations

from datetime import timedelta

import pytest

from millstream.engine import Engine
from millstream.engine.loop.clock import utc_now
from tests.desk import desk
from tests.engine.server.caller import ADD, calling, one_process, request, served, until
from tests.shop import Add, shop
from tests.stores import MemoryPlace
from tests.support import ScriptedLog

pytestmark = pytest.mark.anyio


async def test_an_open_engine_is_live_and_ready() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD})
        assert await caller.call("health") == {
            "live": True,
            "ready": True,
            "role": "writer",
            "position": 1,
            "lag_events": 0,
            "reasons": [],
            "seconds_ahead": 0.0,
        }


async def test_with_a_log_that_is_ahead_of_the_clock_it_says_so_and_is_ready_as_commands_are_decided() -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), clock=lambda: utc_now() + timedelta(days=1)) as engine:
        await engine.execute(Add("a", 1))
    async with served(log=place.log()) as server, calling(server) as caller:
        assert (await caller.call("execute", {"command": ADD}))["position"] == 2
        health = await caller.call("health")
        assert (health["ready"], 86_000 < health["seconds_ahead"] <= 86_400) == (True, True)
        assert (await caller.call("stats"))["writer"]["seconds_ahead"] > 86_000
    async with Engine(shop, log=place.log(), clock=lambda: utc_now() + timedelta(days=1, seconds=-50)) as engine:
        assert engine.stats().writer.seconds_ahead == 0, "so little is no matter"


@one_process
async def test_with_a_view_that_faulted_it_is_live_and_not_ready() -> None:
    async with served(desk("stop")) as server, calling(server) as caller:
        await caller.call("execute", {"command": {"type": "Say", "what": "bad"}})
        await caller.call("ask", {"query": {"type": "Seen"}, "after": 1})
        health = await caller.call("health")
        assert (health["live"], health["ready"]) == (True, False)
        assert health["reasons"] == ["view Shelves is faulted"]


async def test_with_a_store_that_takes_nothing_it_is_live_and_not_ready_until_it_does_again() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as caller:
        log.steps.append("refused")
        log.probes_fail = 2
        assert (await caller.call("execute", {"command": ADD}))["data"]["error"] == "CommitFailed"
        health = await caller.call("health")
        assert (health["live"], health["ready"], health["reasons"]) == (True, False, ["the writer is recovering"])
        while "position" not in await caller.call("execute", {"command": ADD}):
            pass
        assert (await caller.call("health"))["ready"] is True


async def test_with_a_writer_that_stopped_for_good_it_is_live_and_not_ready_and_still_answers() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD})
        log.commits.append(log.commits[0])  # another writer
        fenced = await caller.call("execute", {"command": ADD})
        assert (fenced["code"], fenced["data"]["error"]) == (3006, "Fenced")
        health = await caller.call("health")
        assert (health["live"], health["ready"], health["reasons"]) == (True, False, ["the writer is stopped"])
        assert (await caller.call("ask", {"query": {"type": "Everything"}}))["answer"] == {"a": 1}


async def test_it_tells_how_far_the_slowest_view_is_behind() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as caller:
        log.hold()
        await caller.send(request("execute", {"command": ADD}))
        await until(lambda: log.appends_started == 1)
        await caller.send(request("health", to="while"))
        assert (await caller.reply())["result"]["position"] == 0  # not durable yet, so it counts for nothing
        log.release()
        assert (await caller.reply())["result"]["position"] == 1
        health = await caller.call("health")
        assert health["position"] == 1
        assert health["lag_events"] in (0, 1)
