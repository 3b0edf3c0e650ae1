"""One connection that comes back: against a peer of which the test writes every byte."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from msgspec.structs import replace

from millstream.engine import MillstreamError
from millstream.engine.client import ClientLimits, Link, connecting
from millstream.engine.client.sockets import dial
from millstream.engine.errors import (
    ConnectionLost,
    DeadlineExceeded,
    DefinitionError,
    EngineClosed,
    NotAuthenticated,
    ProtocolViolated,
    Rejected,
    RemoteError,
)
from millstream.engine.loop.clock import elapsed
from tests.engine.client.peer import Peer, Visit, peer, until
from tests.support import Outcome, settled, start

pytestmark = pytest.mark.anyio

QUICK = ClientLimits(retry_seconds_min=0.001, retry_seconds_max=0.001)
#: Gives up soon where nobody is.
BRIEF = ClientLimits(retry_seconds_min=0.001, retry_seconds_max=0.001, reconnect_seconds_max=0.02)

ADD: dict[str, Any] = {"command": {"type": "Add", "item": "a", "count": 1}}
ADD_NAMED: dict[str, Any] = {**ADD, "command_id": "pay-7"}
ASK: dict[str, Any] = {"query": {"type": "StockOf", "item": "a"}}


def value(outcome: Outcome) -> Any:
    assert outcome.error is None
    return msgspec.json.decode(outcome.value)


def lost(outcome: Outcome) -> tuple[str, bool]:
    assert isinstance(outcome.error, ConnectionLost)
    return outcome.error.problem, outcome.error.sent


# Replies.


async def test_replies_find_their_callers_in_whatever_order_they_come() -> None:
    async with peer() as there, Link(there.address) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcomes = [start(group, link.call("ask", {"query": {"n": n}})) for n in range(3)]
            requests = await visit.requests(3)
            assert [request["params"] for request in requests] == [{"query": {"n": n}} for n in range(3)]
            for request in (requests[2], requests[0], requests[1]):
                visit.reply(request, request["params"]["query"]["n"] * 10)
        assert [value(outcome) for outcome in outcomes] == [0, 10, 20]


async def test_what_is_called_in_one_turn_of_the_loop_goes_out_in_one_write() -> None:
    async with peer() as there, Link(there.address) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            for n in range(50):
                group.start_soon(link.call, "ask", {"n": n})
            with anyio.fail_after(5):
                data = await visit.reader.read(100_000)
            requests = [msgspec.json.decode(line) for line in data.splitlines()]
            assert [request["params"]["n"] for request in requests] == list(range(50))
            for request in requests:
                visit.reply(request, None)


async def test_a_reply_may_come_byte_by_byte_and_two_of_them_at_once() -> None:
    async with peer() as there, Link(there.address) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcomes = [start(group, link.call("ask", {"n": n})) for n in range(3)]
            await visit.requests(3)
            for byte in b'{"id":1,"result":"\xc3\xa4\\n","jsonrpc":"2.0"}\n':
                visit.write(bytes([byte]))
                await visit.writer.drain()
                await anyio.lowlevel.checkpoint()
            visit.write(b'{"jsonrpc":"2.0","id":2,"result":[]}\n{"result":{},"id":3}\n')
        assert [value(outcome) for outcome in outcomes] == ["ä\n", [], {}]


async def test_an_error_is_made_anew_and_one_that_is_not_known_keeps_what_came_with_it() -> None:
    async with peer() as there, Link(there.address) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcomes = [start(group, link.call("execute", {"n": n})) for n in range(4)]
            one, two, three, four = await visit.requests(4)
            visit.fail(one, 1001, "x", error="Rejected", code="no_funds", message="only 3", details={"left": 3})
            visit.fail(two, 9999, "quite new", error="NewError", what=[1, 2])
            visit.fail(three, 1001, "odd", error="Rejected", code=5)
            visit.say(id=four["id"], error={"code": -32602, "message": "no such param"})
        rejected, new, odd, violated = (outcome.error for outcome in outcomes)
        assert isinstance(rejected, Rejected)
        assert (rejected.code, rejected.message, rejected.details) == ("no_funds", "only 3", {"left": 3})
        assert isinstance(new, RemoteError)
        assert (new.code, new.message, new.data) == (9999, "quite new", {"error": "NewError", "what": [1, 2]})
        assert isinstance(odd, RemoteError)
        assert isinstance(violated, ProtocolViolated)
        assert (violated.code, violated.problem) == (-32602, "no such param")


async def test_replies_that_nobody_waits_for_are_passed_over() -> None:
    async with peer() as there, Link(there.address) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("ask", ASK))
            request = await visit.request()
            for odd in (77, "1", 1.0, None, -1):
                visit.say(id=odd, result="not yours")
            visit.say(method="watch", params={"watch": 5, "answer": 1, "position": 1})
            visit.say(method="watch", params={"strange": True})
            visit.say(method="unheard of")
            visit.reply(request, "yours")
            visit.reply(request, "twice")
        assert value(outcome) == "yours"
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("ask", ASK))
            visit.reply(await visit.request(), "still there")
        assert value(outcome) == "still there"


async def test_the_reply_to_a_call_that_was_cancelled_is_passed_over_and_nothing_is_left_of_it() -> None:
    async with peer() as there, Link(there.address) as link:
        visit = await there.visit()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(link.call, "ask", ASK)
                request = await visit.request()
                scope.cancel()
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("ask", ASK))
            visit.reply(request, "too late")
            visit.reply(await visit.request(), "in time")
        assert value(outcome) == "in time"
        assert not link._calls.sent
        assert not link._calls.waiting


async def test_a_command_that_is_cancelled_says_whether_it_was_sent() -> None:
    notes: list[list[str]] = []

    async def noted(link: Link) -> None:
        try:
            await link.call("execute", ADD)
        except anyio.get_cancelled_exc_class() as error:
            notes.append(getattr(error, "__notes__", []))
            raise

    async with peer() as there, Link(there.address, limits=ClientLimits(in_flight_max=1)) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            group.start_soon(noted, link)
            request = await visit.request()
            group.start_soon(noted, link)
            await settled()
            group.cancel_scope.cancel()
        visit.reply(request, {})
    assert sorted(notes) == [
        [],
        ["millstream: the command was sent before it was cancelled; it may have happened"],
    ]


# A connection that is lost.


async def test_after_a_lost_connection_questions_and_commands_with_an_id_are_sent_again() -> None:
    async with peer() as there, Link(there.address, limits=QUICK) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            asked = start(group, link.call("ask", ASK))
            named = start(group, link.call("execute", ADD_NAMED))
            unnamed = start(group, link.call("execute", ADD))
            first = await visit.requests(3)
            visit.close()
            visit = await there.visit()
            again = await visit.requests(2)
            assert again == first[:2]
            visit.reply(again[0], "an answer")
            visit.reply(again[1], "a receipt")
        assert (value(asked), value(named)) == ("an answer", "a receipt")
        assert lost(unnamed) == ("it closed the connection", True)


async def test_lines_that_are_none_of_the_protocol_cost_the_connection_but_not_what_was_said_before() -> None:
    async with peer() as there, Link(there.address, limits=QUICK) as link:
        for garbage in (b"SSH-2.0-OpenSSH_9.2\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"[1]\n", b'{"id":[]}\n'):
            visit = await there.visit()
            async with anyio.create_task_group() as group:
                good = start(group, link.call("execute", ADD))
                bad = start(group, link.call("execute", ADD))
                visit.reply((await visit.requests(2))[0], "good")
                visit.write(garbage)
                assert await visit.gone()
            assert value(good) == "good"
            problem, sent = lost(bad)
            assert problem.startswith("it does not speak the protocol, but said b")
            assert garbage[:1] in problem.encode("latin-1") or "\\xff" in problem
            assert sent
            await anyio.lowlevel.checkpoint()
            group_outcome = Outcome()
            async with anyio.create_task_group() as group:
                group.start_soon(group_outcome.follow, link.call("ask", ASK))
                visit = await there.visit()
                visit.reply(await visit.request(), "well again")
                there.visits.put_nowait(visit)
            assert value(group_outcome) == "well again"


@pytest.mark.parametrize("crumbs", [False, True])
async def test_a_reply_that_is_too_long_is_the_error_of_its_call_and_of_nobody_else(crumbs: bool) -> None:
    limits = ClientLimits(reply_bytes_max=1_000)
    async with peer() as there, Link(there.address, limits=limits) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            fits, large, command, after = (
                start(group, link.call(method, {"n": 1})) for method in ("ask", "ask", "execute", "ask")
            )
            requests = await visit.requests(4)
            lengths = (900, 100_000, 1_000, 10)
            said = b"".join(
                b'{"jsonrpc":"2.0","id":%d,"result":"%b"}\n' % (request["id"], b"x" * length)
                for request, length in zip(requests, lengths, strict=True)
            )
            for piece in [said[at : at + 7] for at in range(0, len(said), 7)] if crumbs else [said]:
                visit.write(piece)
        assert (value(fits), value(after)) == ("x" * 900, "x" * 10)
        for outcome in (large, command):
            assert isinstance(outcome.error, RemoteError)
            assert outcome.error.message == (
                "a reply was longer than reply_bytes_max=1,000 and was not read: "
                "ask for less at once, or give ClientLimits a larger one"
            )
        assert there.visits.empty()


async def test_a_reply_that_is_too_long_and_says_not_at_once_whose_it_is_costs_the_connection() -> None:
    limits = ClientLimits(reply_bytes_max=1_000, retry_seconds_min=0.001, sends_max=1)
    async with peer() as there, Link(there.address, limits=limits) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            fits, large = (start(group, link.call("ask", {"n": n})) for n in range(2))
            one, two = await visit.requests(2)
            visit.reply(one, "x" * 900)
            visit.write(b'{"result":"%b","jsonrpc":"2.0","id":%d}\n' % (b"x" * 1_000, two["id"]))
        assert value(fits) == "x" * 900
        problem, sent = lost(large)
        assert problem.startswith('it does not speak the protocol, but said b\'{"result":"xxx')
        assert not sent


async def test_where_nobody_listens_any_more_those_who_wait_are_told_in_the_end_and_a_later_call_tries_again() -> None:
    async with peer() as there, Link(there.address, limits=replace(BRIEF, reconnect_seconds_max=0.5)) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcomes = [start(group, link.call(*call)) for call in (("execute", ADD_NAMED), ("ask", ASK))]
            await visit.requests(2)
            await there.stop()
        assert [lost(outcome)[1] for outcome in outcomes] == [True, False]
        assert "Connect" in lost(outcomes[0])[0]
        with pytest.raises(ConnectionLost, match="nothing happened: it is safe to retry"):
            await link.call("execute", ADD)
        await there.start()
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("execute", ADD))
            visit = await there.visit()
            visit.reply(await visit.request(), "there again")
        assert value(outcome) == "there again"


async def test_a_server_that_takes_connections_and_closes_them_at_once_is_out_of_reach(log_lines: list[Any]) -> None:
    async def close_all(there: Peer) -> None:
        while True:
            (await there.visits.get()).close()

    async with peer() as there, anyio.create_task_group() as group:
        group.start_soon(close_all, there)
        async with Link(there.address, limits=BRIEF) as link:
            with pytest.raises(ConnectionLost) as raised:
                await link.call("ask", ASK)
        group.cancel_scope.cancel()
    assert raised.value.sent is False
    told = {line["event"] for line in log_lines}
    assert told in ({"connection_lost"}, {"connected_again", "connection_lost"})  # as often as there was time for it


async def test_nobody_there_is_an_error_on_entering_unless_the_first_call_is_to_find_out() -> None:
    there = Peer()
    await there.start()
    await there.stop()
    with pytest.raises(ConnectionLost, match=r"no connection to tcp://127\.0\.0\.1:\d+: .*nothing happened"):
        async with Link(there.address):
            pass
    async with Link(there.address, eager=False, limits=QUICK) as link, anyio.create_task_group() as group:
        outcome = start(group, link.call("ask", ASK))
        await settled()
        await there.start()
        visit = await there.visit()
        visit.reply(await visit.request(), 5)
        await until(lambda: outcome.settled)
        assert value(outcome) == 5
    await there.stop()


async def test_an_address_that_is_none_is_an_error_at_once() -> None:
    with pytest.raises(DefinitionError, match="an address is tcp://HOST:PORT"):
        Link("localhost:7411")


async def test_what_a_full_server_did_not_take_is_sent_again_even_a_command_without_an_id() -> None:
    async with peer() as there, Link(there.address, limits=QUICK) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("execute", ADD))
            await visit.request()
            data = {"error": "LimitReached", "limit": "connections_max", "value": 5}
            visit.say(id=None, error={"code": 2011, "message": "full", "data": data})
            visit.close()
            visit = await there.visit()
            visit.reply(await visit.request(), "room now")
        assert value(outcome) == "room now"


async def test_a_server_that_stays_full_is_out_of_reach_in_the_end() -> None:
    data = {"error": "LimitReached", "limit": "connections_max", "value": 5}

    async def refuse_all(there: Peer) -> None:
        while True:
            visit = await there.visits.get()
            visit.say(id=None, error={"code": 2011, "message": "full", "data": data})
            visit.close()

    async with peer() as there, anyio.create_task_group() as group:
        group.start_soon(refuse_all, there)
        async with Link(there.address, limits=BRIEF) as link:
            with anyio.fail_after(10), pytest.raises(ConnectionLost, match="connections_max=5 is reached") as raised:
                await link.call("execute", ADD)
        assert raised.value.sent is False
        group.cancel_scope.cancel()


async def test_what_the_server_says_to_the_connection_as_a_whole_is_why_it_was_lost() -> None:
    async with peer() as there, Link(there.address, limits=QUICK) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("execute", ADD))
            await visit.request()
            visit.say(id=None, error={"code": -32600, "message": "a line is longer than frame_bytes_max=10"})
            visit.close()
        assert lost(outcome) == ("a line is longer than frame_bytes_max=10", True)


async def test_a_server_that_stays_quiet_is_asked_whether_it_is_there_and_then_left() -> None:
    limits = ClientLimits(quiet_seconds_max=0.1, retry_seconds_min=0.001)
    async with peer() as there, Link(there.address, limits=limits) as link:
        visit = await there.visit()
        ping = await visit.request()
        assert (ping["method"], ping["id"]) == ("health", 0)
        visit.reply(ping, {"live": True})
        assert (await visit.request())["method"] == "health"
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("execute", ADD))
            await until(lambda: outcome.settled)
        problem, sent = lost(outcome)
        assert problem.startswith("nothing came from it for 0.")
        assert sent


# Tokens.


async def test_the_token_is_given_first_and_calls_wait_until_it_was_taken() -> None:
    async with peer() as there, Link(there.address, token="geheim", eager=False) as link:
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("ask", ASK))
            visit = await there.visit()
            first = await visit.request()
            assert (first["method"], first["params"]) == ("authenticate", {"token": "geheim"})
            await settled()
            visit.reply(first, {"role": "reader"})
            second = await visit.request()
            assert second["method"] == "ask"
            visit.reply(second, 1)
        assert value(outcome) == 1


async def refuse(visit: Visit) -> None:
    visit.fail(await visit.request(), 1007, "no", error="NotAuthenticated", problem="the token is not known")
    visit.close()


async def test_a_token_that_is_not_known_is_an_error_on_entering() -> None:
    async with peer() as there, anyio.create_task_group() as group:

        async def serve() -> None:
            await refuse(await there.visit())

        group.start_soon(serve)
        with pytest.raises(NotAuthenticated, match="the token is not known"):
            async with Link(there.address, token="falsch"):
                pass


async def test_what_a_stranger_says_to_a_token_is_told_to_nobody() -> None:
    async with peer() as there, anyio.create_task_group() as group:

        async def serve() -> None:
            visit = await there.visit()
            visit.write(b"what is this: " + await visit.line() + b"\n")

        group.start_soon(serve)
        with pytest.raises(ConnectionLost) as raised:
            async with Link(there.address, token="geheim"):
                pass
        assert raised.value.problem == "it does not speak the protocol"


async def test_a_token_that_is_not_known_any_more_ends_what_waits_and_leaves_what_was_sent_in_doubt() -> None:
    async with peer() as there, anyio.create_task_group() as group:
        link = Link(there.address, token="alt", limits=QUICK)
        entered = start(group, link.__aenter__())
        visit = await there.visit()
        visit.reply(await visit.request(), {"role": "writer"})
        await until(lambda: entered.settled)
        sent = start(group, link.call("execute", ADD_NAMED))
        await visit.request()
        visit.close()
        visit = await there.visit()
        waits = start(group, link.call("ask", ASK))
        await settled()
        await refuse(visit)
        await until(lambda: sent.settled)
        assert lost(sent) == (
            "not authenticated: the token is not known; call authenticate with a token first, or give Client(token=…)",
            True,
        )
        assert isinstance(waits.error, NotAuthenticated)
        await link.__aexit__(None, None, None)


async def test_whoever_was_not_let_in_may_try_again_later() -> None:
    async with peer() as there, Link(there.address, token="bald", eager=False, limits=BRIEF) as link:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                outcome = start(group, link.call("ask", ASK))
                await refuse(await there.visit())
            assert isinstance(outcome.error, NotAuthenticated)
            over = elapsed() + 2 * BRIEF.reconnect_seconds_max
            await until(lambda: elapsed() > over)  # noqa: B023 - awaited before it changes
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("ask", ASK))
            visit = await there.visit()
            visit.reply(await visit.request(), {"role": "reader"})
            visit.reply(await visit.request(), "welcome")
        assert value(outcome) == "welcome"


async def test_entering_that_is_cancelled_leaves_no_connection_behind() -> None:
    async with peer() as there, anyio.create_task_group() as group:
        start(group, Link(there.address, token="geheim").__aenter__())
        visit = await there.visit()
        await visit.request()
        group.cancel_scope.cancel()
    assert await visit.gone()


async def test_a_server_that_does_not_answer_a_token_is_not_waited_for_longer_than_a_connection_may_take() -> None:
    async with peer() as there:
        with pytest.raises(ConnectionLost, match=r"there was no connection within connect_seconds_max=0\.5"):
            async with Link(there.address, token="geheim", limits=ClientLimits(connect_seconds_max=0.5)):
                pass
        assert await (await there.visit()).gone() is False


async def test_a_connection_that_is_lost_before_it_was_used_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dial_and_lose(*arguments: Any) -> Any:
        connection = await dial(*arguments)
        if not lost_ones:
            lost_ones.append(connection)
            connection.transport.abort()
            await connection.closed
        return connection

    lost_ones: list[Any] = []
    monkeypatch.setattr(connecting, "dial", dial_and_lose)
    async with peer() as there, Link(there.address, eager=False, limits=QUICK) as link:
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("execute", ADD))
            await there.visit()
            visit = await there.visit()
            visit.reply(await visit.request(), "sent once")
        assert value(outcome) == "sent once"


# Time.


async def test_a_call_is_out_of_time_while_there_is_no_connection_and_says_why() -> None:
    there = Peer()
    await there.start()
    await there.stop()
    async with Link(there.address, eager=False) as link:
        for method, params in (("execute", ADD), ("ask", ASK)):
            with pytest.raises(DeadlineExceeded) as raised:
                await link.call(method, params, timeout=0.5)
            assert (raised.value.command, raised.value.timeout_seconds, raised.value.decided) == (method, 0.5, False)
            assert isinstance(raised.value.__cause__, ConnectionLost)
            assert "Connect" in raised.value.__cause__.problem


async def test_a_call_that_finds_no_room_is_out_of_time_and_is_never_sent() -> None:
    async with peer() as there, Link(there.address, limits=ClientLimits(in_flight_max=1)) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            first = start(group, link.call("execute", {"n": 1}))
            request = await visit.request()
            with pytest.raises(DeadlineExceeded) as raised:
                await link.call("execute", {"n": 2}, timeout=0.01)
            assert (raised.value.decided, raised.value.__cause__) == (False, None)
            third = start(group, link.call("execute", {"n": 3}))
            await settled()
            visit.reply(request, 1)
            request = await visit.request()
            assert request["params"] == {"n": 3}
            visit.reply(request, 3)
        assert (value(first), value(third)) == (1, 3)


async def test_a_command_that_was_sent_waits_a_little_longer_for_the_servers_word_on_it() -> None:
    async with peer() as there, Link(there.address) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("execute", ADD, timeout=0.2))
            request = await visit.request()
            assert 0 < request["params"]["timeout"] <= 0.2
            over = elapsed() + 0.25
            await until(lambda: elapsed() > over)
            assert not outcome.settled
            visit.fail(request, 2002, "x", error="DeadlineExceeded", command="Add", timeout_seconds=0.2, decided=True)
        assert isinstance(outcome.error, DeadlineExceeded)
        assert outcome.error.decided is True


async def test_a_server_that_says_nothing_in_time_leaves_a_command_in_doubt_and_a_question_not() -> None:
    async with peer() as there, Link(there.address, limits=ClientLimits(late_seconds_max=0.01)) as link:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            command = start(group, link.call("execute", ADD, timeout=0.5))
            question = start(group, link.call("ask", ASK, timeout=0.5))
            requests = await visit.requests(2)
        assert lost(command) == ("it has not answered within 0.51 s", True)
        assert isinstance(question.error, DeadlineExceeded)
        assert isinstance(question.error.__cause__, ConnectionLost)
        visit.reply(requests[0], "too late")
        async with anyio.create_task_group() as group:
            outcome = start(group, link.call("ask", ASK))
            visit.reply((await visit.requests(1))[0], "in time")
        assert value(outcome) == "in time"


# Bounds and the end.


async def test_nothing_is_written_to_a_server_that_does_not_read() -> None:
    there, limits = Peer(), ClientLimits(output_bytes_max=10_000)
    there.receive_bytes = 4_096
    async with there, Link(there.address, limits=limits) as link, anyio.create_task_group() as group:
        visit = await there.visit()
        visit.read_on(False)
        count = 400
        outcomes = [start(group, link.call("ask", {"x": "x" * 30_000})) for _ in range(count)]
        connection = link._connection
        assert connection is not None
        await until(lambda: not connection.takes_more)
        assert connection.transport.get_write_buffer_size() < 10_000 + 30_100
        assert len(link._calls.waiting) > 100
        visit.read_on(True)
        for _ in range(count):
            visit.reply(await visit.request(), 1)
        await until(lambda: all(outcome.settled for outcome in outcomes))
        assert [value(outcome) for outcome in outcomes] == [1] * count


async def test_a_server_that_says_nothing_more_is_gone_even_if_it_has_not_taken_all() -> None:
    there = Peer()
    there.receive_bytes = 4_096
    async with there, Link(there.address, limits=ClientLimits(output_bytes_max=10_000)) as link:
        visit = await there.visit()
        visit.read_on(False)
        async with anyio.create_task_group() as group:
            outcomes = [start(group, link.call("execute", {"x": "x" * 30_000})) for _ in range(400)]
            connection = link._connection
            assert connection is not None
            await until(lambda: not connection.takes_more)
            visit.writer.write_eof()
            await until(lambda: connection.closed.done())
            await until(lambda: any(outcome.settled for outcome in outcomes))
            assert {lost(outcome) for outcome in outcomes if outcome.settled} == {("it closed the connection", True)}
            group.cancel_scope.cancel()


async def test_closing_waits_for_commands_and_tells_those_who_ask_that_it_is_over() -> None:
    async with peer() as there, anyio.create_task_group() as group:
        link = Link(there.address, limits=ClientLimits(in_flight_max=1))
        await link.__aenter__()
        visit = await there.visit()
        first, second = (start(group, link.call("execute", {"n": n})) for n in range(2))
        asked = start(group, link.call("ask", ASK))
        await settled()
        closed = start(group, link.__aexit__(None, None, None))
        await settled()
        assert isinstance(asked.error, EngineClosed)
        assert not closed.settled
        with pytest.raises(EngineClosed, match="the engine is closing"):
            await link.call("execute", ADD)
        visit.reply(await visit.request(), 1)
        visit.reply(await visit.request(), 2)
        assert await visit.gone()
        await until(lambda: closed.settled)
        assert (value(first), value(second)) == (1, 2)
    with pytest.raises(EngineClosed, match="the engine is closed"):
        await link.call("ask", ASK)
    with pytest.raises(EngineClosed, match="the engine is closed"):
        await link.__aenter__()


async def test_closing_does_not_wait_for_ever_and_says_what_is_in_doubt() -> None:
    async with peer() as there, anyio.create_task_group() as group:
        link = Link(there.address, limits=ClientLimits(in_flight_max=1, drain_seconds_max=0.01))
        await link.__aenter__()
        visit = await there.visit()
        sent, waits = (start(group, link.call("execute", {"n": n})) for n in range(2))
        await visit.request()
        await link.__aexit__(None, None, None)
        await settled()
        assert lost(sent) == ("the client was closed", True)
        assert isinstance(waits.error, EngineClosed)
        assert await visit.gone()


@pytest.mark.parametrize("stops", ["before", "while"])
async def test_closing_does_not_wait_for_a_server_that_is_gone(stops: str) -> None:
    async with peer() as there, anyio.create_task_group() as group:
        link = Link(there.address)
        await link.__aenter__()
        visit = await there.visit()
        outcome = start(group, link.call("execute", ADD_NAMED))
        await visit.request()
        if stops == "before":
            await there.stop()
            await until(lambda: link._connection is None)
        closed = start(group, link.__aexit__(None, None, None))
        if stops == "while":
            await settled()
            assert not closed.settled
            await there.stop()
        await until(lambda: closed.settled and outcome.settled)
        assert lost(outcome)[1] is True
        if stops == "before":
            await there.start()


async def test_a_link_that_is_not_open_yet_takes_nothing() -> None:
    link = Link("tcp://127.0.0.1:1")
    with pytest.raises(EngineClosed, match="not open yet"):
        await link.call("ask", ASK)


def test_everything_that_a_link_raises_is_an_error_of_ours() -> None:
    assert issubclass(ConnectionLost, MillstreamError)
