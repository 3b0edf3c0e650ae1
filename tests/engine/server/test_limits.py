from __future__ import annotations

import asyncio
import gc
import json
import socket
import weakref
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import App, Command, DefinitionError, Event, Limits, Query
from millstream.engine.loop.clock import elapsed
from millstream.engine.server import Server, ServerLimits, Tokens
from millstream.engine.server.connection import Connection
from millstream.engine.write.mailbox import Mailbox
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.engine.server.caller import (
    ADD,
    STOCK,
    Caller,
    calling,
    connections_of,
    engine_of,
    one_process,
    request,
    served,
    sweep,
    until,
)
from tests.shop import Add
from tests.support import ScriptedLog, settled, views_held

pytestmark = pytest.mark.anyio


class Grow(Command):
    bytes: int


class Grown(Event):
    bytes: int


class Large(Query[str]):
    """Its answer is as long as it has grown; who asked is noted."""

    who: str


class Size(WriteModel):
    @handles
    def grow(self, command: Grow) -> Iterator[Event]:
        yield Grown(command.bytes)

    @applies
    def grown(self, event: Grown) -> None: ...


#: Who was answered, in order.
asked: list[str] = []


class Text(View):
    bytes: int = 0

    @applies
    def grown(self, event: Grown) -> None:
        self.bytes = event.bytes

    @answers
    def large(self, query: Large) -> str:
        asked.append(query.who)
        return "x" * self.bytes


large = App(models=[Size], views=[Text], name="large")


def question(who: str, to: Any = 1) -> bytes:
    return request("ask", {"query": {"type": "Large", "who": who}}, to)


def grow(size: int, to: Any = ...) -> bytes:
    return request("execute", {"command": {"type": "Grow", "bytes": size}}, to)


def only(server: Server) -> Connection:
    (connection,) = connections_of(server)
    return connection


def mailbox_of(server: Server) -> Mailbox:
    assert server._methods.commands is not None
    return server._methods.commands._admission.mailbox


def waiting_bytes(connection: Connection) -> int:
    """What waits to be written."""
    return connection.waiting_bytes


@pytest.mark.parametrize("name", ServerLimits.__struct_fields__)
def test_a_limit_that_is_not_positive_is_refused_by_name(name: str) -> None:
    for value in (0, -1):
        with pytest.raises(DefinitionError, match=f"{name} must be positive, not {value} "):
            ServerLimits(**{name: value})


# Connections.


async def test_one_connection_too_many_is_told_so_and_closed_and_there_is_room_again_when_one_ends() -> None:
    async with served(limits=ServerLimits(connections_max=2)) as server, calling(server) as one:
        await one.call("health")
        async with calling(server) as two:
            await two.call("health")
            async with calling(server) as three:
                (told,) = await three.rest()
                assert told == {
                    "jsonrpc": "2.0",
                    "id": None,
                    "error": {
                        "code": 2011,
                        "message": "the limit connections_max=2 is reached: end something, or try again later",
                        "data": {"error": "LimitReached", "limit": "connections_max", "value": 2, "held": None},
                    },
                }
            assert (await two.call("health"))["live"] is True
        await until(lambda: server.stats().connections == 1)
        async with calling(server) as four:
            await four.call("health")
        assert server.stats().dropped == {"connections_max": 1}


# Lines.


async def test_a_line_that_is_too_long_is_told_so_after_all_before_it_was_answered_and_closes() -> None:
    log = ScriptedLog()
    async with served(log=log, limits=ServerLimits(frame_bytes_max=1_000)) as server, calling(server) as caller:
        log.hold()
        await caller.send(request("execute", {"command": ADD}, 1) + request("health", to=2) + b"x" * 1_001)
        assert (await caller.reply())["id"] == 2
        assert server.stats().in_flight == 1
        log.release()
        first, last = await caller.rest()
        assert first["result"]["position"] == 1
        assert last == {
            "jsonrpc": "2.0",
            "id": None,
            "error": {"code": -32600, "message": "a line is longer than frame_bytes_max=1,000: split the request"},
        }
        caller.close()
        await until(lambda: not server.stats().connections)
        assert server.stats().dropped == {"frame_bytes_max": 1}


async def test_whoever_goes_on_with_a_line_that_is_too_long_hears_so_all_the_same() -> None:
    async with served(limits=ServerLimits(frame_bytes_max=1_000)) as server, calling(server) as caller:
        async with anyio.create_task_group() as group:
            group.start_soon(caller.send, b"x" * 20_000_000)
            (told,) = await caller.rest()
        assert told["error"]["code"] == -32600
        assert only(server)._intake.pending == 0  # what still came was thrown away


async def test_a_line_is_as_long_as_it_may_be() -> None:
    note = request("execute", {"command": {"type": "Note", "text": "@"}})
    longest = note.replace(b"@", b"x" * (1_001 - len(note)))
    async with served(limits=ServerLimits(frame_bytes_max=len(longest) - 1)) as server, calling(server) as caller:
        await caller.send(longest)
        assert (await caller.reply())["result"]["position"] == 1


# Requests in flight.


async def test_a_connection_with_as_much_in_flight_as_it_may_have_is_not_read_and_others_are(tmp_path: Path) -> None:
    log, limits = ScriptedLog(), ServerLimits(in_flight_max=3)
    listen = ("tcp://127.0.0.1:0", f"unix://{tmp_path}/socket")  # a Unix socket holds less
    async with (
        served(log=log, limits=limits, listen=listen) as server,
        calling(server) as other,
        calling(server, 1) as flood,
    ):
        await other.call("health")
        log.hold()
        add, sent, fits = request("execute", {"command": ADD}), 0, True
        while fits:  # as much as the system takes for a server that does not read
            taken = flood.push((add * 10_000)[sent % len(add) :])
            fits, sent = taken > 0, sent + taken
            assert (await other.call("ask", {"query": STOCK}))["answer"] == 0
        assert server.stats().in_flight == 3
        held = sum(len(line) + 1 for each in server.connections for line in each._backlog if isinstance(line, bytes))
        assert held <= 300_000
        log.release()
        await flood.send(add[sent % len(add) :])
        count = sent // len(add) + 1
        positions = [(await flood.reply())["result"]["position"] for _ in range(count)]
        assert positions == list(range(1, count + 1))


async def test_a_batch_with_more_requests_than_may_be_in_flight_is_refused_whole() -> None:
    async with served(limits=ServerLimits(in_flight_max=3)) as server, calling(server) as caller:
        add = request("execute", {"command": ADD}).strip()
        await caller.send(b"[" + b",".join([add] * 4) + b"]\n")
        assert (await caller.reply())["error"]["message"] == "a batch has at most in_flight_max=3 requests"
        await caller.send(b"[" + b",".join([add] * 3) + b"]\n")
        assert [each["result"]["position"] for each in await caller.reply()] == [1, 2, 3]


async def test_one_connection_with_many_requests_leaves_others_their_turn() -> None:
    async with (
        served(large, limits=ServerLimits(turn_requests_max=10)) as server,
        calling(server) as flood,
        calling(server) as other,
    ):
        await flood.call("health")
        await other.call("health")
        asked.clear()
        assert flood.push(question("flood") * 500) == len(question("flood")) * 500
        other.push(question("other"))
        await other.reply()
        assert asked.index("other") <= 20
        assert len(await flood.replies(500)) == 500
        asked.clear()
        batch = b"[" + b",".join([question("flood").strip()] * 500) + b"]\n"
        flood.push(batch)
        other.push(question("other"))
        await other.reply()
        assert asked.index("other") <= 20
        assert len(await flood.reply()) == 500


async def test_one_connection_with_slow_questions_leaves_others_their_turn() -> None:
    limits = ServerLimits(turn_ms_max=0.000_001)  # so any question is slow
    async with served(large, limits=limits) as server, calling(server) as flood, calling(server) as other:
        await flood.call("health")
        await other.call("health")
        asked.clear()
        flood.push(question("flood") * 100)
        other.push(question("other"))
        await other.reply()
        assert asked.index("other") <= 2
        assert len(await flood.replies(100)) == 100


async def test_one_who_is_cut_off_while_its_command_waits_at_the_door_is_forgotten() -> None:
    log, limits = ScriptedLog(), Limits(mailbox_commands_max=1, batch_commands_max=1)
    async with served(log=log, engine_limits=limits) as server, calling(server) as filling:
        log.hold()
        commands = server._methods.commands
        assert commands is not None
        await filling.send(request("execute", {"command": ADD}) * 3)  # one is written, one decided, one waits
        await until(lambda: server.stats().in_flight == 3 and not only(server).is_held and log.appends_started == 1)
        await settled()
        async with calling(server) as first:
            await first.send(request("execute", {"command": ADD}))
            await until(lambda: server.stats().in_flight == 4)
            for _ in range(10):
                async with calling(server) as caller:
                    await caller.send(request("execute", {"command": ADD}))
                    await until(lambda: len(commands._held) == 1)
                    (await only_of(server, caller)).abort("slow_seconds_max")
                    await until(lambda: not commands._held)
            log.release()
            assert (await first.reply())["result"]["position"] == 4
        await filling.replies(3)


# Watches.


async def test_a_connection_has_as_many_watches_as_it_may_have() -> None:
    async with (
        served(limits=ServerLimits(connection_watches_max=2)) as server,
        calling(server) as caller,
        calling(server) as other,
    ):
        assert await caller.call("watch", {"query": STOCK}) == {"watch": 1}
        await caller.reply()
        assert await caller.call("follow") == {"watch": 2}
        for method, params in (("watch", {"query": STOCK}), ("follow", {})):
            full = await caller.call(method, params)
            assert full["data"] == {
                "error": "LimitReached",
                "limit": "connection_watches_max",
                "value": 2,
                "held": None,
            }
        assert await other.call("watch", {"query": STOCK}) == {"watch": 1}
        await caller.call("unwatch", {"watch": 1})
        assert await caller.call("follow") == {"watch": 3}


async def test_all_connections_together_follow_as_often_as_they_may() -> None:
    async with (
        served(limits=ServerLimits(follows_max=2)) as server,
        calling(server) as one,
        calling(server) as two,
        calling(server) as three,
    ):
        assert await one.call("follow") == {"watch": 1}
        assert await two.call("follow") == {"watch": 1}
        full = await three.call("follow")
        assert full["data"] == {"error": "LimitReached", "limit": "follows_max", "value": 2, "held": None}
        one.close()
        await until(lambda: server.stats().watches == 1)
        assert await three.call("follow") == {"watch": 1}


async def test_one_connection_follows_no_more_often_than_its_share() -> None:
    limits = ServerLimits(follows_max=9, connection_follows_max=2)
    async with served(limits=limits) as server, calling(server) as one, calling(server) as two:
        for number in (1, 2):
            assert await one.call("follow") == {"watch": number}
        full = await one.call("follow")
        assert full["data"] == {"error": "LimitReached", "limit": "connection_follows_max", "value": 2, "held": None}
        assert await two.call("follow") == {"watch": 1}
        await one.call("unwatch", {"watch": 1})
        assert await one.call("follow") == {"watch": 3}


# Shares of what all have.


async def greedy(caller: Caller, method: str, params: dict[str, Any], most: int) -> dict[str, Any]:
    """Takes as much as it gets, and gives back the error that says it is enough, and how much it got."""
    await caller.send(b"".join(request(method, params, number) for number in range(most)))
    while True:
        told = await caller.reply()
        if "error" in told:
            return {"got": told["id"], **told["error"]["data"]}


@pytest.mark.parametrize(
    ("method", "params", "limit", "value"),
    [
        ("ask", {"query": STOCK, "after": 1, "timeout": 100}, "view_waiters_max", 60),
        ("watch", {"query": STOCK, "after": 1}, "view_waiters_max", 60),
        ("watch", {"query": STOCK}, "watches_max", 40),
        ("follow", {}, "follows_max", 60),
    ],
)
async def test_however_many_connections_take_what_they_get_something_is_left_for_the_next_one(
    method: str, params: dict[str, Any], limit: str, value: int
) -> None:
    limits = ServerLimits(follows_max=60, connection_follows_max=60)
    engine_limits = Limits(view_waiters_max=60, watches_max=900 if "after" in params else 40)
    async with served(limits=limits, engine_limits=engine_limits) as server, AsyncExitStack() as stack:
        if "after" in params:
            await stack.enter_async_context(views_held(engine_of(server)))
            await (await stack.enter_async_context(calling(server))).call("execute", {"command": ADD})
        shares = []
        for _ in range(5):
            one = await stack.enter_async_context(calling(server))
            told = await greedy(one, method, params, value)
            shares.append(told.pop("got"))
            assert told == {"error": "LimitReached", "limit": limit, "value": value, "held": shares[-1]}
        assert shares == {60: [30, 15, 8, 4, 2], 40: [20, 10, 5, 3, 1]}[value]
        last = await stack.enter_async_context(calling(server))
        if params.get("after"):
            await last.send(request(method, params))
            await until(lambda: server.stats().in_flight + server.stats().watches == 60)
        else:
            assert await last.call(method, params) == {"watch": 1}


# Bytes.


def wide(size: int, **params: Any) -> dict[str, Any]:
    return {"query": {"type": "Large", "who": "x" * size}, **params}


@pytest.mark.parametrize(("method", "params"), [("ask", {"after": 1, "timeout": 100}), ("watch", {})])
async def test_questions_that_wait_and_watches_are_bounded_by_their_bytes(method: str, params: dict[str, Any]) -> None:
    limits = ServerLimits(connection_asked_bytes_max=5_000, asked_bytes_max=7_000)
    async with (
        served(large, limits=limits) as server,
        calling(server) as one,
        calling(server) as two,
        views_held(engine_of(server)),
    ):
        await two.send(grow(1, "grown"))
        await two.reply()
        for caller, size, refused in (
            (one, 4_000, None),
            (one, 2_000, "connection_asked_bytes_max"),
            (two, 4_000, "asked"),
        ):
            await caller.send(request(method, wide(size, **params), size))
            if refused:
                told = await caller.reply()
                assert (told["id"], told["error"]["data"]["error"]) == (size, "LimitReached")
                assert told["error"]["data"]["limit"].startswith(refused)
            elif method == "watch":
                assert (await caller.replies(2))[0]["result"] == {"watch": 1}
            else:
                await until(lambda: server.stats().in_flight == 1)
        one.vanish()
        await until(lambda: server.stats().connections == 1)
        await settled()
        await two.send(request(method, wide(4_000, **params)))
        if method == "watch":
            assert (await two.reply())["result"] == {"watch": 2}
        else:
            await until(lambda: server.stats().in_flight == 1)


async def test_a_connection_has_no_more_bytes_of_large_requests_in_flight_than_it_may() -> None:
    log = ScriptedLog()
    limits = ServerLimits(connection_large_bytes_max=100_000)
    note = {"type": "Note", "text": "x" * 40_000}
    async with served(log=log, limits=limits) as server, calling(server) as caller, calling(server) as other:
        sending = [request("execute", {"command": note}, number) for number in range(8)]
        async with views_held(engine_of(server)), anyio.create_task_group() as group:
            await other.call("execute", {"command": ADD})
            await caller.send(request("ask", {"query": STOCK, "after": 1, "timeout": 100}, "slow"))
            log.hold()
            group.start_soon(caller.send, b"".join(sending))
            await until(lambda: server.stats().in_flight == 4)  # three commands, and the question
            await settled()
            assert server.stats().in_flight == 4
            await other.call("health")
            log.release()
            told = [each["id"] for each in await caller.replies(8)]
        assert sorted(told) == list(range(8))  # a question that waits holds nothing up
        assert (await caller.reply())["id"] == "slow"


@pytest.mark.parametrize("in_batches", [False, True])
async def test_large_commands_of_all_connections_together_have_no_more_bytes_in_the_mailbox_than_they_may(
    in_batches: bool,
) -> None:
    log = ScriptedLog()
    engine_limits = Limits(mailbox_bytes_max=100_000, batch_commands_max=1)
    large_note = {"command": {"type": "Note", "text": "x" * 40_000}}
    async with served(log=log, engine_limits=engine_limits) as server, AsyncExitStack() as stack:
        first = await stack.enter_async_context(calling(server))
        log.hold()
        await first.send(request("execute", {"command": ADD}) * 2)  # one is written, one is decided
        await until(lambda: log.appends_started == 1)
        callers = [await stack.enter_async_context(calling(server)) for _ in range(4)]
        for caller in callers:
            line = request("execute", large_note).strip()
            await caller.send((b"[" + line + b"]" if in_batches else line) + b"\n")
        await until(lambda: server.stats().in_flight == 6)
        await settled()
        mailbox = mailbox_of(server)
        assert (len(mailbox.queue), mailbox.entering) == (2, 1)  # the next one waits at the server's door
        assert 80_000 < mailbox.size_bytes <= 100_000
        told = await first.call("execute", {"command": ADD, "wait": False})
        assert told["data"]["error"] == "Overloaded"
        log.release()
        for caller in callers:
            reply = await caller.reply()
            assert (reply[0] if in_batches else reply)["result"]["events"] == 1
        await until(lambda: mailbox.size_bytes == 0)


async def test_large_requests_that_are_answered_at_once_hold_nothing_up() -> None:
    async with (
        served(large, limits=ServerLimits(connection_large_bytes_max=20_000)) as server,
        calling(server) as caller,
    ):
        for number in range(5):
            caller.push(question("x" * 30_000, number))
        assert [each["id"] for each in await caller.replies(5)] == [0, 1, 2, 3, 4]


async def test_before_a_token_a_line_is_shorter() -> None:
    limits = ServerLimits(stranger_frame_bytes_max=1_000)
    tokens = Tokens(["writer:a long enough token"])
    async with served(large, limits=limits, tokens=tokens) as server:
        async with calling(server) as caller:
            await caller.send(b'{"jsonrpc":"2.0","id":1,' + b" " * 1_000)
            assert "frame_bytes_max=1,000" in (await caller.reply())["error"]["message"]
            assert await caller.line() == b""
        async with calling(server) as caller:
            assert await caller.call("authenticate", {"token": "a long enough token"}) == {"role": "writer"}
            await caller.send(question("x" * 100_000))
            assert (await caller.reply())["result"] == {"answer": "", "position": 0}
            await caller.send(request("authenticate", {"token": "wrong"}))
            assert (await caller.rest())[0]["error"]["code"] == 1007


async def test_the_questions_of_one_who_sends_no_more_are_dropped_after_a_while_and_its_commands_are_not() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as caller:
        log.hold()
        await caller.send(request("execute", {"command": ADD}, "command"))
        for number in range(3):
            await caller.send(request("ask", {"query": STOCK, "after": 1, "timeout": 1_000}, number))
        await until(lambda: server.stats().in_flight == 4)
        caller.finish()
        connection = only(server)
        await until(lambda: connection.ended_at is not None)
        now = elapsed()
        sweep(server, now + server.limits.ended_seconds_max - 1)
        await settled()
        assert server.stats().in_flight == 4
        sweep(server, now + server.limits.ended_seconds_max + 1)
        for told in await caller.replies(3):
            assert told["error"]["data"] == {
                "error": "NotYetVisible",
                "view": "Shelf",
                "position": 0,
                "after": 1,
                "timeout_seconds": 5.0,
            }
        log.release()
        (told,) = await caller.rest()
        assert told["result"]["position"] == 1


# Slow readers.


async def test_a_slow_reader_is_not_read_and_what_waits_for_it_is_bounded_and_others_are_quick() -> None:
    answer_bytes, output_bytes_max = 200_000, 100_000
    limits = ServerLimits(output_bytes_max=output_bytes_max)
    async with served(large, limits=limits) as server, calling(server) as quick:
        await quick.send(grow(answer_bytes, 1))
        await quick.reply()
        async with calling(server, receive_bytes=4_096) as slow:
            asked.clear()
            await slow.send(b"".join(question("slow", number) for number in range(100)))
            connection = await only_of(server, slow)
            await until(lambda: connection.slow_since is not None)
            for _ in range(50):
                assert len((await quick.call("ask", {"query": {"type": "Large", "who": "quick"}}))["answer"]) == 200_000
            assert waiting_bytes(connection) <= 2 * (output_bytes_max + answer_bytes + 100)
            assert asked.count("slow") < 60  # the others wait in the sender's socket, and in ours
            replies = await slow.replies(100)
            assert [each["id"] for each in replies] == list(range(100))
            assert connection.slow_since is None


async def only_of(server: Server, caller: Caller) -> Connection:
    """The server's side of a caller's connection."""
    name = caller.socket.getsockname()

    def found() -> list[Connection]:
        return [each for each in connections_of(server) if each.transport.get_extra_info("peername") == name]

    await until(lambda: bool(found()))
    return found()[0]


async def test_a_slow_readers_watch_waits_and_goes_on_with_the_newest_answer() -> None:
    limits = ServerLimits(output_bytes_max=50_000)
    async with (
        served(large, limits=limits) as server,
        calling(server) as writer,
        calling(server, receive_bytes=4_096) as slow,
    ):
        await slow.call("watch", {"query": {"type": "Large", "who": "slow"}})
        await slow.reply()
        connection, size = await only_of(server, slow), 100_000
        while connection.slow_since is None:
            size += 1
            await writer.send(grow(size, 1))
            await writer.reply()
        most = waiting_bytes(connection)
        for _ in range(50):
            size += 1
            await writer.send(grow(size, 1))
            await writer.reply()
        assert waiting_bytes(connection) <= most + size + 100
        last, news = 0, 0
        while last < size:
            found = len((await slow.reply())["params"]["answer"])
            assert found > last
            last, news = found, news + 1
        assert news <= size - 100_000 - 40  # those in between were passed over


async def test_who_follows_the_log_slowly_misses_nothing() -> None:
    async with (
        served(limits=ServerLimits(output_bytes_max=10_000)) as server,
        calling(server) as writer,
        calling(server, receive_bytes=4_096) as slow,
    ):
        await slow.call("follow")
        connection, count = await only_of(server, slow), 0
        note = request("execute", {"command": {"type": "Note", "text": "x" * 100_000}})
        while connection.slow_since is None or count < 60:
            await writer.send(note)
            await writer.reply()
            count += 1
        assert waiting_bytes(connection) <= 400_000
        positions: list[int] = []
        while len(positions) < count:
            positions += [event["position"] for event in (await slow.reply())["params"]["events"]]
        assert positions == list(range(1, count + 1))


async def test_an_answer_that_was_waited_for_is_made_when_its_reader_takes_it() -> None:
    async with (
        served(large, limits=ServerLimits(output_bytes_max=50_000)) as server,
        calling(server) as writer,
        calling(server, receive_bytes=4_096) as slow,
    ):
        later = {"query": {"type": "Large", "who": "slow"}, "after": 1}
        async with views_held(engine_of(server)):
            await writer.send(grow(200_000, 1))
            await writer.reply()
            await slow.send(b"".join(request("ask", later, number) for number in range(100)))
            await until(lambda: server.stats().in_flight == 100)
            connection = await only_of(server, slow)
        await until(lambda: connection.slow_since is not None)
        await writer.call("health")
        assert waiting_bytes(connection) <= 1_000_000
        assert sorted(each["id"] for each in await slow.replies(100)) == list(range(100))
        assert server.stats().in_flight == 0


async def test_a_batch_has_no_more_answers_than_its_reader_may_leave() -> None:
    async with served(large, limits=ServerLimits(output_bytes_max=10_000)) as server, calling(server) as caller:
        await caller.send(grow(3_000, 1))
        await caller.reply()
        batch = [question("a", 1), question("a", 2), question("a", 3), question("a", 4), grow(1, 5)]
        await caller.send(b"[" + b",".join(each.strip() for each in batch) + b"]\n")
        found = {each["id"]: each for each in await caller.reply()}
        assert [len(found[number]["result"]["answer"]) for number in (1, 2, 3)] == [3_000] * 3
        assert found[4]["error"]["data"] == {
            "error": "LimitReached",
            "limit": "output_bytes_max",
            "value": 10_000,
            "held": None,
        }
        assert found[5]["result"]["position"] == 2


async def test_whoever_writes_what_waits_while_it_waits_does_not_leave_the_requests_behind_it_untouched() -> None:
    log, limits = ScriptedLog(), ServerLimits(output_bytes_max=10_000)
    async with served(large, log=log, limits=limits) as server, calling(server) as caller, calling(server) as other:
        await caller.send(grow(3_000, 1))
        await caller.reply()
        log.hold()
        await other.send(grow(3_000, 2))
        await until(lambda: log.appends_started == 2)
        later = request("ask", {"query": {"type": "Large", "who": "later"}, "after": 2}, "later")
        caller.push(later + b"".join(question("a", number) for number in range(20)))
        assert [each["id"] for each in await caller.replies(20)] == list(range(20))
        log.release()
        assert (await caller.reply())["id"] == "later"


async def test_short_answers_of_a_batch_are_counted_too() -> None:
    async with served(limits=ServerLimits(output_bytes_max=10_000)) as server, calling(server) as caller:
        batch = [request("ask", {"query": STOCK}, number) for number in range(300)]
        await caller.send(b"[" + b",".join(each.strip() for each in batch) + b"]\n")
        line = await caller.line()
        replies = {each["id"]: each for each in json.loads(line)}
        answered = [number for number, each in replies.items() if "result" in each]
        assert sorted(replies) == list(range(300))
        assert 70 < len(answered) < 140
        assert {each["error"]["data"]["limit"] for each in replies.values() if "error" in each} == {"output_bytes_max"}


async def test_a_reader_that_is_slow_for_too_long_is_closed() -> None:
    async with served(large, limits=ServerLimits(output_bytes_max=10_000)) as server, calling(server) as caller:
        await caller.send(grow(1_000_000, 1))
        await caller.reply()
        await caller.send(question("slow") * 50)
        connection = only(server)
        await until(lambda: connection.slow_since is not None)
        since = connection.slow_since or 0.0
        sweep(server, since + 29)
        assert server.stats().connections
        sweep(server, since + 31)
        await until(lambda: not server.stats().connections)
        assert server.stats().dropped == {"slow_seconds_max": 1}


# Time.


async def test_a_connection_that_says_nothing_for_long_is_told_so_and_closed() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("health")
        await caller.send(b"{")  # is no line
        sweep(server, elapsed() + 599)
        assert (only(server).status, server.stats().dropped) == ("open", {})
        sweep(server, elapsed() + 601)
        (told,) = await caller.rest()
        assert told["error"]["data"] == {
            "error": "LimitReached",
            "limit": "idle_seconds_max",
            "value": 600.0,
            "held": None,
        }
        caller.close()
        await until(lambda: not server.stats().connections)
        assert server.stats().dropped == {"idle_seconds_max": 1}


async def test_a_connection_that_waits_for_something_is_not_idle_and_its_time_begins_when_it_has_it() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as waiting, calling(server) as watching:
        log.hold()
        await watching.call("watch", {"query": STOCK})
        await watching.reply()
        await waiting.send(request("execute", {"command": ADD}))
        await until(lambda: server.stats().in_flight == 1)
        later = elapsed() + 601
        sweep(server, later)
        log.release()
        assert (await waiting.reply())["result"]["position"] == 1
        sweep(server, later + 599)
        assert {each.status for each in connections_of(server)} == {"open"}
        sweep(server, later + 601)
        assert [each["error"]["data"]["limit"] for each in await waiting.rest()] == ["idle_seconds_max"]
        assert (await only_of(server, watching)).status == "open"


async def test_one_who_does_not_authenticate_in_time_is_told_so_and_closed() -> None:
    tokens = Tokens(["writer:0123456789abcdef"])
    async with served(tokens=tokens) as server, calling(server) as silent, calling(server) as known:
        await known.call("authenticate", {"token": "0123456789abcdef"})
        await silent.call("health")
        sweep(server, elapsed() + 11)
        (told,) = await silent.rest()
        assert told["error"]["data"] == {
            "error": "LimitReached",
            "limit": "authenticate_seconds_max",
            "value": 10.0,
            "held": None,
        }
        assert (await known.call("health"))["live"] is True


async def test_a_connection_that_the_other_side_does_not_close_is_closed_after_a_while() -> None:
    limits = ServerLimits(frame_bytes_max=10, linger_seconds_max=0.01)
    async with served(limits=limits) as server, calling(server) as caller:
        await caller.send(b"x" * 11)
        (told,) = await caller.rest()
        assert "frame_bytes_max" in told["error"]["message"]
        await until(lambda: not server.stats().connections)  # although the caller's side is open


async def test_what_is_closed_while_its_reader_is_slow_is_closed_after_a_while_too() -> None:
    async with served(large, limits=ServerLimits(frame_bytes_max=1_000)) as server, calling(server) as caller:
        await caller.send(grow(20_000_000, 1))
        await caller.reply()
        await caller.send(question("slow") + b"x" * 1_001)
        await until(lambda: only(server).status == "closing" and only(server).slow_since is not None)
        since = only(server).slow_since or 0.0
        sweep(server, since + 29)
        assert server.stats().connections
        sweep(server, since + 31)
        await until(lambda: not server.stats().connections)


@one_process
async def test_the_sweep_is_made_by_itself_and_says_in_one_line_what_was_dropped(
    log_lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.engine.server.sockets._SWEEP_SECONDS", 0.01)
    limits = ServerLimits(idle_seconds_max=0.001)
    async with served(limits=limits) as server, calling(server) as one, calling(server) as two:
        await one.rest()
        await two.rest()
        one.close()
        two.close()
        await until(lambda: not server.stats().connections)
        sweep(server, elapsed())
        sweep(server, elapsed())
    told = [line for line in log_lines if line["event"] == "connections_dropped"]
    assert told == [
        {"event": "connections_dropped", "log_level": "warning", "reason": "idle_seconds_max", "connections": 2}
    ]


# Those who come and go.


async def test_a_flood_of_connections_that_come_and_go_leaves_nothing_behind() -> None:
    async with served(limits=ServerLimits(answer_seconds_max=0.01)) as server:
        async with calling(server) as first:
            await first.call("watch", {"query": STOCK})
            await first.reply()
        await until(lambda: not server.stats().connections)
        before = len(asyncio.all_tasks())
        async with views_held(engine_of(server)):
            await engine_of(server).execute(Add("a", 1))
            for number in range(200):
                async with calling(server) as caller:
                    if number % 4 == 0:
                        await caller.send(request("watch", {"query": STOCK}) + request("follow") + b"{")
                    elif number % 4 == 1:
                        await caller.send(request("ask", {"query": STOCK, "after": 1}))
                    elif number % 4 == 2:
                        await caller.call("health")
                    if number % 8 < 4:
                        caller.vanish()
            await until(lambda: not server.stats().connections)
        await until(lambda: server.stats().accepted == 201)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        async with calling(server) as caller:
            assert (await caller.call("execute", {"command": ADD}))["position"] == 2


async def test_what_a_connection_had_goes_with_it() -> None:
    async with served() as server, calling(server) as other:
        async with calling(server) as caller:
            await caller.call("execute", {"command": ADD, "timeout": 1_000})
            await caller.call("watch", {"query": STOCK})
            await caller.reply()
            await caller.send(request("ask", {"query": STOCK, "after": 99, "timeout": 1_000}))
            await until(lambda: server.stats().in_flight == 1)
            connection = weakref.ref(await only_of(server, caller))
            caller.vanish()
        await until(lambda: server.stats().connections == 1)
        await settled()
        gc.collect()
        assert connection() is None
        assert (await other.call("stats"))["views"]["Shelf"]["watches"] == 0


async def test_a_command_of_one_who_has_gone_before_it_was_decided_never_happens() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as other:
        log.hold()
        await other.send(request("execute", {"command": ADD}))
        await until(lambda: log.appends_started == 1)
        async with calling(server) as caller:
            await caller.send(request("execute", {"command": {**ADD, "count": 100}}) * 3)
            await until(lambda: server.stats().in_flight == 4)
            caller.vanish()
        await until(lambda: server.stats().connections == 1)
        log.release()
        await other.reply()
        answer = await other.call("ask", {"query": STOCK, "after": 1})
        stats = await other.call("stats")
        assert answer["answer"] - 1 in (0, 100, 200, 300)  # what was decided already stands
        assert stats["server"]["in_flight"] == 0


@one_process
async def test_when_the_system_has_no_file_left_it_says_so_and_tries_again(
    log_lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.engine.server.sockets._ACCEPT_RETRY_SECONDS", 0.001)
    loop, fails = asyncio.get_running_loop(), 2
    accept = loop.sock_accept

    async def failing(listening: socket.socket) -> Any:
        nonlocal fails
        if fails:
            fails -= 1
            raise OSError(24, "Too many open files")
        return await accept(listening)

    class Loop:
        """The running loop, but for this."""

        sock_accept = staticmethod(failing)

        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

    monkeypatch.setattr("millstream.engine.server.sockets.asyncio", _Patched(asyncio, Loop()))
    async with served() as server, calling(server) as caller:
        assert (await caller.call("health"))["live"] is True
    assert [line["error"] for line in log_lines if line["event"] == "accept_failed"] == [
        "OSError(24, 'Too many open files')"
    ] * 2


class _Patched:
    """A module whose running loop is another."""

    def __init__(self, module: Any, loop: Any) -> None:
        self._module = module
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return (lambda: self._loop) if name == "get_running_loop" else getattr(self._module, name)
