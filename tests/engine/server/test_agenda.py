"""A running server's agenda, over its socket: what is shown of it to whom, and what becomes of an entry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from millstream.engine import Engine, Limits, MemoryLog, Replica
from millstream.engine.client import Client
from millstream.engine.server import Server, ServerLimits, Tokens
from millstream.handlers import Unschedule
from tests.engine.server import caller as caller_module
from tests.engine.server.caller import Caller, calling, engine_of, request, served, until
from tests.handlers.test_timers import START, plans, theatre
from tests.outside import Bank, Buy, Confirm, Payments, bugs
from tests.outside import shop as outside
from tests.selling import Order, selling
from tests.support import ScriptedLog, agenda_of, settled

pytestmark = pytest.mark.anyio

REACTION = "event:1/Selling.hold_seats"
TOKENS = Tokens(["reader:a token for reading", "writer:a token for writing"])


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    bugs.clear()


async def hold(caller: Caller, *orders: str) -> None:
    for order in orders:
        await caller.call("execute", {"command": {"type": "Hold", "show": "s", "order": order, "seconds": 600}})


def ids(page: Any) -> list[str]:
    return [entry["id"] for entry in page["entries"]]


# What is shown.


async def test_a_timer_is_shown_with_its_command_and_when_it_is_due_and_how_many_entries_there_are() -> None:
    async with Engine(theatre, log="memory:", clock=lambda: START) as engine:
        fronts = caller_module.fronts
        async with Server(engine, listen=["tcp://127.0.0.1:0"], fronts=fronts) as server, calling(server) as caller:
            assert await caller.call("agenda") == {
                "entries": [], "next": None, "total": 0, "parked": 0, "position": 0,
            }  # fmt: skip
            command = {"type": "Hold", "show": "s", "order": "o1", "seconds": 60}
            await caller.call("execute", {"command": command, "metadata": {"actor": "ann"}})
            page = await caller.call("agenda")
            assert (page["next"], page["total"], page["parked"], page["position"]) == (None, 1, 0, 1)
            (timer,) = page["entries"]
            assert {**timer, "metadata": timer["metadata"]["actor"]} == {
                "id": "timer:hold/o1@s",
                "kind": "timer",
                "type": "Release",
                "parked": False,
                "title": "hold/o1",
                "scope": "s",
                "due": "2026-01-01T00:01:00.000000Z",
                "commit": 1,
                "command": {"type": "Release", "show": "s", "order": "o1"},
                "metadata": "ann",
            }


async def test_what_is_parked_is_shown_with_its_event_and_what_went_wrong() -> None:
    async with served(selling) as server, calling(server) as caller:
        for order, show in (("o1", "fire"), ("o2", "stray")):
            await caller.call("execute", {"command": {"type": "Place", "order": order, "show": show, "count": 1}})
        page = await caller.call("agenda", {"parked": True})
        assert (page["total"], page["parked"], ids(page)) == (2, 2, [REACTION, "event:2/Selling.hold_seats"])
        first, second = page["entries"]
        assert (first["kind"], first["type"], first["position"], first["by"], first["parked"]) == (
            "event", "Placed", 1, "Selling.hold_seats", True,
        )  # fmt: skip
        assert first["event"] == {"type": "Placed", "order": "o1", "show": "fire", "count": 1}
        assert (first["error"], first["text"], "decided" in first) == ("KeyError", "KeyError('a bug')", False)
        assert (second["error"], second["decided"]) == ("UnknownMessage", 1)
        assert ids(await caller.call("agenda", {"parked": False})) == []
        assert ids(await caller.call("agenda", {"kind": "timer"})) == []
        assert (await caller.call("agenda", {"entry": REACTION}))["entries"] == [first]


@asynccontextmanager
async def a_shop(bank: Bank) -> AsyncIterator[tuple[Engine, Server]]:
    async with (
        Engine(outside, log="memory:", effects=[Payments(bank)]) as engine,
        Server(engine, listen=["tcp://127.0.0.1:0"], fronts=caller_module.fronts, tokens=TOKENS) as server,
    ):
        yield engine, server


async def test_a_reader_sees_events_and_no_commands_and_decides_nothing() -> None:
    bank = Bank()
    bank.fails["o1"] = 1
    bank.says["o2"] = Confirm("o2", "c2")
    bugs["o2"] = "raises"
    async with a_shop(bank) as (engine, server), calling(server) as caller:
        assert (await caller.call("agenda"))["data"]["error"] == "NotAuthenticated"
        await engine.execute_many([Buy("o1"), Buy("o2")])
        await until(lambda: len(agenda_of(engine).parked) == 2)
        await caller.call("authenticate", {"token": "a token for reading"})
        effect, outcome = sorted((await caller.call("agenda"))["entries"], key=lambda entry: entry["position"])
        assert (effect["id"], effect["event"]["order"], effect["attempts"]) == ("effect:1/Payments.charge", "o1", 1)
        assert (effect["error"], effect["attempt_id"][-18:]) == ("ConnectionError", "-0-Payments.charge")
        assert (outcome["id"], outcome["type"], outcome["error"], outcome["key"]) == (
            "outcome:2/Payments.charge", "Confirm", "HandlerFailed", "o2",
        )  # fmt: skip
        assert not {"commands", "command", "text"} & (outcome.keys() | effect.keys())
        refused = await caller.call("settle", {"entry": effect["id"], "verdict": "drop"})
        assert (refused["code"], refused["data"]) == (
            1008, {"error": "NotPermitted", "method": "settle", "role": "reader"},
        )  # fmt: skip
        await caller.call("authenticate", {"token": "a token for writing"})
        (shown,) = (await caller.call("agenda", {"kind": "outcome"}))["entries"]
        assert (shown["commands"][0]["charge"], "KeyError('o2')" in shown["text"]) == ("c2", True)


async def test_there_are_as_many_pages_as_it_takes_and_nothing_that_stays_is_missed() -> None:
    async with served(theatre) as server, calling(server) as caller:
        await hold(caller, *"abcdefg")
        first = await caller.call("agenda", {"limit": 3})
        assert (ids(first), first["total"]) == ([f"timer:hold/{order}@s" for order in "abc"], 7)
        for gone in "abd":
            await caller.call("settle", {"entry": f"timer:hold/{gone}@s", "verdict": "fire_now"})
        await hold(caller, "b", "h")
        seen, page = set(ids(first)), first
        while page["next"] is not None:
            page = await caller.call("agenda", {"limit": 3, "after": page["next"]})
            seen |= set(ids(page))
            assert (len(page["entries"]) <= 3, page["total"]) == (True, 6)
        assert seen == {f"timer:hold/{order}@s" for order in "abcefg"}, "what came later is on none"


async def test_an_entry_is_not_shown_before_the_commit_is_durable_that_puts_it_there() -> None:
    log = ScriptedLog()
    async with served(theatre, log=log) as server, calling(server) as caller, calling(server) as other:
        log.hold()
        await caller.send(request("execute", {"command": {"type": "Hold", "show": "s", "order": "a"}}))
        await until(lambda: log.appends_started == 1)
        await other.send(request("agenda"))
        await until(lambda: server.stats().in_flight == 2)
        await settled()
        log.steps.append("refused")
        log.release()
        failed = await other.reply()
        assert (failed["error"]["code"], failed["error"]["data"]["error"]) == (3001, "CommitFailed")
        assert (await caller.reply())["error"]["data"]["error"] == "CommitFailed"
        while "total" not in (page := await other.call("agenda")):
            assert page["data"]["error"] == "WriterUnavailable"
        assert page["total"] == 0


# What becomes of an entry.


async def test_a_timer_is_sent_before_its_time_and_the_receipt_is_a_token_of_that() -> None:
    async with served(theatre) as server, calling(server) as caller:
        await hold(caller, "o1", "odd")
        fired = await caller.call("settle", {"entry": "timer:hold/o1@s", "verdict": "fire_now"})
        assert fired == {
            "commit": 3, "position": 3, "events": 0, "command_id": None, "version": None, "repeated": False,
            "parked": 0, "answer": None,
        }  # fmt: skip
        odd = await caller.call("settle", {"entry": "timer:hold/odd@s", "verdict": "fire_now"})
        assert (odd["commit"], odd["position"], odd["parked"]) == (4, 3, 1)
        page = await caller.call("agenda")
        assert (ids(page), page["entries"][0]["error"]) == (["timer:hold/odd@s"], "HandlerFailed")
        assert (await caller.call("settle", {"entry": "timer:hold/odd@s", "verdict": "retry"}))["parked"] == 1
        assert (await caller.call("settle", {"entry": "timer:hold/odd@s", "verdict": "drop"}))["parked"] == 0
        assert (await caller.call("agenda"))["total"] == 0
        assert [entry.id for entry in engine_of(server).agenda.entries()] == []


async def test_a_reaction_whose_commands_stand_is_tried_again_only_if_that_is_said() -> None:
    async with served(selling) as server, calling(server) as caller:
        await caller.call("execute", {"command": {"type": "Place", "order": "o", "show": "stray", "count": 1}})
        asked = {"entry": REACTION, "verdict": "retry"}
        refused = await caller.call("settle", asked)
        assert (refused["code"], "say again=True" in refused["message"]) == (1002, True)
        assert (await caller.call("settle", {**asked, "again": True}))["parked"] == 1


async def test_an_effect_is_performed_again_and_what_came_of_it_is_decided() -> None:
    bank = Bank()
    bank.fails["o1"] = 1
    async with a_shop(bank) as (engine, server), calling(server) as caller:
        await caller.call("authenticate", {"token": "a token for writing"})
        await caller.call("execute", {"command": {"type": "Buy", "order": "o1"}})
        await until(lambda: len(agenda_of(engine).parked) == 1)
        await caller.call("settle", {"entry": "effect:1/Payments.charge", "verdict": "retry"})
        await until(lambda: not len(agenda_of(engine)))
        assert bank.charged == {"o1": 1}


NOT_THERE = {"error": "NotOnAgenda", "entries": 0}


@pytest.mark.parametrize(
    ("method", "params", "code", "data"),
    [
        ("settle", {"entry": "timer:x@s", "verdict": "drop"}, 1009, {**NOT_THERE, "entry": "timer:x@s"}),
        ("settle", {"entry": "nonsense", "verdict": "retry"}, 1009, {**NOT_THERE, "entry": "nonsense"}),
        ("agenda", {"entry": "effect:1/A.b"}, 1009, {**NOT_THERE, "entry": "effect:1/A.b"}),
        ("agenda", {"entry": "event:²/A.b"}, 1009, {**NOT_THERE, "entry": "event:²/A.b"}),
        ("agenda", {"after": "timer:x@s"}, 1002, {"error": "InvalidMessage", "message_type": "agenda"}),
        ("agenda", {"after": "00000000.1." + "9" * 18}, 1002, {"error": "InvalidMessage"}),
        ("agenda", {"limit": -1}, -32602, {}),
        ("agenda", {"limit": 501}, -32602, {}),
        ("agenda", {"kind": "reaction"}, -32602, {}),
        ("settle", {"entry": "timer:x@s", "verdict": "parked"}, -32602, {}),
        ("settle", {"entry": "timer:x@s"}, -32602, {}),
    ],
)
async def test_what_can_not_be_is_refused_by_name(method: str, params: Any, code: int, data: dict[str, Any]) -> None:
    async with served(theatre) as server, calling(server) as caller:
        error = await caller.call(method, params)
        assert error["code"] == code
        assert (error.get("data") or {}).items() >= data.items()
        assert server.stats().in_flight == 0


async def test_both_have_their_place_in_a_batch_and_may_be_notifications() -> None:
    async with served(theatre) as server, calling(server) as caller:
        await hold(caller, "a", "b")
        lines = [
            request("settle", {"entry": "timer:hold/a@s", "verdict": "drop"}, "drop"),
            request("settle", {"entry": "timer:hold/b@s", "verdict": "drop"}, ...),
            request("agenda", {}, "left"),
        ]
        await caller.send(b"[" + b",".join(map(bytes.strip, lines)) + b"]\n")
        found = {each["id"]: each["result"] for each in await caller.reply()}
        assert (found["drop"]["commit"], found["left"]["total"]) == (3, 0)


async def test_in_a_batch_that_has_no_room_for_a_page_there_is_a_receipt_for_what_was_settled() -> None:
    async with served(theatre, limits=ServerLimits(output_bytes_max=256)) as server, calling(server) as caller:
        await hold(caller, "a", "b", "c")
        lines = [request("settle", {"entry": f"timer:hold/{order}@s", "verdict": "drop"}, order) for order in "abc"]
        await caller.send(b"[" + b",".join(map(bytes.strip, [*lines, request("agenda", {}, "left")])) + b"]\n")
        found = {each["id"]: each for each in await caller.reply()}
        assert sorted(found[order]["result"]["commit"] for order in "abc") == [4, 5, 6]
        await hold(caller, "d", "e")
        await caller.send(b"[" + request("agenda", {}, "page").strip() + b"]\n")
        (refused,) = await caller.reply()
        assert refused["error"]["data"]["limit"] == "output_bytes_max"


async def test_no_more_is_asked_of_the_agenda_at_once_than_may_be_and_no_connection_takes_all() -> None:
    log = ScriptedLog()
    async with (
        served(theatre, log=log, limits=ServerLimits(agenda_requests_max=4)) as server,
        calling(server) as caller,
        calling(server) as other,
    ):
        log.hold()
        await caller.send(request("execute", {"command": {"type": "Hold", "show": "s", "order": "a"}}))
        await until(lambda: log.appends_started == 1)
        await caller.send(b"".join(request("agenda", {}, number) for number in range(3)))
        refused = await caller.reply()
        assert (refused["id"], refused["error"]["data"]) == (
            2, {"error": "LimitReached", "limit": "agenda_requests_max", "value": 4, "held": 2},
        )  # fmt: skip
        await other.send(request("settle", {"entry": "timer:hold/a@s", "verdict": "drop"}))
        await until(lambda: server.stats().in_flight == 4)
        log.release()
        assert [each["id"] for each in await caller.replies(3)] == [1, 0, 1]
        assert (await other.reply())["result"]["commit"] == 2
        assert (await caller.call("agenda"))["total"] == 0


async def test_what_waits_at_the_door_of_a_full_mailbox_and_is_gone_by_then_never_happens() -> None:
    log = ScriptedLog()
    limits = Limits(mailbox_commands_max=1, batch_commands_max=1)
    async with served(theatre, log=log, engine_limits=limits) as server, calling(server) as caller:
        await hold(caller, "a")
        log.hold()
        for number in range(3):
            command = {"type": "Hold", "show": "s", "order": f"b{number}"}
            await caller.send(request("execute", {"command": command}, number))
        stats = engine_of(server).stats
        await until(lambda: log.appends_started == 2 and server.stats().in_flight == 3)
        await until(lambda: (stats().writer.mailbox_commands, stats().writer.mailbox_entering) == (1, 0))
        async with calling(server) as other:
            await other.send(request("settle", {"entry": "timer:hold/a@s", "verdict": "drop"}))
            await until(lambda: stats().writer.mailbox_entering == 1)
            other.vanish()
            await until(lambda: server.stats().connections == 1)
        log.release()
        await caller.replies(3)
        assert (await caller.call("agenda"))["total"] == 4


# Elsewhere.


async def test_a_replica_asks_the_writer_that_it_knows_and_refuses_without_one() -> None:
    log = ScriptedLog()
    listen = ["tcp://127.0.0.1:0"]
    async with (
        served(selling, log=log) as server,
        Client(server.addresses[0]) as writer,
        Replica(selling, log=MemoryLog(log.inner.store), writer=writer) as replica,
        Server(replica, listen=listen, fronts=caller_module.fronts, tokens=TOKENS) as beside,
        calling(beside) as caller,
    ):
        await engine_of(server).execute(Order("o", "fire", 1))
        await caller.call("authenticate", {"token": "a token for writing"})
        assert ids(await caller.call("agenda")) == [REACTION]
        assert (await caller.call("settle", {"entry": REACTION, "verdict": "retry"}))["parked"] == 1
        missed = await caller.call("settle", {"entry": "event:9/Selling.hold_seats", "verdict": "drop"})
        assert missed["data"] == {"error": "NotOnAgenda", "entry": "event:9/Selling.hold_seats", "entries": 1}
        assert (await caller.call("settle", {"entry": REACTION, "verdict": "drop"}))["commit"] == 3
        replica.writer = None
        for method, params in (("agenda", {}), ("settle", {"entry": REACTION, "verdict": "drop"})):
            assert (await caller.call(method, params))["data"] == {"error": "NotLeader", "address": None}


async def test_how_many_timers_were_called_off_in_vain_is_counted() -> None:
    plans["in vain"] = [Unschedule("nobody has set it")]
    async with served(theatre) as server, calling(server) as caller:
        await hold(caller, "a")
        for command in ({"type": "Pay", "order": "a"}, {"type": "Ask"}, {"type": "Plan", "timings": "in vain"}):
            await caller.call("execute", {"command": {"show": "s", **command}})
        found = (await caller.call("stats"))["writer"]["timers_not_there"]
        assert found == 2, "by a reaction, and by a handler that wrote nothing"
