"""The client and the server together: who may come in, what restarts do, and what the one has that the other lacks."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from millstream.engine import App, Engine, Limits
from millstream.engine.client import Client, ClientLimits, Link, client_tls
from millstream.engine.client.subscriptions import Policy
from millstream.engine.errors import (
    ConnectionLost,
    DeadlineExceeded,
    DefinitionError,
    LimitReached,
    NotAuthenticated,
    NotPermitted,
    ProtocolViolated,
)
from millstream.engine.server import Server, ServerLimits, Tokens, tls_context
from millstream.engine.stores.memory import MemoryLog, MemoryStore
from tests.certificates import Certificates
from tests.engine.client.peer import until
from tests.shop import Add, Everything, Note, Notes, StockOf, shop
from tests.support import ScriptedLog, start
from tests.views.table_rows import Free, Place, SeatRow
from tests.views.table_rows import app as table

pytestmark = pytest.mark.anyio

QUICK = ClientLimits(retry_seconds_min=0.001, retry_seconds_max=0.01)
READER, WRITER = "reader-token-1234", "writer-token-1234"


@asynccontextmanager
async def served(
    store: MemoryStore | None = None, address: str = "tcp://127.0.0.1:0", app: App = shop, **options: Any
) -> AsyncIterator[str]:
    async with (
        Engine(app, log=MemoryLog(store or MemoryStore())) as engine,
        Server(engine, listen=[address], **options) as server,
    ):
        yield str(server.addresses[0])


# Who may come in.


async def test_a_token_is_as_good_as_its_role() -> None:
    tokens = Tokens([f"reader:{READER}", f"writer:{WRITER}"])
    async with served(tokens=tokens) as address:
        async with Client(address, token=WRITER) as writer, Client(address, token=READER) as reader:
            receipt = await writer.execute(Add("a", 1))
            assert await reader.ask(StockOf("a"), after=receipt) == 1
            with pytest.raises(NotPermitted, match="role 'reader' may not call 'execute'"):
                await reader.execute(Add("a", 1))
            (outcome,) = await reader.execute_many([Add("a", 1)])
            assert isinstance(outcome, NotPermitted)
        async with Client(address) as nobody:
            with pytest.raises(NotAuthenticated, match="no token was given"):
                await nobody.ask(StockOf("a"))
            with pytest.raises(NotAuthenticated):
                async with nobody.watch(StockOf("a")):
                    pass
        with pytest.raises(NotAuthenticated, match="the token is not known") as raised:
            async with Client(address, token="x" * 20):
                pass
        assert "xxx" not in str(raised.value)


async def test_tls_lets_nobody_in_whom_the_other_side_does_not_know(tmp_path: Path) -> None:
    certificates = Certificates.made_in(tmp_path)
    server = tls_context(certificates.server, clients=certificates.authority)
    known = client_tls(certificates.authority, certificates.client)
    async with served(address="tls://127.0.0.1:0", tls=server) as address:
        async with Client(address, tls=known) as client:
            receipt = await client.execute(Add("a", 1))
            assert await client.ask(StockOf("a"), after=receipt) == 1
            outcomes = await client.execute_many([Note("x" * 10_000)] * 200)
            assert len(await client.ask(Notes(), after=receipt.position + 200)) == 200
            assert len(outcomes) == 200
        refused: list[tuple[ssl.SSLContext | None, str]] = [
            (client_tls(certificates.other_authority, certificates.client), "certificate verify failed"),
            (client_tls(certificates.authority), "no connection to tls:"),
            (client_tls(certificates.authority, certificates.stranger), "no connection to tls:"),
            (None, "certificate verify failed"),
        ]
        for tls, why in refused:
            with pytest.raises(ConnectionLost, match=why):
                async with Client(address, tls=tls, limits=ClientLimits(reconnect_seconds_max=0.01)) as client:
                    await client.ask(StockOf("a"))


def test_tls_that_can_not_be_set_up_says_with_what(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"TLS can't be set up with .*nothing\.pem"):
        client_tls(tmp_path / "nothing.pem")
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(DefinitionError, match=r"empty\.pem"):
        client_tls(None, tmp_path / "empty.pem")


async def test_a_full_server_takes_a_client_in_when_there_is_room() -> None:
    async with served(limits=ServerLimits(connections_max=1)) as address, Client(address) as first:
        await first.execute(Add("a", 1))
        async with Client(address, limits=QUICK) as second, anyio.create_task_group() as group:
            outcome = start(group, second.execute(Add("a", 1)))
            with anyio.move_on_after(0.05):
                await until(lambda: outcome.settled)
            assert not outcome.settled
            await first.__aexit__(None, None, None)
            await until(lambda: outcome.settled)
            assert outcome.value.position == 2


# Restarts.


async def test_a_watch_goes_on_when_the_server_was_stopped_and_started_again() -> None:
    store, given = MemoryStore(), list[Any]()

    async def watch(client: Client) -> None:
        async with client.watch(StockOf("a")) as answers:
            async for answered in answers:
                given.append((answered.answer, answered.position))

    async with anyio.create_task_group() as group:
        async with served(store) as address:
            client = Client(address, limits=QUICK)
            await client.__aenter__()
            group.start_soon(watch, client)
            await client.execute(Add("a", 1))
            await until(lambda: given and given[-1] == (1, 1))
        async with served(store, address):
            assert await client.ask(StockOf("a")) == 1
        async with served(store, address):
            await client.execute(Add("b", 1))
            await client.execute(Add("a", 1))
            await until(lambda: given[-1] == (2, 3))
        assert given == sorted(set(given))
        group.cancel_scope.cancel()
    await client.__aexit__(None, None, None)


async def test_a_watch_of_rows_has_all_of_them_again_after_a_restart_and_where_it_was_too_slow() -> None:
    store, limits = MemoryStore(), ClientLimits(retry_seconds_min=0.001, retry_seconds_max=0.01, stream_pages_max=2)
    async with AsyncExitStack() as stack:
        async with served(store, app=table()) as address:
            client = await stack.enter_async_context(Client(address, limits=limits))
            changes = await stack.enter_async_context(client.watch_rows(Free()))
            assert (await anext(changes)).whole
            await client.execute(Place("a1", "hamlet", 5))
            assert [row.seat for row in (await anext(changes)).put] == ["a1"]
        async with served(store, address, app=table()):
            change = await anext(changes)
            assert (change.whole, [row.seat for row in change.put]) == (True, ["a1"])
            for number in range(2, 9):
                receipt = await client.execute(Place(f"a{number}", "hamlet", 5))
                assert await client.ask(Free(), after=receipt)
            shown: dict[str, SeatRow] = {row.seat: row for row in change.put}
            wholes = 0
            while len(shown) < 8:
                change = await anext(changes)
                wholes += change.whole
                shown = {} if change.whole else shown
                shown.update((row.seat, row) for row in change.put)
            assert wholes


async def test_what_is_sent_while_the_server_is_away_is_executed_when_it_is_back() -> None:
    store = MemoryStore()
    async with served(store) as address:
        client = Client(address, limits=QUICK)
        await client.__aenter__()
        await client.execute(Add("a", 1))
    async with anyio.create_task_group() as group:
        outcomes = [start(group, client.execute(Add("a", 1))) for _ in range(5)]
        many = start(group, client.execute_many([Add("a", 1)] * 5))
        async with served(store, address):
            await until(lambda: many.settled and all(outcome.settled for outcome in outcomes))
            assert await client.ask(StockOf("a"), after=11) == 11
            await client.__aexit__(None, None, None)


async def test_a_command_behind_one_that_finds_no_room_is_in_doubt_when_its_time_is_over() -> None:
    """The server has not looked at it yet, and so can't tell; it is not said that it never happens."""
    log = ScriptedLog()
    async with (
        Engine(shop, log=log, limits=Limits(mailbox_commands_max=1, batch_commands_max=1)) as engine,
        Server(engine, listen=["tcp://127.0.0.1:0"]) as server,
        Client(server.addresses[0], limits=ClientLimits(late_seconds_max=0.05)) as client,
        anyio.create_task_group() as group,
    ):
        log.hold()
        each = [start(group, client.execute(Add("a", 1), timeout=0.5)) for _ in range(6)]
        await until(lambda: all(outcome.settled for outcome in each))
        log.release()
        errors = [outcome.error for outcome in each]
        late = [error.decided for error in errors if isinstance(error, DeadlineExceeded)]
        doubted = [error.sent for error in errors if isinstance(error, ConnectionLost)]
        assert [type(error) for error in errors] == [DeadlineExceeded] * 4 + [ConnectionLost] * 2
        assert (late, doubted) == ([True, True, False, False], [True, True])


async def test_of_commands_in_one_request_the_server_can_tell_of_each_whether_it_stands() -> None:
    log = ScriptedLog()
    async with (
        Engine(shop, log=log, limits=Limits(mailbox_commands_max=1, batch_commands_max=1)) as engine,
        Server(engine, listen=["tcp://127.0.0.1:0"]) as server,
        Client(server.addresses[0]) as client,
    ):
        log.hold()
        outcomes = await client.execute_many([Add("a", 1)] * 100, timeout=0.5)
        log.release()
        assert {type(outcome) for outcome in outcomes} == {DeadlineExceeded}
        decided = [outcome.decided for outcome in outcomes if isinstance(outcome, DeadlineExceeded)]
        assert decided == [True, True] + [False] * 98
        assert (await client.execute(Add("a", 1))).position == 3


# Bounds.


async def test_a_command_that_is_too_long_for_the_server_is_refused_before_it_costs_the_connection() -> None:
    async with served() as address, Client(address) as client:
        with pytest.raises(
            ProtocolViolated, match="a line is longer than frame_bytes_max=1,048,576: split the request"
        ):
            await client.execute(Note("x" * 1024 * 1024))
        outcomes = await client.execute_many([Note("x" * 1024 * 1024), Add("a", 1)])
        assert [type(outcome).__name__ for outcome in outcomes] == ["ProtocolViolated", "Receipt"]
        await client.execute(Note("x" * 1_000_000))


async def test_a_command_that_the_server_would_not_read_does_not_go_back_and_forth_for_ever() -> None:
    async with served(limits=ServerLimits(frame_bytes_max=1_000)) as address, Client(address, limits=QUICK) as client:
        with pytest.raises(ConnectionLost, match="a line is longer than frame_bytes_max=1,000: split the request"):
            await client.execute(Note("x" * 2_000), command_id="long")
        assert (await client.execute(Add("a", 1))).position == 1


async def test_answers_may_be_much_longer_than_requests() -> None:
    async with served() as address, Client(address) as client:
        await client.execute_many([Note(f"{number:4}" * 25_000) for number in range(40)])
        notes = await client.ask(Notes(), after=40)
        assert [len(note) for note in notes] == [100_000] * 40


async def test_a_connection_has_as_many_watches_as_the_server_lets_it() -> None:
    async with served(limits=ServerLimits(connection_watches_max=1)) as address, Client(address) as client:
        async with client.watch(Everything()):
            with pytest.raises(LimitReached, match="connection_watches_max=1"):
                async with client.watch(StockOf("a")):
                    pass
        async with client.watch(StockOf("a")) as answers:
            assert (await anext(answers)).answer == 0


# Raw calls.


async def test_any_method_of_the_protocol_can_be_called() -> None:
    async with served() as address, Link(address) as link:
        health = msgspec.json.decode(await link.call("health"))
        assert (health["live"], health["ready"], health["position"]) == (True, True, 0)
        command = {"type": "Add", "item": "a", "count": 2}
        receipt = msgspec.json.decode(await link.call("execute", {"command": command, "command_id": "x"}))
        assert (receipt["position"], receipt["command_id"]) == (1, "x")
        answer = await link.call("ask", {"query": {"type": "StockOf", "item": "a"}, "after": 1}, timeout=5)
        assert msgspec.json.decode(answer) == {"answer": 2, "position": 1}
        assert msgspec.json.decode(await link.call("describe"))["openrpc"] == "1.3.2"
        with pytest.raises(ProtocolViolated, match="there is no method 'dance'"):
            await link.call("dance")


async def test_the_log_can_be_followed_over_a_restart_without_a_gap() -> None:
    store, positions = MemoryStore(), list[int]()

    async def follow(link: Link) -> None:
        stream = await link.subscribe("follow", {"keys": ["a"]}, after=1, policy=Policy.STREAM)
        while True:
            told = await stream.next()
            positions.extend(event["position"] for event in msgspec.json.decode(told.content))

    async with anyio.create_task_group() as group:
        async with served(store) as address:
            client = Client(address, limits=QUICK)
            await client.__aenter__()
            await client.execute_many([Add("a", 1), Add("b", 1), Add("a", 1)])
            group.start_soon(follow, client.link)
            await until(lambda: len(positions) == 1)
        async with served(store, address):
            await client.execute_many([Add("a", 1), Add("b", 1), Add("a", 1)])
            await until(lambda: len(positions) == 3)
        group.cancel_scope.cancel()
    await client.__aexit__(None, None, None)
    assert positions == [3, 4, 6]
