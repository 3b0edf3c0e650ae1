"""Many commands in one request: one reply with an outcome for each."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.engine import EngineClosed, Limits, Receipt, Rejected
from millstream.engine.server import ServerLimits, Tokens
from tests.engine.server.caller import ADD, STOCK, calling, connections_of, engine_of, request, served, until
from tests.engine.server.test_commands import beside
from tests.support import ScriptedLog, settled

pytestmark = pytest.mark.anyio

NARROW = Limits(mailbox_commands_max=1, batch_commands_max=1)


def add(item: str, count: int = 1) -> dict[str, Any]:
    return {"type": "Add", "item": item, "count": count}


def many(*commands: Any, to: Any = 1, **params: Any) -> bytes:
    return request("execute_many", {"commands": commands, **params}, to)


def positions(reply: Any) -> list[int]:
    return [each["result"]["position"] for each in reply["result"]["outcomes"]]


def codes(reply: Any) -> list[int]:
    return [each["error"]["code"] for each in reply["result"]["outcomes"]]


async def test_each_command_has_its_outcome_in_its_place_as_it_would_have_come_alone() -> None:
    commands = [
        ADD,
        {"type": "Take", "item": "a", "count": 5},
        {**ADD, "count": 0},
        {"type": "Unknown"},
        {"type": "Break", "how": "raise"},
        add("b", 2),
    ]
    async with served() as server, calling(server) as caller, served() as other, calling(other) as alone:
        expected = []
        for command in commands:
            await alone.send(request("execute", {"command": command}))
            reply = await alone.reply()
            expected.append({name: reply[name] for name in ("result", "error") if name in reply})
        outcomes = (await caller.call("execute_many", {"commands": commands}))["outcomes"]
        assert [each["result"].pop("commit") for each in outcomes if "result" in each] == [1, 1]
        assert [each["result"].pop("commit") for each in expected if "result" in each] == [1, 2]
        assert outcomes == expected
        assert server.stats().in_flight == 0


async def test_no_command_at_all_has_no_outcome() -> None:
    async with served() as server, calling(server) as caller:
        assert await caller.call("execute_many", {"commands": []}) == {"outcomes": []}
        assert (await caller.call("execute_many", {"commands": [7]}))["outcomes"] == [
            {"error": {"code": -32602, "message": "a command is an object, not int: `$.commands[0]`"}}
        ]


async def test_ids_and_metadata_are_kept_with_each_command() -> None:
    async with served() as server, calling(server) as caller:
        given = {"commands": [ADD, ADD, ADD], "command_ids": ["one", "two", "three"], "metadata": {"actor": "ann"}}
        first = (await caller.call("execute_many", given))["outcomes"]
        ids = ["one", "four", "three"]
        again = (await caller.call("execute_many", {**given, "command_ids": ids, "timeout": 60}))["outcomes"]
        told = [
            (each["result"]["position"], each["result"]["command_id"], each["result"]["repeated"]) for each in first
        ]
        assert told == [(1, "one", False), (2, "two", False), (3, "three", False)]
        told = [
            (each["result"]["position"], each["result"]["command_id"], each["result"]["repeated"]) for each in again
        ]
        assert told == [(1, "one", True), (4, "four", False), (3, "three", True)]
        as_another = {**given, "metadata": {"actor": "bob"}, "command_ids": ["one", "", "x" * 201]}
        await caller.send(request("execute_many", as_another))
        assert codes(await caller.reply()) == [1005, 1002, 1002]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"commands": [ADD, ADD], "command_ids": ["one"]}, 1002),
        ({"commands": [ADD, ADD], "command_ids": ["one", None]}, 1002),
        ({"commands": [ADD], "metadata": {"actor": "x" * 5_000}}, 1002),
        ({"commands": [ADD] * 5}, -32602),
        ({"commands": [ADD, 7, ADD, ADD, ADD]}, -32602),
        ({"commands": [ADD], "expected_version": 1}, -32602),
        ({"commands": [ADD], "timeout": "soon"}, -32602),
    ],
)
async def test_what_is_wrong_with_all_of_them_is_told_before_one_is_decided(params: Any, code: int) -> None:
    async with served(limits=ServerLimits(in_flight_max=4)) as server, calling(server) as caller:
        assert (await caller.call("execute_many", params))["code"] == code
        assert (await caller.call("execute", {"command": ADD}))["position"] == 1
        assert server.stats().in_flight == 0


async def test_a_reader_may_not() -> None:
    tokens = Tokens(["reader:0123456789abcdef"])
    async with served(tokens=tokens) as server, calling(server) as caller:
        await caller.call("authenticate", {"token": "0123456789abcdef"})
        assert (await caller.call("execute_many", {"commands": [ADD]}))["data"]["error"] == "NotPermitted"


async def test_without_an_id_nobody_hears_of_it_and_it_is_done() -> None:
    async with served() as server, calling(server) as caller:
        await caller.send(many(ADD, ADD, to=...) + request("ask", {"query": STOCK, "after": 2}, 2))
        assert (await caller.reply())["id"] == 2
        assert server.stats().in_flight == 0


async def test_in_a_batch_it_is_one_of_its_replies() -> None:
    async with served() as server, calling(server) as caller:
        lines = [many(ADD, 7, to="a"), request("ask", {"query": STOCK}, "b"), many(ADD, to="c")]
        await caller.send(b"[" + b",".join(each.strip() for each in lines) + b"]\n")
        replies = {each["id"]: each for each in await caller.reply()}
        assert list(replies) == ["b", "a", "c"]
        assert replies["a"]["result"]["outcomes"][0]["result"]["position"] == 1
        assert positions(replies["c"]) == [2]


async def test_each_command_counts_as_a_request_in_flight_until_the_reply_to_all() -> None:
    log = ScriptedLog()
    limits = Limits(batch_commands_max=1)
    async with (
        served(log=log, engine_limits=limits, limits=ServerLimits(in_flight_max=4)) as server,
        calling(server) as caller,
    ):
        log.hold()
        await caller.send(many(ADD, ADD, ADD, 7) + many(ADD, ADD, to=2) + request("ask", {"query": STOCK}, 3))
        await until(lambda: log.appends_started == 1)
        await settled()
        assert server.stats().in_flight == 4
        assert len(engine_of(server).admission.mailbox.queue) <= 3
        log.release()
        assert [each["id"] for each in await caller.replies(3)] == [1, 3, 2]
        assert server.stats().in_flight == 0


async def test_those_that_find_no_room_wait_at_the_door_and_others_get_in_between() -> None:
    log = ScriptedLog()
    async with (
        served(log=log, engine_limits=NARROW) as server,
        calling(server) as caller,
        calling(server) as other,
    ):
        log.hold()
        await caller.send(many(*[ADD] * 150))
        await until(lambda: log.appends_started == 1 and server.stats().in_flight == 64)
        await other.send(request("execute", {"command": ADD}))
        await until(lambda: server.stats().in_flight == 64 + 1)
        log.release()
        assert (await other.reply())["result"]["position"] <= 6
        found = positions(await caller.reply())
        assert len(found) == 150
        assert found == sorted(found)


async def test_a_long_request_is_taken_up_in_turns() -> None:
    limits = ServerLimits(turn_ms_max=1e-6)
    async with served(limits=limits) as server, calling(server) as caller, calling(server) as other:
        await caller.call("health")
        await other.call("health")
        caller.push(many(*[ADD] * 1_000))
        other.push(request("execute", {"command": ADD}))
        assert (await other.reply())["result"]["position"] < 1_000
        assert len(positions(await caller.reply())) == 1_000


async def test_when_their_time_is_over_each_says_whether_it_stands() -> None:
    log = ScriptedLog()
    async with served(log=log, engine_limits=NARROW) as server, calling(server) as caller:
        log.hold()
        await caller.send(many(*[ADD] * 4, 7, timeout=0.3))
        reply = await caller.reply()
        assert codes(reply) == [2002] * 4 + [-32602]
        told = [each["error"]["data"] for each in reply["result"]["outcomes"][:4]]
        assert [each["decided"] for each in told] == [True, True, False, False]
        assert {(each["command"], each["timeout_seconds"]) for each in told} == {("Add", 0.3)}
        assert server.stats().in_flight == 0
        log.release()
        assert (await caller.call("execute", {"command": ADD}))["position"] == 3


async def test_those_that_are_known_when_the_time_is_over_are_told() -> None:
    log = ScriptedLog()
    async with served(log=log, engine_limits=Limits(batch_commands_max=1)) as server, calling(server) as caller:
        log.hold()
        await caller.send(request("execute", {"command": ADD}, 0) + many(ADD, 7, ADD, ADD, timeout=0.3))
        await until(lambda: log.appends_started == 1)
        log.release()
        log.hold()
        assert (await caller.reply())["id"] == 0
        outcomes = (await caller.reply())["result"]["outcomes"]
        assert [each.get("error", {}).get("code") for each in outcomes][1:] == [-32602, 2002, 2002]
        log.release()


async def test_an_engine_that_closes_tells_each_that_it_takes_none() -> None:
    log = ScriptedLog()
    async with served(log=log, engine_limits=NARROW) as server, calling(server) as caller:
        log.hold()
        await caller.send(many(*[ADD] * 5))
        await until(lambda: log.appends_started == 1 and server.stats().in_flight == 5)
        await settled()
        engine_of(server).admission.mailbox.close(lambda: EngineClosed("closing"))
        log.release()
        outcomes = (await caller.reply())["result"]["outcomes"]
        assert [each["result"]["position"] for each in outcomes[:3]] == [1, 2, 3]
        assert [each["error"]["data"] for each in outcomes[3:]] == [{"error": "EngineClosed", "state": "closing"}] * 2
        await caller.send(many(ADD, 7, ADD))
        assert codes(await caller.reply()) == [2006, -32602, 2006]
        assert server.stats().in_flight == 0


async def test_of_one_who_is_gone_nothing_is_left_and_what_was_not_decided_never_is() -> None:
    log = ScriptedLog()
    async with served(log=log, engine_limits=NARROW) as server:
        log.hold()
        async with calling(server) as caller:
            await caller.send(many(*[ADD] * 200, timeout=60))
            await until(lambda: log.appends_started == 1)
            await settled()
            (connection,) = connections_of(server)
            connection.abort("slow_seconds_max")
            await until(lambda: not server.stats().connections)
        log.release()
        async with calling(server) as caller:
            assert (await caller.call("execute", {"command": ADD}))["position"] <= 4
        commands = server._methods.commands
        assert commands is not None
        assert not commands._held
        assert not commands._begun


async def test_large_ones_are_bounded_by_their_bytes() -> None:
    log = ScriptedLog()
    engine_limits = Limits(mailbox_bytes_max=100_000, batch_commands_max=1)
    note = {"type": "Note", "text": "x" * 40_000}
    async with served(log=log, engine_limits=engine_limits) as server, calling(server) as caller:
        log.hold()
        await caller.send(request("execute", {"command": ADD}) * 2 + many(*[note] * 5, to=2))
        await until(lambda: log.appends_started == 1)
        await settled()
        mailbox = engine_of(server).admission.mailbox
        assert 80_000 < mailbox.size_bytes <= 100_000
        log.release()
        assert positions((await caller.replies(3))[2]) == [3, 4, 5, 6, 7]
        await until(lambda: mailbox.size_bytes == 0)


# Behind a replica.


async def test_a_replica_passes_on_what_is_a_command_and_puts_the_outcomes_in_their_places() -> None:
    async with beside() as (backend, server), calling(server) as caller:
        given: list[Any] = []

        async def execute_many(commands: Any, **terms: Any) -> Any:
            given.append((list(commands), terms))
            return [Receipt(1, 1, 1, "a"), Rejected("no")]

        backend.execute_many = execute_many  # type: ignore[attr-defined]
        await caller.send(many(ADD, 7, ADD, command_ids=["a", "b", "c"], timeout=3, metadata={"actor": "ann"}))
        outcomes = (await caller.reply())["result"]["outcomes"]
        assert [each.get("error", {}).get("code") for each in outcomes] == [None, -32602, 1001]
        ((commands, terms),) = given
        assert str(commands) == "[Add(item='a', count=1), Add(item='a', count=1)]"
        assert (terms["command_ids"], terms["timeout"], terms["metadata"].actor) == (["a", "c"], 3.0, "ann")
        assert server.stats().in_flight == 0


async def test_a_replica_passes_on_no_more_commands_than_may_be_under_way() -> None:
    async with beside(ServerLimits(forwards_max=4, in_flight_max=100)) as (_, server), calling(server) as caller:
        full = await caller.call("execute_many", {"commands": [ADD] * 5})
        assert full["data"] == {"error": "LimitReached", "limit": "forwards_max", "value": 4, "held": None}
        assert server.stats().in_flight == 0


async def test_an_error_of_all_that_were_passed_on_is_the_reply() -> None:
    async with beside() as (backend, server), calling(server) as caller:

        async def execute_many(commands: Any, **terms: Any) -> Any:
            raise EngineClosed("closed")

        backend.execute_many = execute_many  # type: ignore[attr-defined]
        assert (await caller.call("execute_many", {"commands": [ADD]}))["code"] == 2006
        assert server.stats().in_flight == 0


async def test_no_more_is_in_flight_than_may_be_where_one_request_has_several_commands() -> None:
    log, limits = ScriptedLog(), ServerLimits(in_flight_max=8)
    async with served(log=log, limits=limits) as server, calling(server) as caller:
        await caller.call("health")
        log.hold()
        (connection,) = connections_of(server)
        for number in range(5):
            await caller.send(request("execute", {"command": ADD}, number))
        await caller.send(many(*[ADD] * 4, to="four") + many(*[ADD] * 9, to="too many"))
        await until(lambda: connection.in_flight >= 5)
        await settled()
        assert connection.in_flight <= 8
        log.release()
        replies = {each["id"]: each for each in await caller.replies(7)}
        assert positions(replies["four"]) == [6, 7, 8, 9]
        assert "at most in_flight_max=8 commands in one request" in replies["too many"]["error"]["message"]
        assert connection.in_flight == 0
