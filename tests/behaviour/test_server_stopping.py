from __future__ import annotations

import asyncio
import socket
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import Engine, EngineClosed, Limits
from millstream.engine.server import Server, ServerLimits
from tests.engine.server.caller import ADD, STOCK, calling, request, until
from tests.shop import Add, shop
from tests.support import ScriptedLog, settled, views_held

pytestmark = pytest.mark.anyio

HERE = ("tcp://127.0.0.1:0",)


async def is_deaf(address: Any) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as connection:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (address.host, address.port))
        except ConnectionRefusedError:
            return True
        return False


async def test_what_was_taken_is_answered_before_the_connection_ends_and_nobody_new_is_taken_in() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        server = Server(engine, listen=HERE)
        await server.__aenter__()
        async with calling(server) as caller, calling(server) as idle:
            await idle.call("health")
            log.hold()
            await caller.send(b"".join(request("execute", {"command": ADD}, number) for number in range(5)))
            await caller.send(request("ask", {"query": STOCK, "after": 5}, "asked"))
            await until(lambda: server.stats().in_flight == 6)
            group.start_soon(server.__aexit__, None, None, None)
            assert await idle.rest() == []  # who waits for nothing is let go at once
            assert await is_deaf(server.addresses[0])
            log.release()
            replies = await caller.rest()
            assert [each["id"] for each in replies] == [0, 1, 2, 3, 4, "asked"]
            assert replies[-1]["result"] == {"answer": 5, "position": 5}
    assert server.connections == set()


async def test_requests_that_were_read_and_not_taken_up_yet_are_answered_too() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        server = Server(engine, listen=HERE, limits=ServerLimits(in_flight_max=2))
        await server.__aenter__()
        async with calling(server) as caller:
            log.hold()
            await caller.send(b"".join(request("execute", {"command": ADD}, number) for number in range(50)))
            await until(lambda: server.stats().in_flight == 2)
            group.start_soon(server.__aexit__, None, None, None)
            await settled()
            log.release()
            assert [each["result"]["position"] for each in await caller.rest()] == list(range(1, 51))


async def test_commands_that_wait_at_the_door_of_a_full_mailbox_are_let_in_and_answered() -> None:
    log, limits = ScriptedLog(), Limits(mailbox_commands_max=1, batch_commands_max=1)
    async with Engine(shop, log=log, limits=limits) as engine, anyio.create_task_group() as group:
        server = Server(engine, listen=HERE)
        await server.__aenter__()
        async with calling(server) as caller:
            log.hold()
            await caller.send(b"".join(request("execute", {"command": ADD}, number) for number in range(9)))
            await until(lambda: any(each.is_held for each in server.connections))
            group.start_soon(server.__aexit__, None, None, None)
            await settled()
            log.release()
            assert [each["result"]["position"] for each in await caller.rest()] == list(range(1, 10))


async def test_watches_are_told_and_so_is_one_that_was_just_asked_for() -> None:
    async with Engine(shop, log="memory:") as engine, anyio.create_task_group() as group:
        server = Server(engine, listen=HERE)
        await server.__aenter__()
        async with calling(server) as caller:
            await caller.call("watch", {"query": STOCK})
            await caller.reply()
            await caller.call("follow")
            async with views_held(engine):
                receipt = await engine.execute(Add("a", 1))
                await caller.reply()
                await caller.send(request("watch", {"query": STOCK, "after": receipt.position}, "never"))
                await until(lambda: server.stats().watches == 3)
                group.start_soon(server.__aexit__, None, None, None)
                told = await caller.rest()
            closing = {"error": "EngineClosed", "state": "closing"}
            ended = {
                each["method"]: (each["params"]["watch"], each["params"]["error"]["data"])
                for each in told
                if "method" in each
            }
            assert ended == {"watch": (1, closing), "follow": (2, closing)}
            assert [each["error"]["data"] for each in told if "id" in each] == [closing]


WATCHES = request("watch", {"query": STOCK}, "w") + request("follow", {}, "f")


def refused(reply: dict[str, Any]) -> bool:
    return reply["id"] in "wf" and bool(reply["error"]["data"]["error"] == "EngineClosed")


async def test_a_watch_that_is_taken_up_when_the_server_stops_already_is_refused() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        server = Server(engine, listen=HERE, limits=ServerLimits(in_flight_max=1))
        await server.__aenter__()
        async with calling(server) as caller:
            log.hold()
            await caller.send(request("execute", {"command": ADD}, 1) + WATCHES)
            await until(lambda: server.stats().in_flight == 1)
            group.start_soon(server.__aexit__, None, None, None)
            await settled()
            log.release()
            first, *others = await caller.rest()
            assert first["result"]["position"] == 1
            assert [refused(each) for each in others] == [True, True]


async def test_one_that_goes_on_sending_hears_all_answers_to_what_was_read_and_then_the_end() -> None:
    async with Engine(shop, log="memory:") as engine:
        server = Server(engine, listen=HERE, limits=ServerLimits(linger_seconds_max=0.01))
        await server.__aenter__()
        async with calling(server) as caller, anyio.create_task_group() as group:

            async def send_on() -> None:
                for number in count():
                    await caller.send(request("execute", {"command": ADD}, number))
                    await anyio.lowlevel.checkpoint()

            group.start_soon(send_on)
            assert (await caller.reply())["id"] == 0
            group.start_soon(server.__aexit__, None, None, None)
            ids = [each["id"] for each in await caller.rest()]
            assert ids == list(range(1, len(ids) + 1))
            assert engine.position == len(ids) + 1  # nothing happened that was not answered
            group.cancel_scope.cancel()


async def test_what_takes_longer_than_stopping_may_take_is_cut_off_and_counted(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine:
        limits = ServerLimits(drain_seconds_max=0.01, linger_seconds_max=0.01)
        async with Server(engine, listen=HERE, limits=limits) as server, calling(server) as caller:
            log.hold()
            await caller.send(request("execute", {"command": ADD}))
            await until(lambda: server.stats().in_flight == 1)
            await server.__aexit__(None, None, None)
            assert await caller.rest() == []
            log.release()
            await until(lambda: engine.position == 1)  # it was decided, so it stands
    (told,) = [line for line in log_lines if line["event"] == "server_stopped"][:1]
    assert (told["connections"], told["connections_lost"]) == (1, 1)


async def test_one_that_does_not_close_its_side_is_waited_for_a_moment_only() -> None:
    async with Engine(shop, log="memory:") as engine:
        async with Server(engine, listen=HERE, limits=ServerLimits(linger_seconds_max=0.05)) as server:
            connection = socket.create_connection((server.addresses[0].host, server.addresses[0].port))
            await until(lambda: len(server.connections) == 1)
        with connection:
            assert connection.recv(10) == b""


async def test_a_server_is_served_once_and_left_in_any_way() -> None:
    async with Engine(shop, log="memory:") as engine:
        server = Server(engine, listen=HERE)
        with pytest.raises(ZeroDivisionError):
            async with server:
                raise ZeroDivisionError
        with pytest.raises(EngineClosed, match="served already"):
            await server.__aenter__()


async def test_stopping_is_not_interrupted_by_who_cancels_it() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        server = Server(engine, listen=HERE)
        entered = anyio.Event()

        async def serve(scope: anyio.CancelScope) -> None:
            with scope:
                async with server:
                    entered.set()
                    await anyio.sleep_forever()

        scope = anyio.CancelScope()
        group.start_soon(serve, scope)
        await entered.wait()
        async with calling(server) as caller:
            log.hold()
            await caller.send(request("execute", {"command": ADD}))
            await until(lambda: server.stats().in_flight == 1)
            scope.cancel()
            await settled()
            log.release()
            assert [each["result"]["position"] for each in await caller.rest()] == [1]


async def test_an_engine_that_is_closed_under_its_server_answers_that_it_is() -> None:
    engine = Engine(shop, log="memory:")
    await engine.__aenter__()
    async with Server(engine, listen=HERE) as server, calling(server) as caller:
        await caller.call("watch", {"query": STOCK})
        await caller.reply()
        await engine.__aexit__(None, None, None)
        assert (await caller.reply())["params"]["error"]["data"]["error"] == "EngineClosed"
        for method, params in (("execute", {"command": ADD}), ("ask", {"query": STOCK}), ("watch", {"query": STOCK})):
            assert (await caller.call(method, params))["data"]["error"] == "EngineClosed"
        health = await caller.call("health")
        assert (health["live"], health["ready"]) == (True, False)
        assert health["reasons"][0] == "it is closed"


async def test_nothing_is_left_of_a_server_that_has_stopped(tmp_path: Path) -> None:
    async with Engine(shop, log="memory:") as engine:
        before = asyncio.all_tasks()
        path = tmp_path / "socket"
        async with Server(engine, listen=[*HERE, f"unix://{path}"]) as server:
            async with calling(server, 1) as caller:
                await caller.send(request("ask", {"query": STOCK, "after": 1}))
                await until(lambda: server.stats().in_flight == 1)
            assert path.is_socket()
            await engine.execute(Add("a", 1))
            await until(lambda: not server.connections)
        assert not path.exists()
        await until(lambda: asyncio.all_tasks() <= before)


async def test_one_who_says_that_nothing_more_comes_still_hears_all_answers() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, Server(engine, listen=HERE) as server, calling(server) as caller:
        log.hold()
        await caller.send(b"".join(request("execute", {"command": ADD}, number) for number in range(200)))
        await caller.send(request("watch", {"query": STOCK}, "w") + b'{"cut":')
        await until(lambda: log.appends_started == 1)
        caller.finish()
        await until(lambda: all(each.status == "ending" for each in server.connections))
        log.release()
        replies = [each for each in await caller.rest() if "id" in each]
        assert [each["id"] for each in replies if each["id"] != "w"] == list(range(200))
        await until(lambda: not server.connections)
        assert server.stats().dropped == {}
