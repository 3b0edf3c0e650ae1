"""What is told again and again, over lost connections: against a peer of which the test writes every byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import msgspec
import pytest

from millstream.engine import Answered, Query
from millstream.engine.client import Client, ClientLimits, Link
from millstream.engine.client.subscriptions import Policy
from millstream.engine.errors import (
    AnswerFailed,
    ConnectionLost,
    EngineClosed,
    RemoteError,
    ViewIncomplete,
    WatchesFull,
    WatchOverrun,
)
from tests.engine.client.peer import Peer, Visit, heard, peer, until
from tests.shop import StockOf
from tests.support import Outcome, settled, start

pytestmark = pytest.mark.anyio

QUICK = ClientLimits(retry_seconds_min=0.001, retry_seconds_max=0.001, watch_answers_max=3, stream_pages_max=3)


class Members(Query[frozenset[str]]):
    pass


class Watching:
    """A watch that a task reads, and what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.outcome = Outcome()
        self.ready = anyio.Event()
        self.go_on = anyio.Event()
        self.go_on.set()

    async def run(self, client: Client, query: Query[Any], **options: Any) -> None:
        await self.outcome.follow(self._read(client, query, options))

    async def _read(self, client: Client, query: Query[Any], options: dict[str, Any]) -> None:
        async with client.watch(query, **options) as answers:
            self.ready.set()
            async for answered in answers:
                self.given.append((answered.answer, answered.position))
                await self.go_on.wait()


async def begun(visit: Visit, number: int) -> dict[str, Any]:
    """Answer the request for a watch; returns its parameters."""
    request = await visit.request()
    assert request["method"] == "watch"
    visit.reply(request, {"watch": number})
    params: dict[str, Any] = request["params"]
    return params


async def test_a_watch_is_asked_for_and_given_its_answers_and_ended() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(watching.run, client, StockOf("a"))
        request = await visit.request()
        assert request["params"] == {
            "query": {"type": "StockOf", "item": "a"},
            "every": False,
            "incomplete": False,
            "after": 0,
        }
        visit.write(
            b'{"jsonrpc":"2.0","id":1,"result":{"watch":7}}\n'
            b'{"jsonrpc":"2.0","method":"watch","params":{"watch":7,"answer":3,"position":4}}\n'
        )
        await heard(client.link, visit)
        visit.tell(7, 5, 9)
        visit.tell(8, 66, 9)
        await heard(client.link, visit)
        assert watching.given == [(3, 4), (5, 9)]
        group.cancel_scope.cancel()
    assert await visit.line() == b'{"jsonrpc":"2.0","method":"unwatch","params":{"watch":7}}'
    assert await visit.gone()


async def test_who_takes_slowly_gets_the_newest_answer_and_none_twice_in_a_row() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(watching.run, client, StockOf("a"))
        await begun(visit, 1)
        watching.go_on = anyio.Event()
        visit.tell(1, 1, 1)
        await heard(client.link, visit)
        for position, answer in ((2, 2), (3, 3), (4, 1)):
            visit.tell(1, answer, position)
        await heard(client.link, visit)
        watching.go_on.set()
        await settled()
        assert watching.given == [(1, 1)]
        visit.tell(1, 5, 5)
        await heard(client.link, visit)
        assert watching.given == [(1, 1), (5, 5)]
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([(3, 4)], [(3, 6), (5, 9)], [(3, 4), (5, 9)]),
        ([(3, 4)], [(4, 6), (5, 9)], [(3, 4), (4, 6), (5, 9)]),
        ([], [(3, 6)], [(3, 6)]),
    ],
)
async def test_after_a_lost_connection_a_watch_goes_on_where_it_was(
    before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]], expected: Sequence[tuple[int, int]]
) -> None:
    async with peer() as there, Client(there.address, limits=QUICK) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(watching.run, client, StockOf("a"))
        params = await begun(visit, 1)
        for answer in before:
            visit.tell(1, *answer)
        await heard(client.link, visit)
        visit.close()
        visit = await there.visit()
        assert await begun(visit, 4) == params | {"after": before[-1][1] if before else 0}
        for answer in after:
            visit.tell(4, *answer)
            await heard(client.link, visit)
        assert watching.given == expected
        group.cancel_scope.cancel()
    assert (await visit.request())["params"] == {"watch": 4}


async def test_what_was_told_and_not_taken_yet_is_not_asked_for_again() -> None:
    async with peer() as there, Client(there.address, limits=QUICK) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(watching.run, client, StockOf("a"))
        await begun(visit, 1)
        watching.go_on = anyio.Event()
        visit.tell(1, 1, 1)
        await heard(client.link, visit)
        visit.tell(1, 2, 5)
        await heard(client.link, visit)
        visit.close()
        visit = await there.visit()
        assert (await begun(visit, 1))["after"] == 5
        watching.go_on.set()
        await settled()
        visit.tell(1, 2, 8)
        await heard(client.link, visit)
        assert watching.given == [(1, 1), (2, 5)]
        group.cancel_scope.cancel()


async def test_an_answer_that_is_only_written_in_another_order_is_the_same() -> None:
    async with peer() as there, Client(there.address, limits=QUICK) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(watching.run, client, Members())
        await begun(visit, 1)
        visit.tell(1, ["a", "b"], 1)
        await heard(client.link, visit)
        visit.close()
        visit = await there.visit()
        await begun(visit, 1)
        visit.tell(1, ["b", "a"], 2)
        await heard(client.link, visit)
        visit.tell(1, ["b", "c"], 3)
        await heard(client.link, visit)
        assert watching.given == [(frozenset("ab"), 1), (frozenset("bc"), 3)]
        group.cancel_scope.cancel()


async def test_a_connection_may_be_lost_before_the_watch_has_begun() -> None:
    async with peer() as there, Client(there.address, limits=QUICK) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(
            watching.run,
            client,
            StockOf("a"),
        )
        first = await visit.request()
        visit.close()
        visit = await there.visit()
        assert await begun(visit, 1) == first["params"]
        visit.tell(1, 1, 1)
        await heard(client.link, visit)
        assert watching.given == [(1, 1)]
        group.cancel_scope.cancel()


async def test_a_watch_of_every_answer_ends_with_its_connection_after_what_was_told() -> None:
    async with peer() as there, Client(there.address, limits=QUICK) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(lambda: watching.run(client, StockOf("a"), every=True, after=3))
        assert await begun(visit, 1) == {
            "query": {"type": "StockOf", "item": "a"},
            "every": True,
            "incomplete": False,
            "after": 3,
        }
        watching.go_on = anyio.Event()
        visit.tell(1, 1, 4)
        visit.tell(1, 2, 5)
        await heard(client.link, visit)
        visit.close()
        watching.go_on.set()
        await until(lambda: watching.outcome.settled)
        assert watching.given == [(1, 4), (2, 5)]
        assert isinstance(watching.outcome.error, ConnectionLost)
        assert watching.outcome.error.sent is False
        assert watching.outcome.error.problem == (
            "it closed the connection; a watch of every answer can't go on without a gap, and its last one was at 5"
        )
        assert there.visits.empty()


async def test_a_watch_of_every_answer_holds_no_more_of_them_than_may_wait() -> None:
    async with peer() as there, Client(there.address, limits=QUICK) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(lambda: watching.run(client, StockOf("a"), every=True))
        await begun(visit, 1)
        watching.go_on = anyio.Event()
        said: list[Any] = []
        for position in range(1, 8):
            visit.tell(1, position, position)
            said += await heard(client.link, visit)
        assert [request["params"] for request in said] == [{"watch": 1}]
        watching.go_on.set()
        await settled()
        assert watching.given == [(1, 1), (2, 2), (3, 3), (4, 4)]
        assert isinstance(watching.outcome.error, WatchOverrun)
        assert (watching.outcome.error.position, watching.outcome.error.watch_answers_max) == (4, 3)


async def test_a_watch_of_every_answer_holds_no_more_bytes_of_them_than_may_wait() -> None:
    limits = ClientLimits(watch_answers_bytes_max=20)
    async with peer() as there, Client(there.address, limits=limits) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(lambda: watching.run(client, StockOf("a"), every=True))
        await begun(visit, 1)
        watching.go_on = anyio.Event()
        said: list[Any] = []
        for position in range(1, 8):
            visit.tell(1, 10**8 + position, position)
            said += await heard(client.link, visit)
        assert [request["params"] for request in said] == [{"watch": 1}]
        watching.go_on.set()
        await settled()
        assert [position for _, position in watching.given] == [1, 2, 3]
        assert isinstance(watching.outcome.error, WatchOverrun)
        assert watching.outcome.error.watch_answers_bytes_max == 20


async def test_an_error_on_entering_is_the_servers() -> None:
    async with peer() as there, Client(there.address) as client:
        visit = await there.visit()
        for data, kind in (({"error": "WatchesFull", "watches": 5, "watches_max": 5}, WatchesFull), ({}, RemoteError)):
            async with anyio.create_task_group() as group:
                watching = Watching()
                group.start_soon(watching.run, client, StockOf("a"))
                visit.fail(await visit.request(), 2008, "x", **data)
            assert isinstance(watching.outcome.error, kind)
            assert not watching.ready.is_set()
        async with anyio.create_task_group() as group:
            watching = Watching()
            group.start_soon(watching.run, client, StockOf("a"))
            visit.reply(await visit.request(), "no number")
        assert isinstance(watching.outcome.error, RemoteError)
        assert not client.link.running


async def test_an_error_that_ends_a_watch_comes_after_its_answers_and_holds_what_the_query_promises() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(watching.run, client, Members())
        await begun(visit, 1)
        visit.tell(1, ["a"], 1)
        await heard(client.link, visit)
        fields = {"view": "V", "query": "Members", "position": 5, "parked": 1, "skipped": 0, "answer": ["a", "b"]}
        error = {"code": 4008, "message": "x", "data": {"error": "ViewIncomplete", **fields}}
        visit.say(method="watch", params={"watch": 1, "error": error})
        await heard(client.link, visit)
        assert watching.given == [(frozenset("a"), 1)]
        assert isinstance(watching.outcome.error, ViewIncomplete)
        assert watching.outcome.error.answer == frozenset("ab")
        assert not client.link.running


async def test_a_watch_whose_server_stops_waits_for_the_next_one() -> None:
    closed = {"code": 2006, "message": "x", "data": {"error": "EngineClosed", "state": "closing"}}
    async with peer() as there, Client(there.address, limits=QUICK) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        newest, every = Watching(), Watching()
        group.start_soon(newest.run, client, StockOf("a"))
        await begun(visit, 1)
        group.start_soon(lambda: every.run(client, StockOf("a"), every=True))
        await begun(visit, 2)
        visit.tell(1, 1, 1)
        for number in (1, 2):
            visit.say(method="watch", params={"watch": number, "error": closed})
        assert (await visit.request())["params"]["after"] == 1
        visit.close()
        visit = await there.visit()
        assert (await begun(visit, 1))["after"] == 1
        visit.tell(1, 2, 2)
        await heard(client.link, visit)
        assert newest.given == [(1, 1), (2, 2)]
        assert isinstance(every.outcome.error, EngineClosed)
        visit.say(method="watch", params={"watch": 1, "error": closed})
        visit.fail(await visit.request(), 2006, "x", error="EngineClosed", state="closed")
        await heard(client.link, visit)
        assert isinstance(newest.outcome.error, EngineClosed)


async def test_an_answer_that_is_not_what_the_query_promises_ends_the_watch() -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching = Watching()
        group.start_soon(watching.run, client, StockOf("a"))
        await begun(visit, 1)
        visit.tell(1, "three", 1)
        said = await heard(client.link, visit)
        assert isinstance(watching.outcome.error, AnswerFailed)
        assert "Expected `int`, got `str`" in str(watching.outcome.error)
        said += await heard(client.link, visit)
        assert [request["method"] for request in said] == ["unwatch"]


@pytest.mark.parametrize("told", [{"position": -1, "answer": 3}, {"position": "1", "answer": 3}, {"error": 7}])
async def test_what_is_told_and_is_none_of_the_protocol_ends_its_watch_and_no_other(told: dict[str, Any]) -> None:
    async with peer() as there, Client(there.address) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching, other = Watching(), Watching()
        for number, each in ((1, watching), (2, other)):
            group.start_soon(each.run, client, StockOf("a"))
            await begun(visit, number)
        visit.tell(1, 2, 1)
        visit.say(method="watch", params={"watch": 1, **told})
        visit.say(method="watch", params={"watch": 3, **told})
        visit.tell(1, 4, 9)
        visit.tell(2, 5, 9)
        await until(lambda: watching.outcome.settled and other.given)
        assert watching.given in ([], [(2, 1)])
        assert isinstance(watching.outcome.error, RemoteError)
        assert watching.outcome.error.message.startswith("what came for the watch is none of the protocol: ")
        assert other.given == [(5, 9)]
        assert (await visit.request())["method"] == "unwatch"
        group.cancel_scope.cancel()


async def test_an_answer_that_is_too_long_ends_its_watch_and_no_other() -> None:
    limits = ClientLimits(reply_bytes_max=1_000)
    async with peer() as there, Client(there.address, limits=limits) as client, anyio.create_task_group() as group:
        visit = await there.visit()
        watching, other = Watching(), Watching()
        for number, each in ((1, watching), (2, other)):
            group.start_soon(each.run, client, StockOf("a"))
            await begun(visit, number)
        visit.tell(1, "x" * 1_000, 1)
        visit.tell(2, 5, 9)
        await until(lambda: watching.outcome.settled and other.given)
        assert isinstance(watching.outcome.error, RemoteError)
        assert "longer than reply_bytes_max=1,000" in watching.outcome.error.message
        assert other.given == [(5, 9)]
        group.cancel_scope.cancel()


async def test_a_watch_that_is_left_before_it_has_begun_is_ended_once_it_has() -> None:
    async with peer() as there, Client(there.address) as client:
        visit = await there.visit()
        async with anyio.create_task_group() as group:
            group.start_soon(Watching().run, client, StockOf("a"))
            await visit.request()
            group.cancel_scope.cancel()
        visit.write(b'{"jsonrpc":"2.0","id":1,"result":{"watch":3}}\n')
        visit.tell(3, 1, 1)
        assert await visit.line() == b'{"jsonrpc":"2.0","method":"unwatch","params":{"watch":3}}'
        assert not client.link.running


async def test_a_watch_ends_when_the_client_does_or_when_the_server_stays_out_of_reach() -> None:
    brief = ClientLimits(retry_seconds_min=0.001, reconnect_seconds_max=0.01)
    async with peer() as there, anyio.create_task_group() as group:
        client, other = Client(there.address), Client(there.address, limits=brief)
        await client.__aenter__()
        visit = await there.visit()
        await other.__aenter__()
        second = await there.visit()
        watching, waiting = Watching(), Watching()
        group.start_soon(watching.run, client, StockOf("a"))
        await begun(visit, 1)
        group.start_soon(waiting.run, other, StockOf("a"))
        await begun(second, 1)
        await client.__aexit__(None, None, None)
        await settled()
        assert isinstance(watching.outcome.error, EngineClosed)
        await there.stop()
        await until(lambda: waiting.outcome.settled)
        assert isinstance(waiting.outcome.error, ConnectionLost)
        await other.__aexit__(None, None, None)
        await there.start()


# Follow.


def events(*positions: int) -> list[dict[str, Any]]:
    return [{"position": position} for position in positions]


def tell(visit: Visit, number: int, *positions: int) -> None:
    params = {"watch": number, "events": events(*positions), "position": positions[-1]}
    visit.say(method="follow", params=params)


async def test_a_stream_loses_nothing_when_it_is_taken_slowly_or_its_connection_is_lost() -> None:
    async with peer() as there, Link(there.address, limits=QUICK) as link, anyio.create_task_group() as group:
        visit = await there.visit()
        begins = start(group, link.subscribe("follow", {"keys": ["a"]}, after=10, policy=Policy.STREAM))
        request = await visit.request()
        assert (request["method"], request["params"]) == ("follow", {"keys": ["a"], "after": 10})
        visit.reply(request, {"watch": 1})
        await heard(link, visit)
        stream = begins.value
        for position in range(11, 17):
            tell(visit, 1, position)
        assert [request["params"] for request in await heard(link, visit) + await heard(link, visit)] == [{"watch": 1}]
        given = [msgspec.json.decode((await stream.next()).content) for _ in range(3)]
        assert given == [events(11), events(12), events(13)]
        following = start(group, stream.next())
        request = await visit.request()
        assert request["params"] == {"keys": ["a"], "after": 13}
        visit.reply(request, {"watch": 2})
        tell(visit, 2, 14, 15)
        await heard(link, visit)
        assert msgspec.json.decode(following.value.content) == events(14, 15)
        visit.close()
        visit = await there.visit()
        request = await visit.request()
        assert request["params"] == {"keys": ["a"], "after": 15}
        visit.reply(request, {"watch": 1})
        tell(visit, 1, 16)
        assert (await stream.next()).position == 16
        stream.close()
        assert (await visit.request())["params"] == {"watch": 1}


async def test_the_answers_of_a_watch_are_typed() -> None:
    async def typed(there: Peer) -> list[Answered[int]]:
        async with Client(there.address) as client, client.watch(StockOf("a")) as answers:
            found: AsyncIterator[Answered[int]] = answers
            return [await anext(found)]

    async with peer() as there, anyio.create_task_group() as group:
        outcome = start(group, typed(there))
        visit = await there.visit()
        await begun(visit, 1)
        visit.tell(1, 3, 4)
        await until(lambda: outcome.settled)
        assert outcome.value == [Answered(3, 4)]
