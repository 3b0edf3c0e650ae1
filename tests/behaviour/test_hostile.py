"""Hostile input: random scripts of what no client should do, said to a real server over real sockets.

Several callers at once send requests whole, in crumbs and cut; lines that are too long, too deep, not UTF-8, not JSON, not
requests; the same id again and again; floods; they don't read, end one direction, close, or vanish. Beside them a witness
asks and commands, and is always answered.

Whatever they do: every reply is a result or a typed error; every request that was sent whole is answered once, or its
connection is closed; nothing that was no request changes anything; nothing grows beyond its limit; and when they are gone
nothing of them is left: no task, no connection, no socket, nothing in flight.

The suite runs a few scripts. ``MILLSTREAM_TORTURE=1 pytest tests/behaviour/test_hostile.py`` runs 3,000 longer ones, a
larger number as many; they take minutes, and print what they did.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from millstream.engine import Engine, Limits, MemoryLog
from millstream.engine.commits.body import body_reader
from millstream.engine.loop.clock import elapsed
from millstream.engine.server import Server, ServerLimits
from millstream.engine.server.connection import Connection
from millstream.engine.wire.errors import BRANCHES, CODES
from tests.engine.server.caller import SECONDS_MAX, STOCK, Caller, calling, connections_of, request, sweep, until
from tests.engine.server.front_here import FrontHere
from tests.shop import Noted, Pinboard, shop
from tests.support import views_of

pytestmark = pytest.mark.anyio

_torture = int(os.environ.get("MILLSTREAM_TORTURE") or 0)
EXAMPLES = {0: 25, 1: 3_000}.get(_torture, _torture)
STEPS_MIN, STEPS_MAX = (10, 40) if _torture else (1, 20)
FLOOD_MAX = 1_000 if _torture else 400

CALLERS = 4
LIMITS = ServerLimits(
    connections_max=4,  # the witness is one of them, so the last caller is refused
    frame_bytes_max=20_000,
    in_flight_max=8,
    turn_requests_max=5,
    connection_watches_max=3,
    follows_max=2,
    output_bytes_max=30_000,
    answer_seconds_max=0.02,
    linger_seconds_max=0.05,
)
ENGINE_LIMITS = Limits(
    mailbox_commands_max=6, batch_commands_max=4, watches_max=5, watch_answers_max=3, view_waiters_max=6
)
#: What one read gives at most, of asyncio and of uvloop.
READ_BYTES_MAX = 256 * 1024

KNOWN_CODES = {*CODES.values(), *BRANCHES.values(), -32700, -32600, -32601, -32602}


# What can be done.


class Ask(NamedTuple):
    """A request that is one, in so many pieces."""

    who: int
    kind: str
    to: Any
    pieces: int = 1


class Batch(NamedTuple):
    who: int
    kinds: Sequence[str]


class Break(NamedTuple):
    """A line that is no request."""

    who: int
    what: str


class Noise(NamedTuple):
    who: int
    data: bytes


class Flood(NamedTuple):
    """Many requests at once."""

    who: int
    kind: str
    times: int


class Cut(NamedTuple):
    """The first part of a request, and then another line or the end."""

    who: int
    share: float
    then: str


class Listen(NamedTuple):
    who: int


class End(NamedTuple):
    """Close one direction or both, or vanish."""

    who: int
    how: str


class LetRun(NamedTuple):
    turns: int


class TimePasses(NamedTuple):
    seconds: float


Step = Ask | Batch | Break | Noise | Flood | Cut | Listen | End | LetRun | TimePasses

KINDS = (
    "note",
    "many",
    "many silent",
    "many late",
    "many wrong",
    "wrong",
    "ask",
    "later",
    "ask all",
    "ask all later",
    "large",
    "watch",
    "every",
    "follow",
    "unwatch",
    "health",
    "describe",
    "silent",
)

SILENT = ("silent", "many silent")
#: How many a request has, where that is not one.
COMMANDS = {"many": 4, "many silent": 2, "many late": 8, "many wrong": 4}

_NEVER = {"type": "Note", "text": "never"}

#: Lines that are no requests, and would change something if they were taken for one.
BROKEN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"\n",
    "no JSON": lambda: b'{"jsonrpc":"2.0","method":"execute",\n',
    "two on a line": lambda: request("execute", {"command": _NEVER})[:-1] * 2 + b"\n",
    "not UTF-8": lambda: request("execute", {"command": {**_NEVER, "text": "never@"}}).replace(b"@", b"\xff\xfe"),
    "half a surrogate": lambda: request("execute", {"command": {**_NEVER, "text": "never@"}}).replace(b"@", b"\\ud800"),
    "a zero": lambda: request("execute", {"command": _NEVER})[:-2] + b"\0}\n",
    "deep": lambda: b"[" * 9_000 + b"\n",
    "deep inside": lambda: request("execute", {"command": _NEVER, "x": "@"}).replace(b'"@"', b'{"a":' * 3_000),
    "too long": lambda: request("execute", {"command": {"type": "Note", "text": "never" * 5_000}}),
    "too long and endless": lambda: b"x" * 60_000,
    "wrong version": lambda: request("execute", {"command": _NEVER}).replace(b"2.0", b"1.0"),
    "wrong type": lambda: request("execute", {"command": {"type": "Note", "text": ["never"]}}),
    "unknown field": lambda: request("execute", {"command": {**_NEVER, "more": 1}}),
    "unknown command": lambda: request("execute", {"command": {"type": "Noted", "text": "never"}}),
    "unknown param": lambda: request("execute", {"command": _NEVER, "force": True}),
    "positional": lambda: request("execute", [_NEVER]),
    "bad id": lambda: request("execute", {"command": _NEVER}, {"id": 1}),
    "long id": lambda: request("execute", {"command": _NEVER}, 10**400),
    "bad command id": lambda: request("execute", {"command": _NEVER, "command_id": ""}),
    "bad version": lambda: request("execute", {"command": _NEVER, "expected_version": 1}),
    "bad timeout": lambda: request("execute", {"command": _NEVER, "timeout": "soon"}),
    "bad metadata": lambda: request("execute", {"command": _NEVER, "metadata": {"who": "me"}}),
    "ask none": lambda: request("ask_all", {"queries": []}),
    "ask too many": lambda: request("ask_all", {"queries": [STOCK] * 6}),
    "ask all of nonsense": lambda: request("ask_all", {"queries": [STOCK, 1, None, {}, [], {"type": "Noted"}]}),
    "ask all at once": lambda: request("ask_all", {"queries": [STOCK], "at": 0}),
    "many unknown": lambda: request(
        "execute_many", {"commands": [{"type": "Noted", "text": "never"}, 1, None, {}, []]}
    ),
    "many positional": lambda: request("execute_many", [[_NEVER]]),
    "many of no list": lambda: request("execute_many", {"commands": _NEVER}),
    "many more": lambda: request("execute_many", {"commands": [_NEVER] * 9}),
    "many more that are none": lambda: request("execute_many", {"commands": [0] * 9_000}),
    "many unknown param": lambda: request("execute_many", {"commands": [_NEVER, 0], "wait": True}),
    "many bad ids": lambda: request("execute_many", {"commands": [_NEVER, _NEVER], "command_ids": ["", "x" * 201]}),
    "many few ids": lambda: request("execute_many", {"commands": [_NEVER, _NEVER], "command_ids": ["one"]}),
    "many bad timeout": lambda: request("execute_many", {"commands": [_NEVER], "timeout": -1}),
    "many bad metadata": lambda: request("execute_many", {"commands": [_NEVER, 0], "metadata": {"who": "me"}}),
    "many large metadata": lambda: request("execute_many", {"commands": [_NEVER], "metadata": {"actor": "x" * 5_000}}),
    "many deep": lambda: request("execute_many", {"commands": ["@"]}).replace(b'"@"', b'{"a":' * 3_000),
    "many half a surrogate": lambda: request("execute_many", {"commands": [{**_NEVER, "text": "never@"}, 1]}).replace(
        b"@", b"\\ud800"
    ),
    "many in large batches": lambda: (
        b"[" + b",".join([request("execute_many", {"commands": [_NEVER, 0, 0]}).strip()] * 3) + b"]\n"
    ),
    "empty batch": lambda: b"[]\n",
    "large batch": lambda: b"[" + b",".join([request("execute", {"command": _NEVER}).strip()] * 9) + b"]\n",
    "batch of nonsense": lambda: b'[1,[],{},null,"x"]\n',
    "batch in a batch": lambda: b"[[" + request("execute", {"command": _NEVER}).strip() + b"]]\n",
}

who = st.integers(0, CALLERS - 1)
ids = st.sampled_from([1, 2, "same", "same", None, -1.5])
steps = st.one_of(
    st.builds(Ask, who, st.sampled_from(KINDS), ids, st.sampled_from([1, 1, 2, 7])),
    st.builds(Batch, who, st.lists(st.sampled_from(KINDS), min_size=1, max_size=8)),
    st.builds(Break, who, st.sampled_from(sorted(BROKEN))),
    st.builds(Noise, who, st.binary(max_size=200)),
    st.builds(Flood, who, st.sampled_from(KINDS), st.integers(2, FLOOD_MAX)),
    st.builds(Cut, who, st.floats(0, 0.99), st.sampled_from(["line", "end", "close", "vanish"])),
    st.builds(Listen, who),
    st.builds(End, who, st.sampled_from(["finish", "close", "vanish"])),
    st.builds(LetRun, st.integers(1, 20)),
    st.builds(TimePasses, st.sampled_from([1.0, 11.0, 31.0, 601.0])),
)


# How it is done.


class Peer:
    """One hostile caller, and what it may expect."""

    def __init__(self, caller: Caller, opened: Any) -> None:
        self.caller = caller
        self.opened = opened
        #: What the system has not taken yet.
        self.unsent = b""
        #: The ids of requests that were sent whole and want a reply.
        self.wanted: Counter[str] = Counter()
        #: Whether all of them must be answered, each once: nothing else was sent, and nobody ended anything.
        self.is_clean = True
        self.finished = False
        self.heard = b""
        #: Whether that is all that there was.
        self.heard_all = False

    def push(self, data: bytes) -> None:
        """Send it, or what the system takes of it now."""
        self.unsent += data
        try:
            sent = self.caller.push(self.unsent)
        except OSError:  # the server has closed
            sent, self.is_clean = len(self.unsent), False
        figures["bytes"] += sent
        self.unsent = self.unsent[sent:]

    def listen(self) -> bool:
        """Take what is there; whether there may be more."""
        while True:
            try:
                more = self.caller.socket.recv(1 << 16)
            except BlockingIOError:
                return True
            except OSError:
                self.is_clean = False
                return False
            self.heard += more
            if not more:
                return False

    async def rest(self) -> None:
        """Send what is left and listen until the server has closed; it is to go on all the time."""
        with anyio.CancelScope() as scope:
            so_far = None
            while self.listen():
                if so_far != (len(self.heard), len(self.unsent)):
                    so_far, scope.deadline = (len(self.heard), len(self.unsent)), anyio.current_time() + SECONDS_MAX
                if self.unsent:
                    self.push(b"")
                elif not self.finished:
                    self.finish()
                await anyio.lowlevel.checkpoint()
        assert not scope.cancelled_caught, "the server neither goes on nor closes"
        self.heard_all = True

    def finish(self) -> None:
        if self.unsent:
            self.is_clean = False
        self.finished = True
        try:
            self.caller.finish()
        except OSError:
            self.is_clean = False


#: What was done, for whoever runs many.
figures: Counter[str] = Counter()


class World:
    """A server, the callers, and the witness."""

    def __init__(self, engine: Engine, server: Server, witness: Caller) -> None:
        self.engine = engine
        self.server = server
        self.witness = witness
        #: The server's side of it.
        (self.heard,) = connections_of(server)
        self.peers: dict[int, Peer] = {}
        self.notes = 0
        self.receipts = 0
        self.slowest = 0.0

    async def peer(self, number: int) -> Peer:
        if number not in self.peers:
            opened = calling(self.server)
            self.peers[number] = Peer(await opened.__aenter__(), opened)
            figures["connections"] += 1
        return self.peers[number]

    def line(self, kind: str, to: Any) -> bytes:
        """A request of a kind. Each note has a text of its own."""
        size = {"note": 1, "silent": 1, "many": 4, "many silent": 2, "many late": 8, "many wrong": 1}.get(kind, 0)
        self.notes += size
        several = [{"type": "Note", "text": f"note {self.notes - back} {'x' * 100}"} for back in range(size)]
        note, notes = several[0] if several else None, {"type": "Notes"}
        wrong = {"type": "Take", "item": "a", "count": 1}
        return {
            "note": lambda: request("execute", {"command": note}, to),
            "silent": lambda: request("execute", {"command": note}, ...),
            "many": lambda: request("execute_many", {"commands": several}, to),
            "many silent": lambda: request("execute_many", {"commands": several}, ...),
            "many late": lambda: request("execute_many", {"commands": several, "timeout": 0.0005}, to),
            "many wrong": lambda: request("execute_many", {"commands": [0, wrong, *several, {"type": "Noted"}]}, to),
            "wrong": lambda: request("execute", {"command": wrong}, to),
            "ask": lambda: request("ask", {"query": STOCK}, to),
            "later": lambda: request("ask", {"query": STOCK, "after": 10**6}, to),
            "ask all": lambda: request("ask_all", {"queries": [STOCK, notes, STOCK]}, to),
            "ask all later": lambda: request("ask_all", {"queries": [STOCK, notes], "after": 10**6}, to),
            "large": lambda: request("ask", {"query": notes}, to),
            "watch": lambda: request("watch", {"query": notes}, to),
            "every": lambda: request("watch", {"query": notes, "every": True}, to),
            "follow": lambda: request("follow", {}, to),
            "unwatch": lambda: request("unwatch", {"watch": 1}, to),
            "health": lambda: request("health", to=to),
            "describe": lambda: request("describe", to=to),
        }[kind]()

    async def do(self, step: Step) -> None:
        figures["steps"] += 1
        match step:
            case LetRun(turns):
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                return
            case TimePasses(seconds):
                for peer in self.peers.values():
                    peer.is_clean = False
                self.heard.heard_at = elapsed() + seconds  # the witness is never idle
                sweep(self.server, elapsed() + seconds)
                return
        peer = await self.peer(step.who)
        if peer.finished and not isinstance(step, Listen | End):
            return
        match step:
            case Ask(_, kind, to, pieces):
                data = self.line(kind, to)
                size = -(-len(data) // pieces)
                for start in range(0, len(data), size):
                    peer.push(data[start : start + size])
                    await anyio.lowlevel.checkpoint()
                peer.wanted[json.dumps(to)] += kind not in SILENT
            case Batch(_, kinds):
                lines = [self.line(kind, number) for number, kind in enumerate(kinds)]
                peer.push(b"[" + b",".join(line.strip() for line in lines) + b"]\n")
                if sum(COMMANDS.get(kind, 1) for kind in kinds) > LIMITS.in_flight_max:
                    peer.wanted["null"] += 1  # it is refused whole
                else:
                    peer.wanted.update(json.dumps(number) for number, kind in enumerate(kinds) if kind not in SILENT)
            case Flood(_, kind, times):
                times = max(
                    2, times // COMMANDS.get(kind, 1)
                )  # as many commands: each makes every watch's answer longer
                peer.push(b"".join(self.line(kind, "flood") for _ in range(times)))
                peer.wanted['"flood"'] += times if kind not in SILENT else 0
            case Break(_, what):
                peer.is_clean = False
                peer.push(BROKEN[what]())
            case Noise(_, data):
                peer.is_clean = False
                peer.push(data)
            case Cut(_, share, then):
                data = request("execute", {"command": _NEVER})
                peer.is_clean = False
                peer.push(data[: int((len(data) - 2) * share)])
                if then == "line":
                    peer.push(b"\n")
                else:
                    await self.end(step.who, {"end": "finish"}.get(then, then))
            case Listen():
                peer.listen()
            case End(_, how):
                await self.end(step.who, how)

    async def end(self, number: int, how: str) -> None:
        peer = self.peers[number]
        if how == "finish":
            peer.finish()
            return
        if how == "vanish":
            peer.caller.vanish()
        del self.peers[number]
        self.look_at(peer)
        await peer.opened.__aexit__(None, None, None)

    async def witnessed(self, number: int) -> None:
        """The witness asks, and gives a command: both are answered."""
        started = elapsed()
        text = {"type": "Note", "text": f"witness {number}"}
        self.notes += 1
        await self.witness.send(request("ask", {"query": STOCK}, "w") + request("execute", {"command": text}, "x"))
        replies = {each["id"]: each for each in await self.witness.replies(2)}
        assert replies["w"]["result"]["answer"] == 0
        assert replies["x"]["result"]["events"] == 1
        self.slowest = max(self.slowest, elapsed() - started)
        self.within_limits()

    def within_limits(self) -> None:
        """Nothing has grown beyond what it may be."""
        answer = sum(map(len, self.view_notes())) + 4 * self.notes + 1_000
        for connection in connections_of(self.server):
            assert connection.in_flight <= LIMITS.in_flight_max
            assert len(connection.streams) <= LIMITS.connection_watches_max
            assert connection._intake.pending <= LIMITS.frame_bytes_max
            assert held_bytes(connection) <= READ_BYTES_MAX + LIMITS.frame_bytes_max
            waiting = connection.waiting_bytes
            assert waiting <= 2 * LIMITS.output_bytes_max + 5 * answer + READ_BYTES_MAX
        assert (
            self.server.stats().watches <= LIMITS.follows_max + ENGINE_LIMITS.watches_max + LIMITS.connections_max * 3
        )

    def view_notes(self) -> list[str]:
        (state,) = [each.read.state for each in views_of(self.engine) if each.name == "Pinboard"]
        assert isinstance(state, Pinboard)
        return state.notes

    def look_at(self, peer: Peer) -> None:
        """Every whole line that it heard is a reply or a notification, and no request was answered twice."""
        *lines, _ = peer.heard.split(b"\n")
        answered: Counter[str] = Counter()
        for line in lines:
            found = json.loads(line)
            for each in found if isinstance(found, list) else [found]:
                assert each["jsonrpc"] == "2.0"
                error = each["params"].get("error") if "method" in each else each.get("error")
                assert error is None or error["code"] in KNOWN_CODES, error
                if "method" not in each:
                    assert ("result" in each) != ("error" in each)
                    answered[json.dumps(each["id"])] += 1
                    told = each.get("result") or {}
                    for outcome in (told, *(one.get("result", {}) for one in told.get("outcomes", ()))):
                        self.receipts += "commit" in outcome
        figures["replies"] += answered.total()
        figures["errors"] += sum(b'"error"' in line for line in lines)
        if lines and b'"connections_max"' in lines[0]:
            figures["refused"] += 1
            return
        if peer.is_clean and peer.heard_all:
            figures["clean callers"] += 1
            assert answered == +peer.wanted
        elif peer.is_clean:
            assert answered <= peer.wanted


def held_bytes(connection: Connection) -> int:
    """What was read and not taken up."""
    return sum(len(item) + 1 for item in connection._backlog if isinstance(item, bytes))


def sockets() -> int:
    """How many this process has, where the system tells."""
    count = 0
    if sys.platform == "linux":
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the one that lists them is gone by now
                count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


async def play(script: Sequence[Step], fronts: int = 0) -> None:
    loop, failures = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    log, sockets_before = MemoryLog(), sockets()
    async with Engine(shop, log=log, limits=ENGINE_LIMITS) as engine:
        async with (
            Server(engine, listen=["tcp://127.0.0.1:0"], limits=LIMITS, fronts=fronts) as server,
            calling(server) as witness,
        ):
            await witness.call("health")
            world = World(engine, server, witness)
            await world.witnessed(-1)
            await witness.send(request("watch", {"query": {"type": "Nothing"}}))  # refused, and nothing else
            assert (await witness.reply())["error"]["code"] == 1003
            tasks = len(asyncio.all_tasks())
            for listener in server._listeners:
                for each in listener.sockets:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            for number, step in enumerate(script):
                await world.do(step)
                await world.witnessed(number)
            for number, peer in list(world.peers.items()):
                await peer.rest()
                await world.end(number, "close")
            await until(lambda: server.stats().connections == 1)
            await world.witnessed(len(script))
            await until(lambda: server.stats().in_flight == 0 and server.stats().watches == 0)
            await until(lambda: len(asyncio.all_tasks()) <= tasks + len(shop.views))  # those of watches stay
            assert server._methods.commands is not None
            assert not server._methods.commands._held
            assert not engine.admission.mailbox.queue
            notes = world.view_notes()
            assert engine.position == len(notes)
            events = [event for commit in log.store.commits for event in body_of(commit.body)]
        assert len(set(notes)) == len(notes) <= world.notes
        assert not any("never" in note for note in notes)
        assert [event.text for event in events] == notes
        assert world.receipts <= len(notes)
    figures["slowest ms"] = max(figures["slowest ms"], round(world.slowest * 1e3))
    figures["scripts"] += 1
    assert failures == []
    await until(lambda: sockets() <= sockets_before)


def body_of(body: bytes) -> list[Noted]:
    return _read_body(body).events


_read_body = body_reader([Noted])

if _torture:
    atexit.register(lambda: sys.stderr.write(f"{dict(figures)}\n"))


@given(script=st.lists(steps, min_size=STEPS_MIN, max_size=STEPS_MAX))
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
async def test_whatever_callers_do_they_get_typed_errors_or_a_closed_connection_and_nobody_else_notices(
    script: Sequence[Step],
) -> None:
    with capture_logs() as lines:
        await play(script)
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []


async def test_every_line_that_is_no_request_changes_nothing() -> None:
    with capture_logs() as lines:
        await play([Break(0, what) for what in sorted(BROKEN) if not what.startswith("too long")])
        await play([step for what in sorted(BROKEN) for step in (Break(1, what), End(1, "close"))])
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@given(script=st.lists(steps, min_size=STEPS_MIN, max_size=STEPS_MAX))
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
async def test_behind_a_front_it_is_the_same(script: Sequence[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.server.fronts.fronts.Process", FrontHere)
    with capture_logs() as lines:
        await play(script, fronts=1)
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
