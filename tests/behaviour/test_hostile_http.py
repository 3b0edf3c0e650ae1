"""Hostile input over HTTP: random scripts of what no client should do, said to a real server over real sockets.

Several callers at once send requests whole, in crumbs and cut; heads that are too long, bodies that are too large, too
deep, not JSON, not what the head says; two lengths, bad chunks, many requests at once; streams that are not read. They
close, vanish, or just stay. Beside them a witness asks and commands, and is always answered.

Whatever they do: every answer is one of HTTP; nothing that was no request changes anything; nothing grows beyond its
limit; and when they are gone nothing of them is left: no connection, no stream, no watch, no byte of a body.

The suite runs a few scripts. ``MILLSTREAM_TORTURE=1 pytest tests/behaviour/test_hostile_http.py`` runs 1,000 longer
ones, a larger number as many.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.engine import Engine, Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.web import WebApp, WebLimits, WebServer
from tests.engine.web.asking import SECONDS_MAX
from tests.shop import Notes, shop

pytestmark = pytest.mark.anyio

_torture = int(os.environ.get("MILLSTREAM_TORTURE") or 0)
EXAMPLES = {0: 25, 1: 1_000}.get(_torture, _torture)
STEPS_MAX = 40 if _torture else 20
CALLERS = 4
LIMITS = WebLimits(
    connections_max=4,  # the witness is one of them, so the last caller is refused
    body_bytes_max=20_000,
    bodies_bytes_max=30_000,
    body_seconds_max=0.05,
    head_bytes_max=4_096,
    watches_max=2,
    follows_max=1,
    answer_seconds_max=0.02,
    slow_seconds_max=0.05,
    heartbeat_seconds=0.01,
    linger_seconds_max=0.05,
)
ENGINE_LIMITS = Limits(mailbox_commands_max=6, batch_commands_max=4, watches_max=3, view_waiters_max=6)
#: All that may be answered.
STATUSES = {100, 200, 304, 400, 404, 405, 408, 409, 413, 415, 421, 422, 429, 431, 503, 504}


def post(path: str, body: bytes, *more: str, kind: str = "application/json", length: str | None = None) -> bytes:
    length = str(len(body)) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-type: {kind}", f"content-length: {length}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *more: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *more]).encode() + b"\r\n\r\n"


def chunked(body: bytes) -> bytes:
    head = "POST /commands/Note HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked"
    return head.encode() + b"\r\n\r\n" + body


NEVER = b'{"text":"never"}'

#: Requests that are fine.
GOOD: dict[str, Callable[[str], bytes]] = {
    "note": lambda text: post("/commands/Note", json.dumps({"text": text}).encode()),
    "chunked note": lambda text: chunked(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(data := json.dumps({"text": text}).encode()), data)
    ),
    "ask": lambda _: get("/queries/Notes"),
    "ask later": lambda _: get("/queries/Notes", "millstream-after: 1", "millstream-timeout: 0.01"),
    "same": lambda _: get("/queries/StockOf?item=a", "if-none-match: *"),
    "watch": lambda _: get("/watch/Notes"),
    "events": lambda _: get("/events"),
    "health": lambda _: get("/health/ready"),
    "document": lambda _: get("/openapi.json"),
    "page": lambda _: get("/try"),
    "head": lambda _: get("/queries/Notes").replace(b"GET", b"HEAD"),
}
#: What is none, and would change something if it were taken for one.
BROKEN: dict[str, Callable[[], bytes]] = {
    "empty lines": lambda: b"\r\n" * 10,
    "json": lambda: b'{"jsonrpc":"2.0","method":"execute"}\r\n\r\n',
    "tls": lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 5,
    "http 0.9": lambda: b"GET /queries/Notes\r\n\r\n",
    "http 2": lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": lambda: post("/commands/Note", NEVER, f"content-length: {len(NEVER) + 1}"),
    "length and chunks": lambda: post("/commands/Note", NEVER, "transfer-encoding: chunked", kind="text/plain"),
    "negative length": lambda: post("/commands/Note", NEVER, length="-1"),
    "endless length": lambda: post("/commands/Note", b"", length="9" * 400),
    "large length": lambda: post("/commands/Note", NEVER, length=str(10**12)),
    "too large": lambda: post("/commands/Note", json.dumps({"text": "never" * 5_000}).encode()),
    "too large in chunks": lambda: chunked(b"1000\r\n%b\r\n" % (b"n" * 4_096) * 8 + b"0\r\n\r\n"),
    "bad chunk": lambda: chunked(b"zz\r\n%b\r\n0\r\n\r\n" % NEVER),
    "chunk without end": lambda: chunked(b"10\r\n" + NEVER),
    "endless chunk": lambda: chunked(b"f" * 5_000),
    "long head": lambda: get("/queries/Notes", "x: " + "x" * 6_000),
    "many headers": lambda: get("/queries/Notes", *(f"x-{n}: y" for n in range(900))),
    "long address": lambda: get("/queries/" + "x" * 5_000),
    "no host": lambda: b"POST /commands/Note HTTP/1.1\r\ncontent-type: application/json\r\n\r\n",
    "another host": lambda: post("/commands/Note", NEVER).replace(b"localhost", b"evil.example"),
    "a page's form": lambda: post("/commands/Note", NEVER, kind="text/plain"),
    "not JSON": lambda: post("/commands/Note", b'{"text":"never"'),
    "not UTF-8": lambda: post("/commands/Note", b'{"text":"never\xff"}'),
    "deep": lambda: post("/commands/Note", b"[" * 9_000),
    "deep inside": lambda: post("/commands/Note", b'{"text":' * 2_000),
    "wrong type": lambda: post("/commands/Note", b'{"text":["never"]}'),
    "another type": lambda: post("/commands/Note", b'{"type":"Add","text":"never"}'),
    "unknown field": lambda: post("/commands/Note", b'{"text":"never","more":1}'),
    "unknown command": lambda: post("/commands/Noted", NEVER),
    "a way out": lambda: post("/commands/../commands/Noted/%2e%2e/%00", NEVER),
    "another method": lambda: post("/commands/Note", NEVER).replace(b"POST", b"PUT"),
    "no method": lambda: post("/commands/Note", NEVER).replace(b"POST", b"P\xd6ST"),
    "bad version": lambda: post("/commands/Note", NEVER, "expected-version: 1"),
    "bad timeout": lambda: post("/commands/Note", NEVER, "millstream-timeout: soon"),
    "bad key": lambda: post("/commands/Note", NEVER, "idempotency-key: " + "x" * 300),
    "two keys": lambda: post("/commands/Note", NEVER, "idempotency-key: a", "idempotency-key: b"),
    "large metadata": lambda: post(
        "/commands/Note", NEVER, "millstream-actor: " + "x" * 2_000, "traceparent: " + "ä" * 1_050
    ),
    "no text": lambda: post("/commands/Note", NEVER, "millstream-actor: @").replace(b"@", b"\xff"),
    "websocket": lambda: get("/watch/Nope", "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"),
    "a body that waits": lambda: post("/commands/Note", b"", "expect: 100-continue", length="10"),
    "a position of nobody": lambda: get("/watch/Notes", "last-event-id: 999999999"),
}


class Ask(NamedTuple):
    who: int
    kind: str
    pieces: int = 1


class Break(NamedTuple):
    who: int
    what: str


class Noise(NamedTuple):
    who: int
    data: bytes


class Flood(NamedTuple):
    """Many requests at once, of which none is waited for."""

    who: int
    kind: str
    times: int


class Cut(NamedTuple):
    """The first part of a request."""

    who: int
    kind: str
    share: float


class End(NamedTuple):
    who: int
    how: str


class LetRun(NamedTuple):
    turns: int


class TimePasses(NamedTuple):
    seconds: float


Step = Ask | Break | Noise | Flood | Cut | End | LetRun | TimePasses

who, kinds = st.integers(0, CALLERS - 1), st.sampled_from(sorted(GOOD))
steps = st.one_of(
    st.builds(Ask, who, kinds, st.sampled_from([1, 1, 2, 7])),
    st.builds(Break, who, st.sampled_from(sorted(BROKEN))),
    st.builds(Noise, who, st.binary(max_size=200)),
    st.builds(Flood, who, kinds, st.integers(2, 60)),
    st.builds(Cut, who, kinds, st.floats(0, 0.99)),
    st.builds(End, who, st.sampled_from(["finish", "close", "vanish", "listen"])),
    st.builds(LetRun, st.integers(1, 30)),
    st.builds(TimePasses, st.sampled_from([1.0, 11.0, 31.0])),
)


class Peer:
    """One hostile caller."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.heard = b""

    def push(self, data: bytes) -> None:
        """Send what the system takes at once."""
        with contextlib.suppress(OSError):
            while data:
                data = data[self.socket.send(data) :]

    def listen(self) -> None:
        """Take what is there."""
        with contextlib.suppress(OSError):
            while more := self.socket.recv(1 << 16):
                self.heard += more


class World:
    """A server, the callers, and the witness."""

    def __init__(self, engine: Engine, app: WebApp, server: WebServer, witness: httpx2.AsyncClient) -> None:
        self.engine, self.app, self.server, self.witness = engine, app, server, witness
        self.peers: dict[int, Peer] = {}
        self.texts: set[str] = set()
        self.heard: list[bytes] = []

    async def peer(self, number: int) -> Peer:
        if number not in self.peers:
            connection = socket.socket()
            connection.setblocking(False)
            at = self.server.addresses[0].address
            await asyncio.get_running_loop().sock_connect(connection, (at.host, at.port))
            self.peers[number] = Peer(connection)
        return self.peers[number]

    def request(self, kind: str) -> bytes:
        text = f"note {len(self.texts)}"
        if "note" in kind:
            self.texts.add(text)
        return GOOD[kind](text)

    async def take(self, step: Step) -> None:
        match step:
            case LetRun(turns):
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
            case TimePasses(seconds):
                self.server.sweep(elapsed() + seconds)
            case Ask(number, kind, pieces):
                peer, data = await self.peer(number), self.request(kind)
                size = -(-len(data) // pieces)
                for start in range(0, len(data), size):
                    peer.push(data[start : start + size])
                    await anyio.lowlevel.checkpoint()
            case Break(number, what):
                (await self.peer(number)).push(BROKEN[what]())
            case Noise(number, data):
                (await self.peer(number)).push(data)
            case Flood(number, kind, times):
                (await self.peer(number)).push(b"".join(self.request(kind) for _ in range(times)))
            case Cut(number, kind, share):
                data = self.request(kind)
                (await self.peer(number)).push(data[: int(len(data) * share)])
            case End(number, how):
                if number in self.peers:
                    self.end(number, how)

    def end(self, number: int, how: str) -> None:
        peer = self.peers[number]
        peer.listen()
        if how == "finish":
            with contextlib.suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
        elif how != "listen":
            if how == "vanish":
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.heard.append(peer.heard)
            peer.socket.close()
            del self.peers[number]

    async def see(self, turn: int) -> None:
        """The witness is answered, whatever the others do."""
        with anyio.fail_after(SECONDS_MAX):
            told = await self.witness.post("/commands/Note", json={"text": f"witness {turn}"})
            assert told.status_code == 200, told.text
            after = {"millstream-after": told.headers["millstream-position"], "millstream-timeout": "5"}
            while (asked := await self.witness.get("/queries/StockOf?item=a", headers=after)).status_code == 503:
                pass  # `answer_seconds_max` is short here
            assert asked.json() == 0
        assert len(self.server.connections) <= LIMITS.connections_max + 1  # one more is told so
        assert self.app.streams <= LIMITS.watches_max + LIMITS.follows_max
        assert self.app.bodies.size_bytes <= LIMITS.bodies_bytes_max + LIMITS.body_bytes_max

    async def all_gone(self) -> None:
        for number in list(self.peers):
            self.end(number, "vanish" if number % 2 else "close")
        with anyio.fail_after(SECONDS_MAX):
            while len(self.server.connections) > 1 or self.app.streams or self.app.bodies.size_bytes:
                self.server.sweep(elapsed() + 60)
                await anyio.lowlevel.checkpoint()
            while any(view.watches for view in self.engine.stats().views.values()):
                await anyio.lowlevel.checkpoint()


async def play(script: list[Step]) -> None:
    async with Engine(shop, log="memory:", limits=ENGINE_LIMITS) as engine:
        app = WebApp(shop, engine, limits=LIMITS)
        async with (
            WebServer(app, listen=["127.0.0.1:0"]) as server,
            httpx2.AsyncClient(base_url=str(server.addresses[0]), timeout=SECONDS_MAX) as witness,
        ):
            world = World(engine, app, server, witness)
            await world.see(-1)  # it is in before the others
            for turn, step in enumerate(script):
                await world.take(step)
                if turn % 5 == 4:
                    await world.see(turn)
            await world.see(len(script))
            await world.all_gone()
            notes = await engine.ask(Notes(), after=engine.position)
        for heard in world.heard:
            for status in re.findall(rb"(?:\A|\r\n|\n|\}|\w)HTTP/1\.1 (\d{3}) ", heard):
                assert int(status) in STATUSES, status
            assert b"Internal Server Error" not in heard
            assert b"Traceback" not in heard
    strange = [note for note in notes if note not in world.texts and not note.startswith("witness ")]
    assert strange == []
    assert len(set(notes)) == len(notes)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(script=st.lists(steps, min_size=1, max_size=STEPS_MAX))
async def test_whatever_is_sent_the_witness_is_answered_and_nothing_is_left(
    script: list[Step], caplog: pytest.LogCaptureFixture
) -> None:
    await play(script)
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


@pytest.mark.parametrize("what", sorted(BROKEN))
async def test_what_is_no_request_is_refused_or_closed_and_changes_nothing(what: str) -> None:
    async with Engine(shop, log="memory:") as engine:
        app = WebApp(shop, engine, limits=LIMITS)
        async with WebServer(app, listen=["127.0.0.1:0"]) as server:
            at = server.addresses[0].address
            reader, writer = await asyncio.open_connection(at.host, at.port)
            writer.write(BROKEN[what]() + get("/commands/Note"))
            heard = b""
            with anyio.fail_after(SECONDS_MAX), contextlib.suppress(ConnectionError):
                while not re.search(rb"HTTP/1\.1 [345]", heard):
                    with anyio.move_on_after(0.2) as waiting:
                        more = await reader.read(1 << 16)
                        if not more:
                            break
                        heard += more
                    if waiting.cancelled_caught:
                        server.sweep(elapsed() + 11)
            writer.transport.abort()
            for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard):
                assert int(status) in STATUSES
                assert int(status) != 200
        assert engine.position == 0


async def test_a_flood_of_connections_and_half_requests_does_not_keep_others_from_being_answered() -> None:
    async with Engine(shop, log="memory:") as engine:
        app = WebApp(shop, engine, limits=WebLimits(connections_max=120))
        async with (
            WebServer(app, listen=["127.0.0.1:0"]) as server,
            httpx2.AsyncClient(base_url=str(server.addresses[0]), timeout=SECONDS_MAX) as witness,
        ):
            assert (await witness.get("/health/live")).status_code == 200
            at, held = server.addresses[0].address, list[Any]()
            for _ in range(200):
                held.append(await asyncio.open_connection(at.host, at.port))
                held[-1][1].write(b"POST /commands/Note HTTP/1.1\r\nhost: lo")
            for turn in range(20):
                assert (await witness.post("/commands/Note", json={"text": str(turn)})).status_code == 200
            server.sweep(elapsed() + 20)
            with anyio.fail_after(SECONDS_MAX):
                while len(server.connections) > 1:
                    server.sweep(elapsed() + 60)
                    await anyio.lowlevel.checkpoint()
            for _, writer in held:
                writer.transport.abort()
            assert server.dropped["connections_max"] >= 80
            assert server.dropped["head_seconds_max"] >= 100
