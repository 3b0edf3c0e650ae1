"""The server: where it listens, whom it refuses, whose time is over, and how it stops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest

from millstream.engine import DefinitionError, Engine, EngineClosed
from millstream.engine.loop.clock import elapsed
from millstream.engine.server import Server, Tokens, tls_context
from millstream.engine.web import WebApp, WebLimits, WebServer
from millstream.engine.web.addresses import parse_http
from tests.certificates import Certificates
from tests.engine.server.caller import calling, request, until
from tests.engine.web.asking import SECONDS_MAX, Web, connected, over_http
from tests.shop import shop

pytestmark = pytest.mark.anyio

ASK = b"GET /queries/StockOf?item=a HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def ended(web: Web, reason: str, later: float = 1e3) -> None:
    """Wait until the server has ended a connection for this reason, in whose eyes so much time has passed."""
    with anyio.fail_after(SECONDS_MAX):
        while not web.server.dropped[reason]:
            web.server.sweep(elapsed() + later)
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://localhost:0", "http://localhost:0"),
        ("https://[::1]:443", "https://[::1]:443"),
        ("unix://a/b", "unix://a/b"),
    ],
)
def test_an_address_is_read_and_shown(text: str, shown: str) -> None:
    assert str(parse_http(text)) == shown


@pytest.mark.parametrize("text", ["", "8080", "ftp://a:1", "tcp://a:1", "http://a", "http://a:99999", "unix://"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="an address for HTTP is"):
        parse_http(text)


async def test_one_process_serves_sockets_and_http() -> None:
    async with (
        Engine(shop, log="memory:") as engine,
        Server(engine, listen=["tcp://127.0.0.1:0"]) as server,
        WebServer(WebApp(shop, engine), listen=["127.0.0.1:0"]) as web,
        httpx2.AsyncClient(base_url=str(web.addresses[0])) as client,
        calling(server) as caller,
    ):
        await client.post("/commands/Add", json={"item": "a", "count": 3})
        await caller.send(request("ask", {"query": {"type": "StockOf", "item": "a"}}))
        assert (await caller.reply())["result"] == {"answer": 3, "position": 1}


async def test_it_listens_on_several_addresses_and_a_unix_socket(tmp_path: Path) -> None:
    listen = ["127.0.0.1:0", f"unix://{tmp_path}/web.sock"]
    async with Engine(shop, log="memory:") as engine, WebServer(WebApp(shop, engine), listen=listen) as web:
        transport = httpx2.AsyncHTTPTransport(uds=str(tmp_path / "web.sock"))
        async with httpx2.AsyncClient(base_url="http://any.example", transport=transport) as client:
            assert (await client.get("/health/live")).json() == {"live": True}
        async with httpx2.AsyncClient(base_url=str(web.addresses[0])) as client:
            assert (await client.get("/health/live")).json() == {"live": True}
    assert not (tmp_path / "web.sock").exists()


async def test_https_is_spoken_with_a_certificate(tmp_path: Path) -> None:
    made = Certificates.made_in(tmp_path)
    async with (
        Engine(shop, log="memory:") as engine,
        WebServer(WebApp(shop, engine), listen=["https://127.0.0.1:0"], tls=tls_context(made.server)) as web,
        httpx2.AsyncClient(base_url=str(web.addresses[0]), verify=made.context()) as client,
    ):
        assert (await client.get("/health/live")).json() == {"live": True}


async def test_it_does_not_listen_to_strangers_by_accident() -> None:
    async with Engine(shop, log="memory:") as engine:
        for listen, problem in (("0.0.0.0:0", "no tokens and no TLS"), ("https://127.0.0.1:0", "give a certificate")):
            with pytest.raises(DefinitionError, match=problem):
                await WebServer(WebApp(shop, engine), listen=[listen]).__aenter__()
        known = WebApp(shop, engine, tokens=Tokens(["reader:a token for reading"]))
        with pytest.raises(DefinitionError, match="no TLS: give them"):
            await WebServer(known, listen=["0.0.0.0:0"]).__aenter__()
        with pytest.raises(DefinitionError, match="at least one address"):
            WebServer(WebApp(shop, engine), listen=[])


async def test_a_port_that_is_taken_is_an_error_at_the_start_and_nothing_is_left_open() -> None:
    async with over_http() as web:
        taken = str(web.server.addresses[0])
        with pytest.raises(DefinitionError, match="can't be listened on"):
            await WebServer(WebApp(shop, web.engine), listen=["127.0.0.1:0", taken]).__aenter__()
        with pytest.raises(EngineClosed, match="make a new WebServer"):
            await web.server.__aenter__()


async def test_one_connection_more_than_there_may_be_is_told_so() -> None:
    async with over_http(limits=WebLimits(connections_max=1)) as web, connected(web) as first:
        await first.send(ASK)
        await first.until(b"\r\n\r\n0")
        async with connected(web) as second:
            told = await second.until_closed()
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b"connections_max" in told
        await first.send(ASK)  # and is answered as before
        await first.until(b"\r\n\r\n0")


@pytest.mark.parametrize("said", [b"", b"GET /queries", b"GET / HTTP/1.1\r\nhost: lo"])
async def test_a_request_that_does_not_come_is_not_waited_for(said: bytes) -> None:
    async with over_http() as web, connected(web) as raw:
        await raw.send(said)
        await until(lambda: len(web.server.connections) == 1)
        web.server.sweep(elapsed() + 1)
        assert not web.server.dropped
        await ended(web, "head_seconds_max")
        assert await raw.until_closed() == b""


async def test_the_second_request_of_a_connection_has_its_time_too() -> None:
    async with over_http() as web, connected(web) as raw:
        await raw.send(ASK)
        await raw.until(b"\r\n\r\n0")
        web.server.sweep(elapsed() + 1_000)  # it has begun none: that is what `idle_seconds_max` is for
        assert not web.server.dropped
        await raw.send(b"GET /")
        await ended(web, "head_seconds_max")


async def test_who_says_nothing_after_an_answer_is_closed() -> None:
    async with over_http(limits=WebLimits(idle_seconds_max=1)) as web, connected(web) as raw:
        await raw.send(ASK)
        assert (await raw.until_closed()).endswith(b"\r\n\r\n0")


async def test_a_head_that_is_too_long_is_refused_whether_it_comes_in_pieces_or_at_once() -> None:
    async with over_http(limits=WebLimits(head_bytes_max=1_000)) as web:
        async with connected(web) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nx: " + b"x" * 2_000)
            assert (await raw.until_closed()).startswith(b"HTTP/1.1 400 ")
        for said in (
            b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nx: %b\r\n\r\n",
            b"GET /%b HTTP/1.1\r\nhost: a\r\n\r\n",
        ):
            async with connected(web) as raw:
                await raw.send(said % (b"x" * 1_001))
                assert (await raw.until_closed()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b'{"jsonrpc":"2.0"}\r\n\r\n',
        b"GET /\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so_and_closed_without_a_line_in_the_log(
    said: bytes, log_lines: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with over_http() as web, connected(web) as raw:
        await raw.send(said)
        assert (await raw.until_closed()).startswith(b"HTTP/1.1 400 ")
        await until(lambda: web.server.dropped["no_http"] == 1)
        web.server.sweep(elapsed())
    assert caplog.records == []
    assert [line["reason"] for line in log_lines if line["event"] == "connections_dropped"] == ["no_http"]


NEXT = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"content-length: 4\r\ntransfer-encoding: chunked", b'16\r\n{"item":"a","count":1}\r\n0\r\n\r\n', b"200"),
        (b"content-type: text/plain\r\ncontent-length: 22", b'{"item":"a","count":1}', b"415"),
    ],
)
async def test_after_a_head_that_means_two_things_nothing_else_is_read(head: bytes, body: bytes, status: bytes) -> None:
    async with over_http() as web, connected(web) as raw:
        said = b"POST /commands/Add HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" + head
        await raw.send(said + b"\r\n\r\n" + body + NEXT)
        answer = await raw.until_closed()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_an_upgrade_to_another_protocol_is_not_made() -> None:
    async with over_http() as web, connected(web) as raw:
        await raw.send(
            b"GET /queries/StockOf?item=a HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        assert (await raw.until(b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_what_was_taken_is_answered_before_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, waits = anyio.Event(), anyio.Event()
    async with over_http() as web:
        answer = web.engine.answer

        async def later(*args: Any, **more: Any) -> Any:
            waits.set()
            await goes_on.wait()
            return await answer(*args, **more)

        monkeypatch.setattr(web.engine, "answer", later)
        async with connected(web) as raw, anyio.create_task_group() as tasks:
            await raw.send(ASK)
            await waits.wait()
            tasks.start_soon(web.server.__aexit__, None, None, None)
            await until(lambda: all(server.should_exit for server in web.server._servers))
            goes_on.set()
            assert (await raw.until_closed()).endswith(b"\r\n\r\n0")


async def test_what_is_not_answered_in_time_does_not_keep_it_from_stopping(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[Any]
) -> None:
    waits = anyio.Event()

    async def never(*_: Any, **__: Any) -> Any:
        waits.set()
        await anyio.Event().wait()

    async with over_http(limits=WebLimits(drain_seconds_max=0.05)) as web, connected(web) as raw:
        monkeypatch.setattr(web.engine, "answer", never)
        await raw.send(ASK)
        await waits.wait()
        with anyio.fail_after(SECONDS_MAX):
            await web.server.__aexit__(None, None, None)
        assert await raw.until_closed() == b""
    (stopped,) = [line for line in log_lines if line["event"] == "server_stopped"]
    assert (stopped["connections"], stopped["connections_lost"]) == (1, 1)


@pytest.mark.parametrize("name", list(WebLimits.__struct_fields__))
def test_a_limit_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"{name} must be positive"):
        WebLimits(**{name: 0})


def test_nothing_of_it_is_loaded_by_whoever_does_not_serve_http() -> None:
    code = (
        "import sys; import millstream.engine, millstream.engine.server, millstream.engine.client, millstream.handlers, "
        "millstream.views, millstream.engine.cli.root; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('starlette', 'uvicorn', 'fastapi')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
