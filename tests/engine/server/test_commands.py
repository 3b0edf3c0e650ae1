from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from millstream.engine import Engine, NotLeader, Receipt
from millstream.engine.errors import RemoteError
from millstream.engine.server import Server, ServerLimits
from tests.engine.server.caller import ADD, STOCK, calling, request, until
from tests.shop import shop
from tests.support import settled

pytestmark = pytest.mark.anyio


class Beside:
    """A backend that is no engine: it answers by itself, and passes commands on when it is told to."""

    role = "replica"
    admission = None
    not_ready: ClassVar[list[str]] = []

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.given: list[dict[str, Any]] = []
        self.outcomes: asyncio.Queue[Receipt | BaseException] = asyncio.Queue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def execute(self, command: Any, **terms: Any) -> Receipt:
        self.given.append({"command": command, **terms})
        outcome = await self.outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@contextlib.asynccontextmanager
async def beside(limits: ServerLimits | None = None) -> AsyncIterator[tuple[Beside, Server]]:
    async with Engine(shop, log="memory:") as engine:
        backend: Any = Beside(engine)
        async with Server(backend, listen=["tcp://127.0.0.1:0"], limits=limits) as server:
            yield backend, server


async def test_a_command_is_passed_on_with_all_its_terms_and_its_receipt_comes_back() -> None:
    async with beside() as (backend, server), calling(server) as caller:
        backend.outcomes.put_nowait(Receipt(7, 8, 1, "id", 3))
        receipt = await caller.call(
            "execute",
            {
                "command": ADD,
                "command_id": "id",
                "expected_version": 2,
                "metadata": {"actor": "ann"},
                "timeout": 3,
                "wait": False,
            },
        )
        assert receipt == {
            "commit": 7,
            "position": 8,
            "events": 1,
            "command_id": "id",
            "version": 3,
            "repeated": False,
            "parked": 0,
            "answer": None,
        }
        (given,) = backend.given
        assert str(given) == (
            "{'command': Add(item='a', count=1), 'command_id': 'id', 'expected_version': 2, "
            "'metadata': Metadata(actor='ann', correlation=None, causation=None, trace=None, extra=None), "
            "'timeout': 3.0, 'wait': False}"
        )


async def test_errors_come_back_as_they_are_also_those_that_are_not_known_here() -> None:
    async with beside() as (backend, server), calling(server) as caller:
        for error, expected in (
            (NotLeader("tcp://127.0.0.1:1"), (2009, {"error": "NotLeader", "address": "tcp://127.0.0.1:1"})),
            (RemoteError(9_999, "news", {"x": 1}), (9_999, {"x": 1})),
        ):
            backend.outcomes.put_nowait(error)
            found = await caller.call("execute", {"command": ADD})
            assert (found["code"], found["data"]) == expected
        assert server.stats().in_flight == 0


async def test_other_requests_are_answered_while_a_command_is_under_way() -> None:
    async with beside() as (backend, server), calling(server) as caller:
        await caller.send(request("execute", {"command": ADD}, "slow") + request("ask", {"query": STOCK}, "quick"))
        assert (await caller.reply())["id"] == "quick"
        backend.outcomes.put_nowait(Receipt(1, 1, 1))
        assert (await caller.reply())["id"] == "slow"


async def test_no_more_commands_are_under_way_than_may_be() -> None:
    async with beside(ServerLimits(forwards_max=4)) as (backend, server), calling(server) as caller:
        await caller.send(b"".join(request("execute", {"command": ADD}, number) for number in range(3)))
        refused = await caller.reply()
        assert (refused["id"], refused["error"]["data"]) == (
            2,
            {"error": "LimitReached", "limit": "forwards_max", "value": 4, "held": 2},
        )
        async with calling(server) as other, calling(server) as last:
            for each in (other, last):
                await each.send(request("execute", {"command": ADD}))
            await until(lambda: len(backend.given) == 4)
            full = await last.call("execute", {"command": ADD})
            assert full["data"] == {"error": "LimitReached", "limit": "forwards_max", "value": 4, "held": None}
            other.vanish()
            last.vanish()
        await until(lambda: server.stats().connections == 1)
        backend.outcomes.put_nowait(Receipt(1, 1, 1))
        assert (await caller.reply())["id"] == 0
        await caller.send(request("execute", {"command": ADD}, 4))
        backend.outcomes.put_nowait(Receipt(2, 2, 1))
        backend.outcomes.put_nowait(Receipt(3, 3, 1))
        assert [each["id"] for each in await caller.replies(2)] == [1, 4]


async def test_no_more_bytes_of_large_commands_are_under_way_than_may_be() -> None:
    limits = ServerLimits(forwards_bytes_max=100_000)
    large = request("execute", {"command": ADD, "metadata": {"actor": "x" * 40_000}})
    async with beside(limits) as (backend, server), calling(server) as caller, calling(server) as other:
        await caller.send(large * 3)
        full = {"error": "LimitReached", "limit": "forwards_bytes_max", "value": 100_000, "held": None}
        assert (await caller.reply())["error"]["data"] == full
        await other.send(large)
        assert (await other.reply())["error"]["data"] == full
        for position in (1, 2, 3):
            backend.outcomes.put_nowait(Receipt(position, position, 1))
        assert [each["result"]["position"] for each in await caller.replies(2)] == [1, 2]
        await other.send(large)
        assert (await other.reply())["result"]["position"] == 3


async def test_one_that_goes_leaves_none_of_its_commands_under_way() -> None:
    async with beside(ServerLimits(forwards_max=6)) as (backend, server):
        async with calling(server) as caller:
            await caller.send(request("execute", {"command": ADD}) * 3)
            await until(lambda: len(backend.given) == 3)
            caller.vanish()
        await until(lambda: not server.stats().connections)
        await settled()
        async with calling(server) as caller:
            backend.outcomes.put_nowait(Receipt(1, 1, 1))
            assert (await caller.call("execute", {"command": ADD}))["position"] == 1


async def test_its_health_says_that_it_is_a_replica() -> None:
    async with beside() as (_, server), calling(server) as caller:
        assert (await caller.call("health"))["role"] == "replica"
