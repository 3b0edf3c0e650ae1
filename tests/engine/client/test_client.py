"""From commands and queries to what is sent, and back: against a peer of which the test writes every byte."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import Raw

from millstream.engine import Answered, Command, Metadata, Query, Receipt
from millstream.engine.client import Client, ClientLimits
from millstream.engine.errors import (
    AnswerFailed,
    ConnectionLost,
    DeadlineExceeded,
    InvalidMessage,
    MillstreamError,
    NotLeader,
    NotYetVisible,
    ProtocolViolated,
    Rejected,
    RemoteError,
    ViewIncomplete,
)
from millstream.engine.loop.clock import elapsed
from tests.engine.client.peer import Visit, heard, peer, until
from tests.shop import Add, Note, StockOf
from tests.support import Outcome, settled, start

pytestmark = pytest.mark.anyio

RECEIPT = {"commit": 3, "position": 7, "events": 1, "command_id": None, "version": 2, "repeated": False}


class Store(Command):
    """Holds JSON as somebody wrote it."""

    data: Raw


class Days(Query[dict[date, datetime | None]]):
    pass


class Numbered(Query[dict[int, str]]):
    pass


class Unsaid(Query):  # type: ignore[type-arg]
    """Does not say what its answer is."""


class Odd(Query[set[int] | list[int]]):
    pass


def failure(outcome: Outcome) -> MillstreamError:
    assert isinstance(outcome.error, MillstreamError)
    return outcome.error


async def test_a_command_is_sent_with_what_its_caller_said_and_nothing_else() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        metadata = Metadata(actor="ann")
        start(group, client.execute(Add("a", 1)))
        start(
            group,
            client.execute(
                Add("a", 2), command_id="ä", expected_version=4, metadata=metadata, timeout=60.0, wait=False
            ),
        )
        bare, full = await visit.requests(2)
        assert bare == {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "execute",
            "params": {"command": {"type": "Add", "item": "a", "count": 1}},
        }
        assert 59 < full["params"].pop("timeout") <= 60
        assert full["params"] == {
            "command": {"type": "Add", "item": "a", "count": 2},
            "command_id": "ä",
            "expected_version": 4,
            "metadata": {"actor": "ann"},
            "wait": False,
        }
        group.cancel_scope.cancel()


async def test_a_query_is_sent_with_what_its_caller_said_and_nothing_else() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        start(group, client.ask(StockOf("a")))
        start(group, client.answer(StockOf("a"), after=Answered(3, 9), timeout=60.0, incomplete=True))
        start(group, client.ask(StockOf("a"), after=Receipt(1, 8, 1)))
        bare, full, receipt = await visit.requests(3)
        assert (bare["method"], bare["params"]) == ("ask", {"query": {"type": "StockOf", "item": "a"}})
        assert 59 < full["params"].pop("timeout") <= 60
        assert full["params"] == {"query": {"type": "StockOf", "item": "a"}, "after": 9, "incomplete": True}
        assert receipt["params"]["after"] == 8
        visit.reply(bare, {"answer": 3, "position": 7})
        group.cancel_scope.cancel()


async def test_json_that_somebody_wrote_over_several_lines_stays_on_one() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        start(group, client.execute(Store(Raw(b'{\n  "a": "x\\ny"\n}'))))
        assert (await visit.request())["params"]["command"] == {"type": "Store", "data": {"a": "x\ny"}}
        group.cancel_scope.cancel()


async def test_what_is_no_message_is_refused() -> None:
    async with peer() as there, Client(there.address) as client:
        with pytest.raises(InvalidMessage, match="int is not valid: a Command or a Query, not 3"):
            await client.execute(3)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessage, match="dict is not valid"):
            await client.ask({"type": "StockOf"})  # type: ignore[arg-type]


async def test_what_comes_back_must_be_a_receipt() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        outcomes = [start(group, client.execute(Add("a", n))) for n in range(1, 4)]
        results: list[Any] = [RECEIPT, {"commit": "x"}, None]
        for request, result in zip(await visit.requests(3), results, strict=True):
            visit.reply(request, result)
        await until(lambda: outcomes[-1].settled)
        assert outcomes[0].value == Receipt(3, 7, 1, version=2)
        for outcome in outcomes[1:]:
            assert isinstance(outcome.error, RemoteError)
            assert outcome.error.message.startswith("what came back is no receipt: Expected ")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (None, "Expected `object`, got `null`"),
        ({"outcomes": [{"result": RECEIPT}]}, "there are 1 of them, of 2 commands"),
        ({"outcomes": [{"result": RECEIPT}, {}]}, "one has neither result nor error"),
        ({"outcomes": [{"result": RECEIPT}, {"result": {**RECEIPT, "commit": -1}}]}, "Expected `int` >= 0"),
    ],
)
async def test_what_comes_back_for_many_must_be_an_outcome_for_each(result: Any, problem: str) -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        many = start(group, client.execute_many([Add("a", 4), Add("a", 5)]))
        visit.reply(await visit.request(), result)
        await until(lambda: many.settled)
        for outcome in many.value:
            assert isinstance(outcome, RemoteError)
            assert outcome.message.startswith(f"what came back are no outcomes: {problem}")


async def test_many_commands_are_sent_in_one_request_and_each_gets_its_own_outcome() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        commands: list[Any] = [Add("a", 1), object(), Add("b", 2), Add("c", 3)]
        ids = ["one", "two", "", "three"]
        many = start(group, client.execute_many(commands, command_ids=ids, metadata=Metadata(actor="ann")))
        request = await visit.request()
        assert (request["method"], request["params"]) == (
            "execute_many",
            {
                "commands": [
                    {"type": "Add", "item": "a", "count": 1},
                    {"type": "Add", "item": "c", "count": 3},
                ],
                "command_ids": ["one", "three"],
                "metadata": {"actor": "ann"},
            },
        )
        rejected = {
            "code": 1001,
            "message": "x",
            "data": {"error": "Rejected", "code": "no", "message": "", "details": {}},
        }
        visit.reply(request, {"outcomes": [{"error": rejected}, {"result": RECEIPT}]})
        await until(lambda: many.settled)
        assert [type(each) for each in many.value] == [Rejected, InvalidMessage, InvalidMessage, Receipt]
        assert str(many.value[2]) == "command_id is not valid: a string of 1 to 200 characters, not ''"


async def test_many_commands_that_do_not_fit_in_one_request_are_sent_in_several() -> None:
    limits = ClientLimits(frame_bytes_max=2_000)
    async with peer() as there, Client(there.address, limits=limits) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        commands = [Note("x" * size) for size in (700, 700, 700, 5_000, 10)]
        many = start(group, client.execute_many(commands))
        sizes = []
        for _ in range(2):
            request = await visit.request()
            assert len(msgspec.json.encode(request)) < 2_000
            sizes.append([len(each["text"]) for each in request["params"]["commands"]])
            visit.reply(request, {"outcomes": [{"result": RECEIPT}] * len(sizes[-1])})
        assert sizes == [[700, 700], [700]]
        request = await visit.request()
        assert [len(each["text"]) for each in request["params"]["commands"]] == [10]
        visit.reply(request, {"outcomes": [{"result": RECEIPT}]})
        await until(lambda: many.settled)
        assert [type(each) for each in many.value] == [Receipt, Receipt, Receipt, ProtocolViolated, Receipt]


async def test_an_error_of_the_whole_request_is_that_of_each_command_and_none_is_the_same_object() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        many = start(group, client.execute_many([Add("a", 1)] * 2))
        visit.fail(await visit.request(), 2009, "x", error="NotLeader", address="unix:///there")
        await until(lambda: many.settled)
        one, other = many.value
        assert isinstance(one, NotLeader)
        assert isinstance(other, NotLeader)
        assert (one.address, other.address, one is other) == ("unix:///there", "unix:///there", False)


async def test_many_commands_that_were_sent_twice_and_denied_once_are_in_doubt() -> None:
    limits = ClientLimits(retry_seconds_min=0.001)
    async with peer() as there, Client(there.address, limits=limits) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        many = start(group, client.execute_many([Add("a", 1)] * 2, command_ids=["one", "two"]))
        first = await visit.request()
        visit.close()
        visit = await there.visit()
        again = await visit.request()
        assert again == first
        closed = {"code": 2006, "message": "x", "data": {"error": "EngineClosed", "state": "closing"}}
        visit.reply(again, {"outcomes": [{"result": RECEIPT}, {"error": closed}]})
        await until(lambda: many.settled)
        assert many.value[0] == Receipt(3, 7, 1, version=2)
        assert isinstance(many.value[1], ConnectionLost)
        assert many.value[1].sent


@pytest.mark.parametrize("field", ["commit", "position", "events", "version"])
async def test_a_receipt_with_a_number_below_zero_is_none(field: str) -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        outcome = start(group, client.execute(Add("a", 1)))
        visit.reply(await visit.request(), {**RECEIPT, field: -1})
        await until(lambda: outcome.settled)
        assert isinstance(outcome.error, RemoteError)
        assert outcome.error.message.startswith("what came back is no receipt: Expected `int` >= 0")
        assert field in outcome.error.message


async def test_answers_are_read_as_their_query_promises_and_those_that_are_not_that_are_an_error() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        outcomes = [start(group, client.ask(Days())) for _ in range(5)]
        answers: list[Any] = [
            {"answer": {"2026-01-02": "2026-01-02T03:04:05Z", "2026-01-03": None}, "position": 1},
            {"answer": {"yesterday": None}, "position": 1},
            {"position": 1},
            {"answer": {}, "position": -1},
            7,
        ]
        for request, answer in zip(await visit.requests(5), answers, strict=True):
            visit.reply(request, answer)
        await until(lambda: outcomes[-1].settled)
        expected = {date(2026, 1, 2): datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), date(2026, 1, 3): None}
        assert outcomes[0].value == expected
        for outcome in outcomes[1:]:
            assert isinstance(outcome.error, AnswerFailed)
            assert "its answer is not what the query promises: " in outcome.error.problem


async def test_a_query_that_promises_nothing_or_what_json_can_not_hold_has_no_answer_over_a_socket() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        outcomes = [start(group, client.ask(query)) for query in (Unsaid(), Odd())]
        for request in await visit.requests(2):
            visit.reply(request, {"answer": {}, "position": 1})
        await until(lambda: all(outcome.settled for outcome in outcomes))
        for outcome in outcomes:
            assert isinstance(outcome.error, AnswerFailed)
            assert "JSON can't hold what the query promises" in outcome.error.problem


async def test_an_error_that_holds_an_answer_holds_it_as_the_query_promises_or_as_it_came() -> None:
    fields = {"error": "ViewIncomplete", "view": "V", "query": "Q", "position": 5, "parked": 1, "skipped": 0}
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        outcomes = [start(group, client.ask(query)) for query in (Days(), Days(), Numbered(), Unsaid())]
        for request, answer in zip(await visit.requests(4), ({"2026-01-03": None}, [1], {"5": "x"}, [2]), strict=True):
            visit.fail(request, 4008, "x", **fields, answer=answer)
        await until(lambda: all(outcome.settled for outcome in outcomes))
        errors = [failure(outcome) for outcome in outcomes]
        assert all(isinstance(error, ViewIncomplete) for error in errors)
        assert [getattr(error, "answer", None) for error in errors] == [{date(2026, 1, 3): None}, [1], {5: "x"}, [2]]


async def test_errors_about_time_name_the_command_and_the_time_as_their_caller_did() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        executed = start(group, client.execute(Add("a", 1), timeout=60))
        many = start(group, client.execute_many([Add("a", 1)], timeout=60))
        capped = start(group, client.ask(StockOf("a"), after=9, timeout=60))
        unlimited = start(group, client.ask(StockOf("a"), after=9))
        asked = start(group, client.ask(StockOf("a"), after=9, timeout=0.2))
        one, two, *questions = await visit.requests(5)
        late = {"error": "DeadlineExceeded", "command": "add/2", "timeout_seconds": 59.99, "decided": True}
        visit.fail(one, 2002, "x", **late)
        assert 59 < two["params"]["timeout"] <= 60
        visit.reply(two, {"outcomes": [{"error": {"code": 2002, "message": "x", "data": late}}]})
        over = elapsed() + 0.2
        await until(lambda: elapsed() > over)
        for question, seconds in zip(questions, (30.0, 30.0, 0.199), strict=True):
            behind = {"error": "NotYetVisible", "view": "V", "position": 5, "after": 9, "timeout_seconds": seconds}
            visit.fail(question, 2004, "x", **behind)
        await until(lambda: all(outcome.settled for outcome in (executed, many, asked, capped, unlimited)))
        for error in (executed.error, many.value[0]):
            assert isinstance(error, DeadlineExceeded)
            assert (error.command, error.timeout_seconds, error.decided) == ("Add", 60, True)
        for outcome, seconds in ((asked, 0.2), (capped, 30.0), (unlimited, 30.0)):
            assert isinstance(outcome.error, NotYetVisible)
            assert (outcome.error.view, outcome.error.position, outcome.error.after) == ("V", 5, 9)
            assert outcome.error.timeout_seconds == seconds


async def given(visit: Visit, count: int) -> list[str]:
    return [(await visit.request())["params"]["command_id"] for _ in range(count)]


async def test_a_client_that_names_commands_gives_each_an_id_of_its_own_and_leaves_those_that_have_one_alone() -> None:
    async with peer() as there, Client(there.address, name_commands=True) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        start(group, client.execute(Add("a", 1)))
        start(group, client.execute(Add("a", 1), command_id="mine"))
        await settled()
        start(group, client.execute_many([Add("a", 1)] * 2))
        await settled()
        start(group, client.execute_many([Add("a", 1)], command_ids=["also mine"]))
        ids = [*await given(visit, 2)]
        for _ in range(2):
            ids += (await visit.request())["params"]["command_ids"]
        prefix = ids[0].removesuffix("-1")
        assert len(prefix) == 24
        assert ids == [f"{prefix}-1", "mine", f"{prefix}-2", f"{prefix}-3", "also mine"]
        group.cancel_scope.cancel()


async def test_only_commands_with_an_id_are_sent_again() -> None:
    limits = ClientLimits(retry_seconds_min=0.001)
    async with peer() as there, Client(there.address, limits=limits) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        unnamed = start(group, client.execute(Add("a", 1)))
        start(group, client.execute(Add("a", 1), command_id="mine"))
        many = start(group, client.execute_many([Add("a", 1)]))
        await visit.requests(3)
        visit.close()
        visit = await there.visit()
        assert await given(visit, 1) == ["mine"]
        assert isinstance(unnamed.error, ConnectionLost)
        assert unnamed.error.sent
        assert isinstance(many.value[0], ConnectionLost)
        group.cancel_scope.cancel()


async def test_who_hears_that_a_named_command_is_in_doubt_hears_its_name() -> None:
    limits = ClientLimits(retry_seconds_min=0.001, reconnect_seconds_max=0.01)
    async with (
        peer() as there,
        Client(there.address, name_commands=True, limits=limits) as client,
        anyio.create_task_group() as group,
    ):
        visit = await there.visit()
        outcome = start(group, client.execute(Add("a", 1)))
        (name,) = await given(visit, 1)
        await there.stop()
        await until(lambda: outcome.settled)
        assert isinstance(outcome.error, ConnectionLost)
        assert outcome.error.sent
        assert outcome.error.__notes__ == [f"millstream: it was sent under the command_id {name!r}"]
        await there.start()


def named(request: Any) -> tuple[str, int]:
    """What is to be added, of one command."""
    params = request["params"]
    (command,) = [params["command"]] if "command" in params else params["commands"]
    return command["item"], command["count"]


async def test_many_commands_are_never_more_under_way_than_may_be_and_let_others_in_between() -> None:
    async with peer() as there, Client(there.address, limits=ClientLimits(in_flight_max=3)) as client:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            many = start(group, client.execute_many([Add("a", n) for n in range(1, 8)]))
            requests = await visit.requests(3)
            assert [named(request) for request in requests] == [("a", 1), ("a", 2), ("a", 3)]
            start(group, client.execute(Add("b", 1)))
            await settled()
            assert len(client.link._calls.waiting) == 1
            order: list[tuple[str, int]] = []
            for _ in range(8):
                request = requests.pop(0)
                visit.reply(request, RECEIPT if request["method"] == "execute" else {"outcomes": [{"result": RECEIPT}]})
                if len(order) < 5:
                    requests.append(await visit.request())
                    order.append(named(requests[-1]))
        assert order == [("b", 1), ("a", 4), ("a", 5), ("a", 6), ("a", 7)]
        assert many.value == [Receipt(3, 7, 1, version=2)] * 7


async def test_many_commands_that_are_out_of_time_each_say_what_is_known_of_them() -> None:
    limits = ClientLimits(in_flight_max=2, late_seconds_max=0.01)
    async with peer() as there, Client(there.address, limits=limits) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        many = start(group, client.execute_many([Add("a", 1)] * 4, timeout=0.5))
        requests = await visit.requests(2)
        await until(lambda: many.settled)
        assert [type(outcome) for outcome in many.value] == [ConnectionLost] * 2 + [DeadlineExceeded] * 2
        assert [outcome.sent for outcome in many.value[:2]] == [True, True]
        assert [outcome.decided for outcome in many.value[2:]] == [False, False]
        for request in requests:
            visit.reply(request, RECEIPT)
        assert await heard(client.link, visit) == []


async def test_many_commands_that_are_cancelled_are_not_sent_any_more() -> None:
    async with peer() as there, Client(there.address, limits=ClientLimits(in_flight_max=2)) as client:
        visit = await there.visit()
        async with anyio.create_task_group() as asking:
            start(asking, client.ask(StockOf("a")))
            async with anyio.create_task_group() as group:
                start(group, client.execute_many([Add("a", 1)] * 4))
                question, request = await visit.requests(2)
                assert len(client.link._calls.waiting) == 1
                group.cancel_scope.cancel()
            visit.reply(question, {"answer": 1, "position": 1})
        visit.reply(request, RECEIPT)
        assert await heard(client.link, visit) == []
        assert not client.link._calls.waiting


async def test_many_commands_without_a_connection_are_out_of_time_too() -> None:
    limits = ClientLimits(in_flight_max=2, late_seconds_max=0.01)
    async with peer() as there:
        await there.stop()
        async with Client(there.address, eager=False, limits=limits) as client:
            with anyio.fail_after(5):
                outcomes = await client.execute_many([Add("a", 1)] * 7, timeout=0.02)
        await there.start()
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 7
    first = outcomes[0]
    assert isinstance(first, DeadlineExceeded)
    assert (first.command, first.timeout_seconds, first.decided) == ("Add", 0.02, False)
    assert isinstance(first.__cause__, ConnectionLost)
