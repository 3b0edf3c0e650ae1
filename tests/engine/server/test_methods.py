from __future__ import annotations

from typing import Any

import anyio
import pytest

from millstream.engine import App, Command, Event, Limits, Query
from millstream.engine.server import ServerLimits
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.desk import desk
from tests.engine.server import caller as caller_module
from tests.engine.server.caller import ADD, STOCK, Caller, calling, engine_of, one_process, request, served, until
from tests.support import ScriptedLog, settled, views_held

pytestmark = pytest.mark.anyio


async def test_a_command_is_answered_with_its_receipt_and_a_question_with_the_position_of_its_answer() -> None:
    async with served() as server, calling(server) as caller:
        assert await caller.call("execute", {"command": ADD}) == {
            "commit": 1,
            "position": 1,
            "events": 1,
            "command_id": None,
            "version": 1,
            "repeated": False,
            "parked": 0,
            "answer": None,
        }
        assert await caller.call("ask", {"query": STOCK, "after": 1}) == {"answer": 1, "position": 1}


async def test_several_questions_are_answered_at_one_position_and_as_many_as_one_turn_takes() -> None:
    limits = ServerLimits(turn_requests_max=3)
    async with served(limits=limits) as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD})
        several = [STOCK, {"type": "Notes"}, {"type": "Everything"}]
        assert await caller.call("ask_all", {"queries": several, "after": 1}) == {
            "answers": [1, [], {"a": 1}],
            "position": 1,
        }
        many = await caller.call("ask_all", {"queries": [STOCK] * 4})
        assert (many["code"], many["message"]) == (
            -32602,
            "params of 'ask_all': at most turn_requests_max=3 queries in one request, not 4",
        )
        none = await caller.call("ask_all", {"queries": []})
        assert (none["code"], none["message"]) == (
            -32602,
            "params of 'ask_all': Expected `array` of length >= 1 - at `$.queries`",
        )
        wrong = await caller.call("ask_all", {"queries": [STOCK, {"type": "StockOf", "item": 3}]})
        assert (wrong["code"], wrong["data"]["message_type"]) == (1002, "StockOf")
        unknown = await caller.call("ask_all", {"queries": [STOCK, {"type": "Riddle"}]})
        assert (unknown["code"], unknown["data"]["message_type"]) == (1003, "Riddle")
        later = await caller.call("ask_all", {"queries": several, "after": 9})
        assert (later["code"], later["data"]["message_type"]) == (1002, "after")


async def test_a_command_that_is_sent_twice_under_its_id_happens_once() -> None:
    async with served() as server, calling(server) as caller:
        first = await caller.call("execute", {"command": ADD, "command_id": "once"})
        again = await caller.call("execute", {"command": ADD, "command_id": "once"})
        assert (first["repeated"], again["repeated"]) == (False, True)
        assert {**again, "repeated": False} == first
        other = await caller.call("execute", {"command": {**ADD, "count": 2}, "command_id": "once"})
        assert (other["code"], other["data"]["error"], other["data"]["commit"]) == (1005, "CommandIdReused", 1)
        assert (await caller.call("ask", {"query": STOCK}))["answer"] == 1


async def test_a_version_is_expected_and_metadata_is_kept() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD, "expected_version": 0})
        conflict = await caller.call("execute", {"command": ADD, "expected_version": 0})
        assert conflict == {
            "code": 1004,
            "message": "key 'a' is at version 1, not at 0: it was changed since; look again and decide anew",
            "data": {"error": "VersionConflict", "key": "a", "expected": 0, "actual": 1, "position": 1},
        }
        note = {"type": "Note", "text": "x"}
        await caller.call("execute", {"command": note, "metadata": {"actor": "ann"}, "command_id": "n"})
        no_key = await caller.call("execute", {"command": note, "expected_version": 0})
        assert (no_key["code"], no_key["data"]["message_type"]) == (1002, "expected_version")
        await caller.call("follow", {"types": ["Noted"]})
        noted = (await caller.reply())["params"]["events"][0]["data"]
        assert (noted["by"], noted["id"]) == ("ann", "n")


@pytest.mark.parametrize(
    ("command", "code", "data"),
    [
        ({"type": "Take", "item": "a", "count": 1}, 1001, {"error": "Rejected", "code": "out_of_stock"}),
        ({"type": "Break", "how": "raise"}, 4002, {"error": "HandlerFailed", "command": "Break"}),
        ({"type": "Break", "how": "large"}, 1006, {"error": "CommitTooLarge", "commit_bytes_max": 4_194_304}),
        ({"type": "Break", "how": "apply"}, 4004, {"error": "ApplyFailed", "event": "Broken"}),
        ({"type": "Add", "item": "a", "count": 0}, 1002, {"error": "InvalidMessage", "message_type": "Add"}),
        ({"type": "Ad"}, 1003, {"error": "UnknownMessage", "kind": "command"}),
    ],
)
async def test_a_command_that_fails_is_answered_with_the_engines_own_error(
    command: dict[str, Any], code: int, data: dict[str, Any]
) -> None:
    async with served() as server, calling(server) as caller:
        error = await caller.call("execute", {"command": command})
        assert error["code"] == code
        assert error["data"].items() >= data.items()
        assert (await caller.call("execute", {"command": ADD}))["events"] == 1  # whoever comes next is not concerned


async def test_a_command_whose_time_is_over_before_it_is_decided_is_not_executed() -> None:
    log = ScriptedLog()
    async with served(log=log, engine_limits=Limits(batch_commands_max=1)) as server, calling(server) as caller:
        log.hold()
        await caller.send(request("execute", {"command": ADD}, 1) + request("execute", {"command": ADD}, 2))
        await until(lambda: log.appends_started == 1 and server.stats().in_flight == 2)
        await caller.send(request("execute", {"command": ADD, "timeout": 0.001}, 3))
        late = await caller.reply()
        assert (late["id"], late["error"]["code"]) == (3, 2002)
        assert late["error"]["data"] == {
            "error": "DeadlineExceeded",
            "command": "Add",
            "timeout_seconds": 0.001,
            "decided": False,
        }
        log.release()
        assert [each["id"] for each in await caller.replies(2)] == [1, 2]
        assert (await caller.call("ask", {"query": STOCK, "after": 2}))["answer"] == 2


async def test_a_command_whose_time_is_over_after_it_was_decided_stands() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as caller:
        log.hold()
        await caller.send(request("execute", {"command": ADD, "timeout": 0.5}))
        late = await caller.reply()
        assert (late["error"]["code"], late["error"]["data"]["decided"]) == (2002, True)
        log.release()
        assert (await caller.call("ask", {"query": STOCK, "after": 1}))["answer"] == 1
        assert server.stats().in_flight == 0
        in_time = await caller.call("execute", {"command": ADD, "timeout": 60})
        assert in_time["position"] == 2


async def test_a_command_that_finds_the_mailbox_full_waits_or_is_refused_as_it_wishes() -> None:
    log = ScriptedLog()
    limits = Limits(mailbox_commands_max=1, batch_commands_max=1)
    async with served(log=log, engine_limits=limits) as server, calling(server) as one, calling(server) as other:
        log.hold()
        await one.send(request("execute", {"command": ADD}, 1))  # is written
        await until(lambda: log.appends_started == 1)
        await one.send(request("execute", {"command": ADD}, 2))  # is decided
        await until(lambda: server.stats().in_flight == 2)
        await one.send(request("execute", {"command": ADD}, 3))  # waits in the mailbox
        await until(lambda: server.stats().in_flight == 3)
        refused = await other.call("execute", {"command": ADD, "wait": False})
        assert (refused["code"], refused["data"]["error"], refused["data"]["waiting"]) == (2001, "Overloaded", 1)
        await other.send(b"".join(request("execute", {"command": {**ADD, "item": "b"}}, to) for to in (4, 5, 6)))
        await until(lambda: server.stats().in_flight == 4)  # one waits at the door, and those behind it are not read on
        late = request("execute", {"command": ADD, "timeout": 0.001}, 7)
        await one.send(late)
        assert (await one.reply())["error"]["data"]["decided"] is False
        log.release()
        assert [each["id"] for each in await one.replies(3)] == [1, 2, 3]
        assert [each["id"] for each in await other.replies(3)] == [4, 5, 6]
        assert (await one.call("ask", {"query": STOCK, "after": 6}))["answer"] == 3


async def test_the_store_failing_is_told_to_everyone_whose_command_it_concerned() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as caller:
        log.steps.append("refused")
        failed = await caller.call("execute", {"command": ADD})
        assert (failed["code"], failed["data"]["error"]) == (3001, "CommitFailed")
        assert (await caller.call("execute", {"command": ADD}))["commit"] == 1


# Questions.


async def test_a_question_that_waits_for_a_position_gets_it_or_is_told_that_it_did_not_come() -> None:
    async with served() as server, calling(server) as asking, calling(server) as telling:
        async with views_held(engine_of(server)):
            await telling.call("execute", {"command": ADD})
            late = await asking.call("ask", {"query": STOCK, "after": 1, "timeout": 0})
            assert late == {
                "code": 2004,
                "message": "view Shelf is at position 0 and did not reach 1 within 0 s: ask again with the same token; "
                "a position that no receipt and no answer has named may never come",
                "data": {"error": "NotYetVisible", "view": "Shelf", "position": 0, "after": 1, "timeout_seconds": 0.0},
            }
            await telling.call("execute", {"command": ADD})
            await asking.send(request("ask", {"query": STOCK, "after": 2}, "later"))
            await until(lambda: server.stats().in_flight == 1)
        assert await asking.reply() == {"jsonrpc": "2.0", "id": "later", "result": {"answer": 2, "position": 2}}


@pytest.mark.parametrize(("method", "params"), [("ask", {"query": STOCK}), ("watch", {"query": STOCK}), ("follow", {})])
async def test_a_position_above_the_head_is_refused_at_once(method: str, params: dict[str, Any]) -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD})
        problem = (
            "position 1,000,000,000 is above the head of the log, which is at 1: "
            "give a receipt or an answer of this log, as it is now"
        )
        assert await caller.call(method, {**params, "after": 10**9}) == {
            "code": 1002,
            "message": f"after is not valid: {problem}",
            "data": {"error": "InvalidMessage", "message_type": "after", "problem": problem},
        }
        assert (server.stats().in_flight, server.stats().watches) == (0, 0)
        assert "code" not in await caller.call(method, {**params, "after": 1})


async def test_a_question_waits_no_longer_than_the_server_lets_it() -> None:
    async with (
        served(limits=ServerLimits(answer_seconds_max=0.01)) as server,
        calling(server) as caller,
        views_held(engine_of(server)),
    ):
        await caller.call("execute", {"command": ADD})
        for params in ({"query": STOCK, "after": 1}, {"query": STOCK, "after": 1, "timeout": 1e9}):
            assert (await caller.call("ask", params))["data"]["error"] == "NotYetVisible"
        never = await caller.call("watch", {"query": STOCK, "after": 1})
        assert never["data"] == {
            "error": "NotYetVisible",
            "view": "Shelf",
            "position": 0,
            "after": 1,
            "timeout_seconds": 0.01,
        }
        assert server.stats().watches == 0


@pytest.mark.parametrize(
    ("how", "code", "data"),
    [
        ("raise", 4005, {"error": "AnswerFailed", "view": "Fragile", "query": "Broke"}),
        ("reject", 1001, {"error": "Rejected", "code": "no_such_thing"}),
    ],
)
async def test_a_view_that_can_not_answer_is_told_as_the_engine_tells_it(
    how: str, code: int, data: dict[str, Any]
) -> None:
    async with served() as server, calling(server) as caller:
        for method in ("ask", "watch"):
            error = await caller.call(method, {"query": {"type": "Broke", "how": how}})
            assert error["code"] == code
            assert error["data"].items() >= data.items()


@one_process
async def test_an_answer_of_a_view_that_left_something_out_comes_as_data_of_the_error_or_as_wanted() -> None:
    async with served(desk("skip")) as server, calling(server) as caller:
        await caller.call("execute", {"command": {"type": "Say", "what": "good"}})
        await caller.call("execute", {"command": {"type": "Say", "what": "bad"}})
        incomplete = await caller.call("ask", {"query": {"type": "Seen"}, "after": 2})
        assert (incomplete["code"], incomplete["data"]) == (
            4008,
            {
                "error": "ViewIncomplete",
                "view": "Shelves",
                "query": "Seen",
                "position": 2,
                "parked": 0,
                "skipped": 1,
                "answer": ["good"],
            },
        )
        wanted = await caller.call("ask", {"query": {"type": "Seen"}, "after": 2, "incomplete": True})
        assert wanted == {"answer": ["good"], "position": 2}


class Odd(Query[Any]):
    what: str


class Odds(View):
    @answers
    def odd(self, query: Odd) -> Any:
        return {"nan": float("nan"), "object": object(), "text": "\ud800", "set": {1}}[query.what]


class Nothing(Event):
    pass


class Do(Command):
    times: int


class Idle(WriteModel):
    @handles
    def do(self, command: Do) -> list[Nothing]:
        return [Nothing()] * command.times

    @applies
    def nothing(self, event: Nothing) -> None: ...


odd = App(models=[Idle], views=[Odds])


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("object", "Encoding objects of type object is unsupported"),
        ("text", "'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed"),
    ],
)
async def test_an_answer_that_json_can_not_hold_is_the_views_failure(what: str, problem: str) -> None:
    async with served(odd) as server, calling(server) as caller:
        error = await caller.call("ask", {"query": {"type": "Odd", "what": what}})
        assert error["data"] == {
            "error": "AnswerFailed",
            "view": "Odds",
            "query": "Odd",
            "problem": f"its answer can't be written as JSON: {problem}",
        }
        assert (await caller.call("ask", {"query": {"type": "Odd", "what": "set"}}))["answer"] == [1]
        error = await caller.call("ask", {"query": {"type": "Odd", "what": "nan"}})
        assert error["data"]["error"] == "AnswerFailed"
        assert "it holds the float nan, which JSON does not have" in error["data"]["problem"]


# Requests together.


async def test_a_notification_gets_no_reply_and_happens_all_the_same() -> None:
    async with served() as server, calling(server) as caller:
        await caller.send(
            request("execute", {"command": ADD}, ...)
            + request("execute", {"command": {**ADD, "count": -1}}, ...)
            + request("ask", {"query": {"type": "Broke", "how": "raise"}}, ...)
            + request("nonsense", to=...)
            + request("ask", {"query": STOCK, "after": 1}, "heard")
        )
        assert await caller.reply() == {"jsonrpc": "2.0", "id": "heard", "result": {"answer": 1, "position": 1}}


async def test_a_batch_is_answered_by_one_batch_with_a_reply_for_each_request_that_wants_one() -> None:
    async with served() as server, calling(server) as caller:
        requests = [
            request("execute", {"command": ADD}, 1),
            request("execute", {"command": ADD}, ...),
            request("execute", {"command": {"type": "Take", "item": "b", "count": 1}}, "no"),
            request("ask", {"query": STOCK, "after": 2}, 3),
            request("nonsense", to=4),
            b"5",
        ]
        await caller.send(b"[" + b",".join(requests).replace(b"\n", b"") + b"]\n")
        replies = await caller.reply()
        found = {each["id"]: each.get("result", each.get("error")) for each in replies}
        assert len(replies) == 5
        assert found[1]["position"] == 1
        assert found["no"]["data"]["code"] == "out_of_stock"
        assert found[3] == {"answer": 2, "position": 2}
        assert (found[4]["code"], found[None]["code"]) == (-32601, -32600)


async def test_a_batch_of_notifications_is_answered_by_nothing() -> None:
    async with served() as server, calling(server) as caller:
        await caller.send(b"[%b,%b]\n" % ((request("execute", {"command": ADD}, ...).strip(),) * 2))
        assert (await caller.call("ask", {"query": STOCK, "after": 2}))["answer"] == 2


async def test_requests_with_the_same_id_are_answered_each() -> None:
    async with served() as server, calling(server) as caller:
        await caller.send(request("execute", {"command": ADD}, 7) * 3)
        assert sorted(each["result"]["position"] for each in await caller.replies(3)) == [1, 2, 3]


@pytest.mark.parametrize("to", [0, -1, 2**63 - 1, "", "ä\n\u2028\U0001f40d", 1.5, None, "x" * 10_000])
async def test_a_reply_has_the_id_of_its_request_as_it_came(to: Any) -> None:
    async with served() as server, calling(server) as caller:
        await caller.send(request("execute", {"command": ADD}, to) + request("ask", {"query": STOCK, "after": 1}, to))
        assert [each["id"] for each in await caller.replies(2)] == [to, to]


async def test_requests_of_one_connection_are_taken_in_their_order() -> None:
    async with served() as server, calling(server) as caller:
        adds = [request("execute", {"command": {**ADD, "item": f"i{number}"}}, number) for number in range(300)]
        await caller.send(b"".join(adds))
        assert [each["result"]["position"] for each in await caller.replies(300)] == list(range(1, 301))
        assert server.stats().in_flight == 0


# Watches.


async def test_a_watch_is_numbered_and_sends_its_answer_now_and_each_changed_one() -> None:
    async with served() as server, calling(server) as caller:
        assert await caller.call("watch", {"query": STOCK}) == {"watch": 1}
        assert await caller.reply() == {
            "jsonrpc": "2.0",
            "method": "watch",
            "params": {"watch": 1, "answer": 0, "position": 0},
        }
        assert await caller.call("watch", {"query": {"type": "Everything"}}) == {"watch": 2}
        assert (await caller.reply())["params"] == {"watch": 2, "answer": {}, "position": 0}
        await caller.send(request("execute", {"command": ADD}, ...))
        news = [each["params"] for each in await caller.replies(2)]
        assert sorted(news, key=lambda each: each["watch"]) == [
            {"watch": 1, "answer": 1, "position": 1},
            {"watch": 2, "answer": {"a": 1}, "position": 1},
        ]


async def test_after_unwatch_is_answered_nothing_more_comes_and_its_number_is_not_given_again() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("watch", {"query": STOCK})
        await caller.reply()
        await caller.send(request("execute", {"command": ADD}, ...) + request("unwatch", {"watch": 1}, "end"))
        while (found := await caller.reply()).get("id") != "end":
            assert found["params"]["watch"] == 1
        assert found["result"] == {"watch": 1}
        assert await caller.call("execute", {"command": ADD})
        assert await caller.call("unwatch", {"watch": 1}) == {"watch": 1}  # twice is no error
        assert await caller.call("unwatch", {"watch": 99}) == {"watch": 99}
        assert (await caller.call("stats"))["views"]["Shelf"]["watches"] == 0
        assert await caller.call("watch", {"query": STOCK}) == {"watch": 2}
        await until(lambda: server.stats().watches == 1)


@pytest.mark.parametrize(("method", "params"), [("watch", {"query": STOCK}), ("follow", {})])
async def test_a_watch_that_is_ended_with_the_same_breath_is_answered_and_never_heard_of_again(
    method: str, params: dict[str, Any]
) -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD})
        both = [request(method, params, "begin").strip(), request("unwatch", {"watch": 1}, "end").strip()]
        await caller.send(b"[" + b",".join(both) + b"]\n")
        found: Any
        while not isinstance(found := await caller.reply(), list):
            assert found["params"]["watch"] == 1  # on a busy machine the batch takes more than one turn
        assert {each["id"]: each["result"] for each in found} == {"begin": {"watch": 1}, "end": {"watch": 1}}
        assert (await caller.call("execute", {"command": ADD}))["position"] == 2
        await until(lambda: server.stats().watches == 0)
        assert await caller.call("watch", {"query": STOCK}) == {"watch": 2}
        assert (await caller.reply())["params"]["watch"] == 2


async def test_who_watches_every_change_gets_each_of_them() -> None:
    async with served() as server, calling(server) as caller, calling(server) as other:
        await caller.call("watch", {"query": STOCK, "every": True})
        for _ in range(20):
            await other.call("execute", {"command": ADD})
        news = [each["params"] for each in await caller.replies(21)]
        assert [(each["answer"], each["position"]) for each in news] == [(n, n) for n in range(21)]


async def test_a_watch_goes_on_after_a_token() -> None:
    async with served() as server, calling(server) as caller, calling(server) as other:
        async with views_held(engine_of(server)):
            for _ in range(2):
                await other.call("execute", {"command": ADD})
            await caller.send(request("watch", {"query": STOCK, "after": 2}, "w"))
            await until(lambda: server.stats().watches == 1)
            await settled()
        assert (await caller.reply())["id"] == "w"
        assert (await caller.reply())["params"] == {"watch": 1, "answer": 2, "position": 2}


async def test_a_watch_that_can_not_go_on_says_why_and_is_over() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("watch", {"query": {"type": "Broke", "how": "fine"}})
        assert (await caller.reply())["params"]["answer"] == "fine 0"
        await caller.send(request("execute", {"command": {"type": "Break", "how": "view"}}, ...))
        ended = await caller.reply()
        assert ended["params"] == {
            "watch": 1,
            "error": {
                "code": 4006,
                "message": 'view Fragile faulted at position 1: RuntimeError("the view can\'t"); mend the view and open '
                "the engine again, which rebuilds it from the log",
                "data": {
                    "error": "ViewFaulted",
                    "view": "Fragile",
                    "position": 1,
                    "cause": 'RuntimeError("the view can\'t")',
                },
            },
        }
        await until(lambda: server.stats().watches == 0)
        refused = await caller.call("watch", {"query": {"type": "Broke", "how": "fine"}})
        assert refused["data"]["error"] == "ViewFaulted"


async def test_more_watches_than_the_engine_has_room_for_are_refused() -> None:
    async with served(engine_limits=Limits(watches_max=1)) as server, calling(server) as caller:
        assert await caller.call("watch", {"query": STOCK}) == {"watch": 1}
        await caller.reply()
        full = await caller.call("watch", {"query": {"type": "Everything"}})
        assert (full["code"], full["data"]) == (2008, {"error": "WatchesFull", "watches": 1, "watches_max": 1})


# The log's events.


async def followed(caller: Caller, count: int) -> list[tuple[int, str]]:
    """The positions and types of so many events that are told, and that each notification names the last one's."""
    found: list[tuple[int, str]] = []
    while len(found) < count:
        news = (await caller.reply())["params"]
        found += [(event["position"], event["type"]) for event in news["events"]]
        assert news["position"] == found[-1][0]
    return found


async def test_the_logs_events_are_followed_from_a_position_and_on() -> None:
    async with served() as server, calling(server) as caller, calling(server) as other:
        await other.call("execute", {"command": ADD})
        await other.call("execute", {"command": {"type": "Note", "text": "x"}})
        assert await caller.call("follow", {"after": 1}) == {"watch": 1}
        assert await followed(caller, 1) == [(2, "Noted")]
        await other.call("execute", {"command": {"type": "Move", "item": "a", "to": "b"}})
        assert await followed(caller, 2) == [(3, "Taken"), (4, "Added")]
        assert await caller.call("unwatch", {"watch": 1}) == {"watch": 1}
        await until(lambda: server.stats().watches == 0)


async def test_events_are_filtered_by_key_and_by_type() -> None:
    async with served() as server, calling(server) as caller:
        for item in "abca":
            await caller.call("execute", {"command": {**ADD, "item": item}})
        await caller.call("execute", {"command": {"type": "Take", "item": "a", "count": 1}})
        for params, expected in (
            ({"keys": ["a", "c"]}, [(1, "Added"), (3, "Added"), (4, "Added"), (5, "Taken")]),
            ({"keys": ["a"], "types": ["Added"]}, [(1, "Added"), (4, "Added")]),
            ({"types": ["Taken", "Noted"], "after": 2}, [(5, "Taken")]),
        ):
            number = (await caller.call("follow", params))["watch"]
            assert await followed(caller, len(expected)) == expected
            await caller.call("unwatch", {"watch": number})


async def test_many_events_of_one_commit_come_in_several_notifications() -> None:
    async with served(odd) as server, calling(server) as caller:
        await caller.call("execute", {"command": {"type": "Do", "times": 1_200}})
        await caller.call("follow")
        news = [each["params"] for each in await caller.replies(3)]
        assert [len(each["events"]) for each in news] == [500, 500, 200]
        assert [each["position"] for each in news] == [500, 1_000, 1_200]


async def test_a_log_that_can_not_be_read_ends_who_follows_it_and_nobody_else() -> None:
    log = ScriptedLog()
    async with served(log=log) as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD})
        log.reads_fail = 1
        await caller.call("follow")
        ended = (await caller.reply())["params"]
        assert (ended["watch"], ended["error"]["code"]) == (1, -32603)
        assert ended["error"]["message"] == "the server failed: StoreBroke; its log says more"
        assert (await caller.call("ask", {"query": STOCK, "after": 1}))["answer"] == 1


# About itself.


async def test_it_describes_the_application_as_open_rpc() -> None:
    async with served() as server, calling(server) as caller:
        described = await caller.call("describe")
        assert described == await caller.call("rpc.discover")
        assert described["info"]["title"] == "shop"
        assert [each["name"] for each in described["methods"]][:3] == ["execute", "execute_many", "ask"]


async def test_its_figures_are_those_of_the_engine_and_its_own() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("execute", {"command": ADD})
        await caller.call("watch", {"query": STOCK})
        await caller.reply()
        stats = await caller.call("stats")
        assert (stats["writer"]["position"], stats["views"]["Shelf"]["position"]) == (1, 1)
        assert stats["server"] == {
            "connections": 1,
            "connections_max": 2_000,
            "in_flight": 0,
            "watches": 1,
            "accepted": 1,
            "fronts": caller_module.fronts,
            "fronts_lost": 0,
            "dropped": {},
        }


async def test_a_blank_line_is_nothing() -> None:
    async with served() as server, calling(server) as caller:
        await caller.send(b"\n\r\n  \n")
        assert (await caller.call("health"))["live"] is True


async def test_a_message_in_crumbs_is_understood() -> None:
    async with served() as server, calling(server) as caller:
        for byte in request("execute", {"command": ADD}) + request("ask", {"query": STOCK, "after": 1}, 2):
            await caller.send(bytes([byte]))
        assert [each["id"] for each in await caller.replies(2)] == [1, 2]


async def test_a_server_serves_one_application_to_many_at_once() -> None:
    async with served() as server, anyio.create_task_group() as group:

        async def add(number: int) -> None:
            async with calling(server) as caller:
                for _ in range(10):
                    receipt = await caller.call("execute", {"command": {**ADD, "item": f"i{number}"}})
                    found = await caller.call("ask", {"query": {"type": "Everything"}, "after": receipt["position"]})
                    assert found["answer"][f"i{number}"] == receipt["version"]

        for number in range(20):
            group.start_soon(add, number)


PAGE = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:7411\r\nContent-Type: text/plain\r\nOrigin: http://evil.example\r\n\r\n"
    + request("execute", {"command": ADD})
)
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\n" + request("execute", {"command": ADD})


@pytest.mark.parametrize(
    ("sent", "problem"),
    [(PAGE, "this is HTTP, and here JSON-RPC"), (b"\r\n" + PAGE, "this is HTTP"), (HELLO, "no JSON")],
)
@pytest.mark.parametrize("crumbs", [False, True])
async def test_a_web_page_commands_nothing_and_hears_why(sent: bytes, problem: str, crumbs: bool) -> None:
    async with served() as server, calling(server) as page, calling(server) as caller:
        for piece in [sent[index : index + 1] for index in range(len(sent))] if crumbs else [sent]:
            page.push(piece)
        (told,) = await page.rest()
        assert (told["id"], told["error"]["code"]) == (None, -32700)
        assert problem in told["error"]["message"]
        page.close()
        await until(lambda: server.stats().dropped == {"no_json": 1})
        assert await caller.call("ask", {"query": STOCK}) == {"answer": 0, "position": 0}


async def test_a_line_that_is_no_json_is_answered_and_no_more_once_the_protocol_was_begun() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("health")
        await caller.send(b"GET / HTTP/1.1\n" + request("execute", {"command": ADD}))
        assert [each.get("error", {}).get("code") for each in await caller.replies(2)] == [-32700, None]
