"""Server-sent events: what is said, where a stream goes on, what bounds it, and what ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import Engine, EngineClosed
from millstream.engine.client import Client
from millstream.engine.loop.clock import elapsed
from millstream.engine.server import Server
from millstream.engine.web import WebApp, WebLimits
from millstream.engine.web.streams import Source, Streams
from tests.engine.server.caller import until
from tests.engine.web.asking import SECONDS_MAX, connected, over_http, serving
from tests.shop import Add, Break, Note, Take, shop
from tests.support import views_held

pytestmark = pytest.mark.anyio

WATCH = b"GET /watch/StockOf?item=a HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def test_a_watch_says_the_answer_now_and_each_changed_one_under_its_position() -> None:
    async with over_http() as web, web.stream("/watch/StockOf?item=a") as blocks:
        assert await anext(blocks) == (0, "", 0)
        await web.engine.execute(Add("b", 1))
        await web.engine.execute(Add("a", 2))
        assert await anext(blocks) == (2, "", 2)


async def test_a_watch_goes_on_behind_the_last_position_that_was_seen() -> None:
    async with over_http() as web:
        receipt = await web.engine.execute(Add("a", 2))
        async with web.stream("/watch/StockOf?item=a", Last_Event_ID=str(receipt.position)) as blocks:
            assert await anext(blocks) == (1, "", 2)
        told = await web.client.get("/watch/StockOf?item=a", headers={"Last-Event-ID": "7"})
        assert (told.status_code, told.json()["title"]) == (422, "InvalidMessage")  # of another log


async def test_events_come_in_order_and_go_on_where_they_were() -> None:
    async with over_http() as web:
        for count in (1, 2, 3):
            await web.engine.execute(Add("a", count))
        async with web.stream("/events") as blocks:
            found = [await anext(blocks) for _ in range(3)]
            assert [block.id for block in found] == [1, 2, 3]
            assert found[0].data["event"] == {"type": "Added", "item": "a", "count": 1}
            assert (found[0].data["about"]["command"], found[0].data["about"]["position"]) == ("Add", 1)
        told = await web.client.get("/events", headers={"Last-Event-ID": "4"})
        assert (told.status_code, told.json()["title"]) == (422, "InvalidMessage")  # of another log
        async with web.stream("/events", Last_Event_ID="2") as blocks:
            assert (await anext(blocks)).id == 3
            await web.engine.execute(Take("a", 1))
            assert (await anext(blocks)).data["event"]["type"] == "Taken"


async def test_events_are_chosen_by_type_and_by_key_and_what_is_left_out_moves_the_position() -> None:
    async with over_http() as web:
        await web.engine.execute(Add("a", 1))
        await web.engine.execute(Add("b", 1))
        await web.engine.execute(Note("x"))
        async with web.stream("/events?type=Added&type=Taken&key=b") as blocks:
            assert (await anext(blocks)).id == 2
        assert (await web.client.get("/events?type=Nope")).status_code == 404
        assert (await web.client.get("/events?types=Added")).status_code == 422
        await web.engine.execute_many([Note("y")] * 1_200)
        async with web.stream("/events?type=Taken", Last_Event_ID="2") as blocks:
            found = await anext(blocks)
            assert (found.data, found.id) == (None, 1_203)


async def test_what_ends_a_stream_by_itself_is_said_last() -> None:
    async with over_http() as web, web.stream("/watch/Broke?how=x") as blocks:
        assert (await anext(blocks)).data == "x 0"
        await web.engine.execute(Break("view"))
        found = await anext(blocks)
        assert (found.event, found.data["title"], found.data["status"]) == ("problem", "ViewFaulted", 500)
        with pytest.raises(StopAsyncIteration):
            await anext(blocks)


async def test_what_goes_wrong_before_it_begins_is_an_answer_of_its_own() -> None:
    async with over_http() as web:
        for path, status in (("Nope", 404), ("StockOf", 422), ("Broke?how=raise", 500)):
            told = await web.client.get(f"/watch/{path}")
            assert (told.status_code, told.headers["content-type"]) == (status, "application/problem+json")
        assert web.app.streams == 0
        assert (await web.client.head("/watch/StockOf?item=a")).status_code == 405


async def test_one_watch_more_than_there_may_be_is_told_so_and_room_is_free_again_at_once() -> None:
    async with over_http(limits=WebLimits(watches_max=1)) as web:
        async with web.stream("/watch/StockOf?item=a") as blocks:
            await anext(blocks)
            told = await web.client.get("/watch/StockOf?item=a")
            assert (told.status_code, told.json()["data"]["limit"]) == (429, "watches_max")
            assert told.headers["retry-after"] == "1"
        await until(lambda: web.app.streams == 0)
        async with web.stream("/watch/StockOf?item=a") as blocks:
            await anext(blocks)
        async with web.stream("/events"):  # which has a limit of its own
            pass


async def test_a_stream_with_nothing_to_say_says_that_it_is_there() -> None:
    async with over_http(limits=WebLimits(heartbeat_seconds=0.01)) as web, connected(web) as raw:
        await raw.send(WATCH)
        await raw.until(b"data: 0\n\n")
        assert (await raw.until(b":\n\n")).endswith(b":\n\n")
        await raw.until(b":\n\n")


async def test_nothing_is_left_of_who_has_gone() -> None:
    async with over_http() as web:
        async with connected(web) as raw:
            await raw.send(WATCH)
            await raw.until(b"data: 0\n\n")
            assert (web.app.streams, sum(view.watches for view in web.engine.stats().views.values())) == (1, 1)
        await until(lambda: web.app.streams == 0)
        assert sum(view.watches for view in web.engine.stats().views.values()) == 0


async def test_who_takes_nothing_is_ended_and_holds_up_nobody() -> None:
    limits = WebLimits(slow_seconds_max=0.05)
    async with over_http(limits=limits) as web, connected(web) as raw:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        for _ in range(40):  # more than the sockets of both sides hold
            await web.engine.execute(Note("x" * 400_000))
            await web.ask("StockOf?item=a")
        with anyio.fail_after(SECONDS_MAX):
            while web.app.streams:
                web.server.sweep(elapsed())
                await anyio.lowlevel.checkpoint()
        with anyio.fail_after(SECONDS_MAX):
            while len(web.server.connections) > 1:
                web.server.sweep(elapsed() + 10)
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("path", ["/watch/StockOf?item=a", "/events"])
async def test_streams_end_when_the_server_stops_and_it_does_not_wait_for_them(path: str) -> None:
    async with Engine(shop, log="memory:") as engine:
        app = WebApp(shop, engine)
        async with serving(app, engine) as web, connected(web) as raw:
            await raw.send(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode())
            await raw.until(b"\n\n")
            began = elapsed()
            await web.server.__aexit__(None, None, None)
            assert elapsed() - began < 5
            assert (await raw.until_closed()).endswith(b"0\r\n\r\n")  # the response is whole
            assert app.streams == 0


async def test_a_watch_of_what_runs_elsewhere_says_the_same(tmp_path: Path) -> None:
    async with (
        Engine(shop, log="memory:") as engine,
        Server(engine, listen=[f"unix://{tmp_path}/shop.sock"]),
        Client(f"unix://{tmp_path}/shop.sock") as client,
        serving(WebApp(shop, client), engine) as web,
        web.stream("/watch/Everything") as blocks,
        web.stream("/events") as events,
    ):
        assert await anext(blocks) == (0, "", {})
        await engine.execute(Add("a", 2))
        assert await anext(blocks) == (1, "", {"a": 2})
        assert (await anext(events)).data["event"]["item"] == "a"
        for path in ("/events", "/watch/Everything"):
            above = await web.client.get(path, headers={"Last-Event-ID": "99"})
            assert (above.status_code, above.json()["code"]) == (422, 1002), "a browser does not come again after that"


async def test_a_thousand_who_watch_all_hear_of_a_change_and_others_are_answered_meanwhile() -> None:
    limits = WebLimits(connections_max=1_100)
    async with over_http(limits=limits) as web, anyio.create_task_group() as tasks:
        heard, began = [0], [0]

        async def watch() -> None:
            async with connected(web) as raw:
                await raw.send(WATCH)
                await raw.until(b"data: 0\n\n")
                began[0] += 1
                await raw.until(b"data: 1\n\n")
                heard[0] += 1

        for _ in range(1_000):
            tasks.start_soon(watch)
        with anyio.fail_after(60):
            while began[0] < 1_000:
                await anyio.lowlevel.checkpoint()
            await web.execute("Add", {"item": "a", "count": 1})
            while heard[0] < 1_000:
                await web.ask("StockOf?item=a")


LATER = b"GET /watch/StockOf?item=a HTTP/1.1\r\nhost: localhost\r\nmillstream-after: 1\r\n\r\n"


async def test_a_reader_that_leaves_before_there_is_an_answer_frees_its_place() -> None:
    async with over_http(limits=WebLimits(watches_max=3)) as web, views_held(web.engine):
        await web.engine.execute(Add("a", 1))
        for _ in range(2):
            async with connected(web) as first, connected(web) as second, connected(web) as third:
                for raw in (first, second, third):
                    await raw.send(LATER)
                await until(lambda: web.app.streams == 3)
            await until(lambda: web.app.streams == 0)
        assert web.app.streams == 0


async def test_a_source_that_never_begins_ends_with_the_server() -> None:
    """What is waited for before an answer begins does not keep the server from stopping."""
    waits = anyio.Event()

    async def nothing() -> Source:
        waits.set()
        await anyio.Event().wait()
        yield b""

    streams, errors = Streams(WebLimits(), "watches_max", lambda _: None), list[Any]()

    async def ask() -> None:
        async def nowhere(_: Any) -> Any:
            raise AssertionError("nothing is sent")

        try:
            await streams.respond(anyio.sleep_forever, nowhere, nothing)  # type: ignore[arg-type]
        except EngineClosed as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await waits.wait()
        streams.stop()
    assert len(errors) == 1
    assert streams.count == 0
