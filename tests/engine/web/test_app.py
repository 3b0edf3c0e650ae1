"""Commands and questions over HTTP, against a real server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import pytest

from millstream.engine import Engine, Limits, Metadata, Replica, ViewFaulted
from millstream.engine.client import Client
from millstream.engine.server import Server, Tokens
from millstream.engine.web import WebApp, WebLimits
from tests.engine.server.caller import until
from tests.engine.web.asking import connected, over_http, serving
from tests.shop import Add, Break, Broke, StockOf, shop

pytestmark = pytest.mark.anyio

ADD = {"item": "a", "count": 1}


async def test_a_command_is_answered_with_its_receipt_and_a_token_that_makes_it_visible() -> None:
    async with over_http() as web:
        told = await web.execute("Add", {"item": "a", "count": 3})
        assert told.json() == {
            "commit": 1,
            "position": 1,
            "events": 1,
            "command_id": None,
            "version": 1,
            "repeated": False,
            "parked": 0,
            "answer": None,
        }
        assert (told.headers["millstream-position"], told.headers["millstream-version"]) == ("1", "1")
        assert told.headers["cache-control"] == "no-store"
        seen = await web.ask("StockOf?item=a", Millstream_After=told.headers["millstream-position"])
        assert (seen.json(), seen.headers["millstream-position"]) == (3, "1")


async def test_a_message_may_say_its_type_itself_but_not_another() -> None:
    async with over_http() as web:
        await web.execute("Add", {"type": "Add", **ADD})
        await web.execute("Add", {"type": "Take", **ADD}, 422)
        assert web.engine.position == 1


async def test_a_command_without_fields_needs_no_body_but_says_that_it_is_json() -> None:
    async with over_http() as web:
        kind = {"content-type": "application/json"}
        assert (await web.client.post("/queries/Everything", headers=kind)).json() == {}
        assert (await web.client.post("/queries/Everything")).status_code == 415


async def test_a_command_with_a_key_happens_once_and_a_repeat_gets_the_first_receipt() -> None:
    async with over_http() as web:
        first = await web.execute("Add", ADD, Idempotency_Key='"k-1"')  # as the draft has it, and as many send it
        again = await web.execute("Add", ADD, Idempotency_Key="k-1")
        assert (first.json()["command_id"], again.json()["repeated"], again.json()["position"]) == ("k-1", True, 1)
        other = await web.execute("Add", {"item": "b", "count": 1}, 422, Idempotency_Key="k-1")
        assert other.json()["title"] == "CommandIdReused"


async def test_a_version_that_is_expected_is_a_precondition() -> None:
    async with over_http() as web:
        await web.execute("Add", ADD, Expected_Version="0")
        problem = (await web.execute("Add", ADD, 412, Expected_Version="0")).json()
        assert (problem["title"], problem["data"]["actual"]) == ("VersionConflict", 1)


async def test_what_headers_say_about_a_command_is_kept_with_it() -> None:
    async with over_http() as web:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await web.execute(
            "Note",
            {"text": "x"},
            Millstream_Actor="ann",
            Millstream_Correlation="c-1",
            Millstream_Causation="m-1",
            Millstream_Extra_Tenant="north",
            Traceparent=trace,
        )
        happened = await anext(web.engine.follow())
        about: Any = happened.about
        assert Metadata(about.actor, about.correlation, about.causation, about.trace, about.extra) == Metadata(
            "ann", "c-1", "m-1", trace, {"tenant": "north"}
        )


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Expected-Version", "one"),
        ("Expected-Version", "-1"),
        ("Expected-Version", "9" * 25),
        ("Millstream-Timeout", "soon"),
        ("Millstream-Timeout", "nan"),
        ("Millstream-Timeout", "-1"),
        ("Millstream-Wait", "perhaps"),
        ("Idempotency-Key", ""),
        ("Millstream-Actor", "x" * 5_000),
    ],
)
async def test_a_header_that_can_not_be_read_is_refused_and_nothing_happens(header: str, value: str) -> None:
    async with over_http() as web:
        told = await web.client.post("/commands/Add", json=ADD, headers={header: value})
        assert (told.status_code, told.json()["title"]) == (422, "InvalidMessage")
        assert web.engine.position == 0


async def test_a_header_that_is_given_twice_or_is_no_text_is_refused() -> None:
    async with over_http() as web:
        for headers in ([("Millstream-Actor", "a")] * 2, [("Millstream-Actor", b"\xff")]):
            told = await web.client.post("/commands/Add", json=ADD, headers=headers)  # type: ignore[arg-type]
            assert told.status_code == 422


async def test_a_command_that_waits_too_long_is_never_executed() -> None:
    async with over_http() as web:
        told = await web.execute("Add", ADD, 504, Millstream_Timeout="0")
        assert (told.json()["title"], told.json()["data"]["decided"]) == ("DeadlineExceeded", False)
        assert told.headers["retry-after"] == "1"
        assert web.engine.position == 0


async def test_a_refusal_says_what_the_application_says_and_at_which_position() -> None:
    async with over_http() as web:
        told = await web.execute("Take", ADD, 409)
        assert told.headers["content-type"] == "application/problem+json"
        assert told.json() == {
            "type": "urn:millstream:Rejected",
            "title": "Rejected",
            "status": 409,
            "detail": "out_of_stock: not 1 of a",
            "code": 1001,
            "data": {
                "error": "Rejected",
                "code": "out_of_stock",
                "message": "not 1 of a",
                "details": {"left": 0},
                "position": 0,
            },
        }
        assert "retry-after" not in told.headers


async def test_an_answer_that_the_caller_has_is_not_sent_again() -> None:
    async with over_http() as web:
        first = await web.ask("StockOf?item=a")
        tag = first.headers["etag"]
        for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            same = await web.ask("StockOf?item=a", 304, If_None_Match=given)
            assert (same.content, same.headers["etag"], same.headers["millstream-position"]) == (b"", tag, "0")
        await web.execute("Add", ADD)
        other = await web.ask("StockOf?item=a", If_None_Match=tag)
        assert (other.json(), other.headers["etag"] != tag) == (1, True)


async def test_a_question_is_asked_by_address_or_by_body_with_the_same_answer() -> None:
    async with over_http() as web:
        await web.execute("Add", ADD)
        by_body = await web.client.post("/queries/StockOf", json={"item": "a"})
        assert (by_body.json(), by_body.headers["etag"]) == (1, (await web.ask("StockOf?item=a")).headers["etag"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("StockOf", 422),
        ("StockOf?item=", 422),
        ("StockOf?item=a&item=b", 422),
        ("StockOf?item=a&more=b", 422),
        ("Nothing", 404),  # a command
        ("Everything?", 200),
    ],
)
async def test_a_question_that_is_none_is_refused(path: str, status: int) -> None:
    async with over_http() as web:
        assert (await web.ask(path, status)).status_code == status


async def test_yesterdays_answer_and_a_position_that_no_log_has() -> None:
    async with over_http() as web:
        for _ in range(3):
            await web.execute("Add", ADD)
        assert (await web.ask("StockOf?item=a", Millstream_At="2")).json() == 2
        assert (await web.ask("StockOf?item=a", 422, Millstream_After="4")).json()["title"] == "InvalidMessage"
        await web.ask("StockOf?item=a", 422, Millstream_At="yesterday")


async def test_what_a_view_or_a_handler_raises_is_the_servers_fault() -> None:
    async with over_http() as web:
        assert (await web.ask("Broke?how=raise", 500)).json()["title"] == "AnswerFailed"
        assert (await web.execute("Break", {"how": "raise"}, 500)).json()["title"] == "HandlerFailed"


async def test_what_is_no_json_is_told_from_what_is_no_such_message() -> None:
    async with over_http() as web:
        kind = {"content-type": "application/json"}
        for body, status in ((b"{", 400), (b"\xff", 400), (b"[" * 100_000, 422), (b"[]", 422), (b"{}", 422)):
            told = await web.client.post("/commands/Add", content=body, headers=kind)
            assert (told.status_code, told.headers["content-type"]) == (status, "application/problem+json"), body[:9]


async def test_a_page_in_a_browser_can_not_send_a_command_without_being_allowed_to() -> None:
    async with over_http() as web:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            told = await web.client.post("/commands/Add", content=json.dumps(ADD), headers={"content-type": kind})
            assert told.status_code == 415
        asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        assert (await web.client.options("/commands/Add", headers=asked)).status_code == 405
        told = await web.client.post("/commands/Add", json=ADD, headers={"host": "evil.example"})
        assert told.status_code == 421
        assert web.engine.position == 0


async def test_the_pages_of_a_site_that_is_named_may() -> None:
    async with over_http(origins=["https://shop.example"]) as web:
        asked = {
            "origin": "https://shop.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        allowed = await web.client.options("/commands/Add", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        other = await web.client.options("/commands/Add", headers={**asked, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_a_body_is_refused_while_it_comes_in() -> None:
    async with over_http(limits=WebLimits(body_bytes_max=1_000)) as web:
        long = json.dumps({"text": "x" * 2_000})
        told = await web.client.post("/commands/Note", content=long, headers={"content-type": "application/json"})
        assert (told.status_code, told.headers["connection"]) == (413, "close")
        async with connected(web) as raw:
            await raw.send(b"POST /commands/Note HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
            await raw.send(b"transfer-encoding: chunked\r\n\r\n" + b"200\r\n%b\r\n" % (b"x" * 512) * 3)  # and no end
            assert b" 413 " in (await raw.until_closed()).partition(b"\r\n")[0]
        assert web.app.bodies.size_bytes == 0


async def test_a_body_that_takes_too_long_is_given_up() -> None:
    async with over_http(limits=WebLimits(body_seconds_max=0.02)) as web, connected(web) as raw:
        await raw.send(b"POST /commands/Note HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
        await raw.send(b"content-length: 100\r\n\r\n{")
        assert b" 408 " in (await raw.until_closed()).partition(b"\r\n")[0]


async def test_all_bodies_together_are_bounded_and_what_is_answered_counts_no_more() -> None:
    limits = WebLimits(body_bytes_max=1_000, bodies_bytes_max=1_200)
    async with over_http(limits=limits) as web, connected(web) as raw:
        head = b"POST /commands/Note HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        await raw.send(head + b"content-length: 999\r\n\r\n" + b'{"text":"' + b"x" * 980)
        await until(lambda: web.app.bodies.size_bytes == 989)
        told = await web.execute("Note", {"text": "y" * 300}, 429)
        assert (told.json()["data"]["limit"], told.headers["retry-after"]) == ("bodies_bytes_max", "1")
        await raw.send(b'y"}' + b" " * 7)
        await raw.until(b"\r\n")
        await until(lambda: web.app.bodies.size_bytes == 0)
        await web.execute("Note", {"text": "y" * 300})


async def test_tokens_say_who_may_do_what() -> None:
    tokens = Tokens(["reader:a token for reading", "writer:a token for writing"])
    async with over_http(tokens=tokens) as web:
        reader = {"Authorization": "Bearer a token for reading"}
        writer = {"Authorization": "Bearer a token for writing"}
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Basic a token for writing"}, 401),
            (reader, 403),
            (writer, 200),
        ):
            told = await web.client.post("/commands/Add", json=ADD, headers=headers)
            assert told.status_code == status
            assert ("www-authenticate" in told.headers) == (status == 401)
            assert "a token for" not in told.text
        assert (await web.client.get("/queries/StockOf?item=a", headers=reader)).json() == 1
        assert (await web.client.get("/queries/StockOf?item=a")).status_code == 401
        assert (await web.client.get("/watch/Nope")).status_code == 401  # and no word about what there is
        assert (await web.client.get("/health/ready")).json()["ready"] is True


async def test_a_stranger_is_told_no_names_of_views() -> None:
    async with over_http(tokens=Tokens(["reader:a token for reading"])) as web:
        receipt = await web.engine.execute(Break("view"))
        with pytest.raises(ViewFaulted):
            await web.engine.ask(Broke("x"), after=receipt)
        told = await web.client.get("/health/ready")
        assert (told.status_code, told.json()["reasons"]) == (503, ["a view is faulted"])
        known = await web.client.get("/health/ready", headers={"Authorization": "Bearer a token for reading"})
        assert known.json()["reasons"] == ["view Fragile is faulted"]
        assert (await web.client.get("/health/live")).json() == {"live": True}


async def test_before_there_is_something_to_serve_it_says_so() -> None:
    async with Engine(shop, log="memory:") as engine:
        app = WebApp(shop, engine)
        async with serving(app, engine) as web:
            app.serve(None)
            told = await web.ask("StockOf?item=a", 503)
            assert (told.json()["title"], told.headers["retry-after"]) == ("EngineClosed", "5")
            assert (await web.client.get("/health/ready")).status_code == 503
            assert (await web.client.get("/health/live")).status_code == 200
            app.serve(engine)
            await web.ask("StockOf?item=a")


async def test_an_engine_that_is_overloaded_says_when_to_come_again() -> None:
    async with over_http(engine_limits=Limits(mailbox_commands_max=1)) as web:
        async with anyio.create_task_group() as tasks:
            answers: list[Any] = []

            async def one() -> None:
                answers.append(await web.client.post("/commands/Add", json=ADD, headers={"Millstream-Wait": "false"}))

            for _ in range(60):
                tasks.start_soon(one)
        found = {answer.status_code for answer in answers}
        assert found <= {200, 503}
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)


async def test_an_application_that_runs_elsewhere_is_served_in_the_same_way(tmp_path: Any) -> None:
    async with (
        Engine(shop, log="memory:") as engine,
        Server(engine, listen=[f"unix://{tmp_path}/shop.sock"]),
        Client(f"unix://{tmp_path}/shop.sock") as client,
        serving(WebApp(shop, client), engine) as web,
    ):
        told = await web.execute("Add", {"item": "a", "count": 2}, Idempotency_Key="k")
        assert (await web.ask("StockOf?item=a", Millstream_After=told.headers["millstream-position"])).json() == 2
        assert (await web.execute("Take", {"item": "b", "count": 1}, 409)).json()["data"]["code"] == "out_of_stock"
        ready = (await web.client.get("/health/ready")).json()
        assert (ready["ready"], ready["role"]) == (True, "writer")


async def test_a_replica_answers_and_has_no_commands_without_a_writer(tmp_path: Any) -> None:
    async with (
        Engine(shop, log=tmp_path / "shop.db") as engine,
        Replica(shop, log=tmp_path / "shop.db") as replica,
        serving(WebApp(shop, replica), engine) as web,
    ):
        receipt = await engine.execute(Add("a", 4))
        assert (await web.ask("StockOf?item=a", Millstream_After=str(receipt.position))).json() == 4
        assert (await web.execute("Add", ADD, 503)).json()["title"] == "NotLeader"
        assert (await web.client.get("/health/ready")).json()["role"] == "replica"
        assert await replica.ask(StockOf("a")) == 4


async def test_commands_that_come_together_share_commits() -> None:
    async with over_http() as web:
        answers = await asyncio.gather(*(web.execute("Add", ADD) for _ in range(50)))
        assert sorted(answer.json()["position"] for answer in answers) == list(range(1, 51))
        assert web.engine.stats().writer.commit < 50
