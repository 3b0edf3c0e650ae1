"""What operators do over HTTP: figures, the log, the agenda, effects and views, by everybody's own program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from millstream.engine import Engine, EngineStats, MemoryLog, Metadata, Replica
from millstream.engine.client import Client
from millstream.engine.edge import Edge, Middleware
from millstream.engine.server import Permits, Server, Tokens
from millstream.engine.web import WebApp, WebLimits, WebServer
from millstream.engine.web.served import Served
from tests.browser.kiosk import Order, Printers, kiosk
from tests.support import settled

pytestmark = pytest.mark.anyio

TOKENS = Tokens(
    ["reader:a token for reading", "writer:a token for writing", "operator:a token for operating"],
    roles={"operator": Permits(methods=frozenset({"stats", "follow", "agenda", "settle"}))},
)


@asynccontextmanager
async def over(backend: Served, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        WebServer(WebApp(kiosk, backend, **options), listen=["127.0.0.1:0"]) as server,
        httpx2.AsyncClient(base_url=str(server.addresses[0])) as client,
    ):
        yield client


@asynccontextmanager
async def served(printers: Printers | None = None, **options: Any) -> AsyncIterator[tuple[Engine, httpx2.AsyncClient]]:
    async with (
        Engine(kiosk, log=MemoryLog(), effects=[printers or Printers()]) as engine,
        over(engine, **options) as client,
    ):
        yield engine, client


def positions(answer: httpx2.Response) -> list[int]:
    return [each["about"]["position"] for each in answer.json()["happened"]]


def by(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer a token for {role}"}


async def test_figures_are_those_of_the_engine_and_say_what_the_caller_may() -> None:
    async with served(tokens=TOKENS) as (engine, client):
        await engine.execute(Order("o1"))
        found = (await client.get("/stats", headers=by("operating"))).json()
        assert msgspec.convert(found["writer"], type(engine.stats().writer)).commits == engine.stats().writer.commits
        assert found["writer"]["commits_seconds"] > 0
        assert (found["app"], found["replica"], found["effects"]["Printers.print_it"]["owed"]) == ("kiosk", None, 0)
        assert set(found["may"]) >= {"stats", "follow", "agenda", "settle"}
        assert not set(found["may"]) & {"execute", "execute_many"}
        assert (await client.get("/stats")).status_code == 401


async def test_the_log_is_read_newest_first_page_by_page_each_event_once() -> None:
    async with served() as (engine, client):
        await engine.execute_many([Order(f"o{number}") for number in range(25)])
        seen, before = [], ""
        while True:
            answer = await client.get(f"/log?limit=10{before}")
            seen.append(positions(answer))
            if answer.json()["before"] is None:
                break
            before = f"&before={answer.json()['before']}"
    assert seen == [list(range(25, 15, -1)), list(range(15, 5, -1)), list(range(5, 0, -1))]
    assert answer.json()["position"] == 25


async def test_the_log_is_looked_through_by_all_that_is_known_of_an_event() -> None:
    async with served() as (engine, client):
        for number in range(1, 5):
            told = Metadata(actor=f"user-{number % 2}", correlation=f"visit-{number}")
            await engine.execute(Order(f"o{number}", "thanks"), metadata=told, command_id=f"c{number}")
        found = {
            asked: positions(await client.get(f"/log?{asked}"))
            for asked in (
                "type=Ordered", "type=Ordered&type=Thanked&key=o2", "key=o1&key=o4", "actor=user-0",
                "correlation=visit-3", "causation=event:5", "command_id=c4", "actor=nobody", "before=3",
            )
        }  # fmt: skip
    assert found == {
        "type=Ordered": [7, 5, 3, 1], "type=Ordered&type=Thanked&key=o2": [4, 3], "key=o1&key=o4": [8, 7, 2, 1],
        "actor=user-0": [8, 7, 4, 3], "correlation=visit-3": [6, 5], "causation=event:5": [6], "command_id=c4": [7],
        "actor=nobody": [], "before=3": [2, 1],
    }  # fmt: skip


async def test_a_page_looks_at_so_many_events_and_says_where_to_go_on() -> None:
    async with served(limits=WebLimits(log_page_searched_events_max=700)) as (engine, client):
        await engine.execute_many([Order(f"o{number}") for number in range(1_500)])
        pages, before = [], ""
        while True:
            answer = (await client.get(f"/log?key=o0{before}")).json()
            pages.append((answer["searched"], [each["about"]["position"] for each in answer["happened"]]))
            if answer["before"] is None:
                break
            before = f"&before={answer['before']}"
    assert pages == [(700, []), (700, []), (100, [1])]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/log?limit=0", 422), ("/log?limit=501", 422), ("/log?limit=many", 422), ("/log?before=x", 422),
        ("/log?actor=a&actor=b", 422), ("/log?colour=red", 422), ("/log?type=Nothing", 404), ("/log?before=-5", 200),
        ("/log?before=99999999999999999999", 200), ("/agenda?kind=wrong", 422), ("/agenda?limit=501", 422),
    ],
)  # fmt: skip
async def test_what_is_no_question_is_an_error_of_the_caller(path: str, status: int) -> None:
    async with served() as (engine, client):
        await engine.execute(Order("o1"))
        assert (await client.get(path)).status_code == status


async def test_no_more_pages_are_looked_for_at_once_than_may_be() -> None:
    async with served(limits=WebLimits(log_pages_max=1)) as (engine, client):
        await engine.execute_many([Order(f"o{number}") for number in range(5_000)])
        statuses: list[int] = []

        async def look() -> None:
            statuses.append((await client.get("/log?key=o0")).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(look)
        assert min(statuses) == 200
        assert set(statuses) == {200, 429}
        assert (await client.get("/log?key=o0")).status_code == 200


async def test_the_agenda_is_shown_and_settled_by_those_who_may() -> None:
    printers = Printers(fails=1)
    async with served(printers, tokens=TOKENS) as (engine, client):
        await engine.execute(Order("o1", "<paper>", express=True))
        await settled()
        shown = (await client.get("/agenda?parked=true", headers=by("operating"))).json()
        (entry,) = shown["entries"]
        assert (entry["kind"], entry["parked"], entry["error"]) == ("effect", True, "ConnectionError")
        timer = (await client.get("/agenda?kind=timer", headers=by("operating"))).json()["entries"][0]
        assert "command" not in timer
        assert (await client.get("/agenda?kind=timer", headers=by("writing"))).json()["entries"][0]["command"][
            "order"
        ] == "o1"
        path = f"/agenda/{entry['id']}"
        assert (await client.post(path, json={"verdict": "retry"}, headers=by("reading"))).status_code == 403
        assert (await client.post(path, json={"verdict": "burn"}, headers=by("operating"))).status_code == 422
        assert (
            await client.post("/agenda/effect:9/x", json={"verdict": "drop"}, headers=by("operating"))
        ).status_code == 404
        answer = await client.post(path, json={"verdict": "retry"}, headers=by("operating"))
        assert answer.status_code == 200
        await settled()
        assert printers.printed == ["o1"]
        assert (await client.post("/commands/Order", json={"order": "o2"}, headers=by("operating"))).status_code == 403


async def test_effects_are_paused_and_resumed_and_a_view_made_anew_also_behind_an_edge() -> None:
    printers = Printers()
    async with (
        Engine(kiosk, log=MemoryLog(), effects=[printers]) as engine,
        over(Edge(engine, [Middleware()])) as client,
    ):
        answer = await client.post("/effects/Printers.print_it", json={"paused": True})
        assert answer.json()["is_paused"] is True
        await engine.execute(Order("o1"))
        await settled()
        assert printers.printed == []
        assert (await client.post("/effects/Printers.print_it", json={"paused": False})).json()["is_paused"] is False
        await settled()
        assert printers.printed == ["o1"]
        assert (await client.post("/effects/Nothing", json={"paused": True})).status_code == 404
        told = (await client.post("/views/Orders", json={"do": "rebuild"})).json()
        assert (told["position"], "it has taken the live one's place" in told["says"]) == (1, True)
        assert "the live one stays" in (await client.post("/views/Orders", json={"do": "compare"})).json()["says"]
        assert "0 events are parked still" in (await client.post("/views/Orders", json={"do": "replay_parked"})).text
        assert (await client.post("/views/Nothing", json={"do": "rebuild"})).status_code == 404
        assert (await client.post("/views/Orders", json={"do": "burn"})).status_code == 422


async def test_a_replica_and_a_client_show_what_they_know_and_mend_nothing(tmp_path: Path) -> None:
    log, address = tmp_path / "kiosk.db", f"unix://{tmp_path}/kiosk"
    async with Engine(kiosk, log=log, effects=[Printers()]) as engine, Server(engine, listen=[address]):
        receipt = await engine.execute(Order("o1"))
        async with Replica(kiosk, log=log) as replica, over(replica) as client:
            replica.require_position(receipt.position)
            assert (await client.get("/stats")).json()["replica"]["status"] == "open"
            assert positions(await client.get("/log")) == [1]
            assert (await client.post("/views/Orders", json={"do": "rebuild"})).status_code == 503
        async with Client(address) as there, over(there) as client:
            found = (await client.get("/stats")).json()
            assert found["writer"]["position"] == 1
            assert isinstance(await there.stats(), EngineStats)
            assert positions(await client.get("/log?key=o1")) == [1]
            assert (await client.get("/agenda")).json()["total"] == 0
            assert (await client.post("/effects/Printers.print_it", json={"paused": True})).status_code == 503


async def test_the_console_is_three_files_that_load_nothing_from_elsewhere() -> None:
    async with served(tokens=TOKENS) as (_, client):
        page = await client.get("/console")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
        for name, kind in (("css", "text/css"), ("js", "text/javascript")):
            answer = await client.get(f"/console/console.{name}")
            assert answer.headers["content-type"].partition(";")[0] == kind
            assert "//" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace("\n// ", "\n").replace(
                "; // ", "; "
            )
        assert (await client.get("/console/other")).status_code == 404
