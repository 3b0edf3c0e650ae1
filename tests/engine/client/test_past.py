"""Yesterday's answers over a socket, in Python and on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio.to_thread
import pytest

from millstream.engine import Engine, InvalidMessage
from millstream.engine.client import Client, SyncClient
from millstream.engine.server import Server
from tests.engine.client.test_agenda import serving
from tests.engine.server.caller import calling
from tests.shop import Add, StockOf, shop

pytestmark = pytest.mark.anyio


async def test_a_client_is_told_what_somebody_in_the_engines_process_is() -> None:
    engine = Engine(shop, log="memory:")
    async with serving(engine) as address, Client(address) as client:
        receipts = [await client.execute(Add("a", 1)) for _ in range(3)]
        assert [await client.ask(StockOf("a"), at=receipt) for receipt in receipts] == [1, 2, 3]
        answered = await client.answer(StockOf("a"), at=2, timeout=20)
        assert (answered.answer, answered.position) == (2, 2)
        assert await client.ask(StockOf("a"), at=datetime.now(UTC)) == 3
        with pytest.raises(InvalidMessage, match="position 4 is above the head of the log"):
            await client.ask(StockOf("a"), at=4)
        with pytest.raises(InvalidMessage, match="is before the log's first commit"):
            await client.ask(StockOf("a"), at=datetime.now(UTC) - timedelta(days=1))
        with pytest.raises(InvalidMessage, match="is in the future"):
            await client.ask(StockOf("a"), at=datetime.now(UTC) + timedelta(days=1))
        with pytest.raises(InvalidMessage, match="without a zone"):
            await client.ask(StockOf("a"), at=datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(InvalidMessage, match="position -1 is before the log"):
            await client.ask(StockOf("a"), at=-1)
        with pytest.raises(InvalidMessage, match="not both"):
            await client.ask(StockOf("a"), at=1, after=2)

        def script() -> int:
            with SyncClient(address) as sync:
                return sync.ask(StockOf("a"), at=2)

        assert await anyio.to_thread.run_sync(script) == 2


async def test_a_line_asks_at_a_position_or_a_time() -> None:
    engine = Engine(shop, log="memory:")
    async with engine, Server(engine, listen=["tcp://127.0.0.1:0"]) as server, calling(server) as caller:
        await engine.execute(Add("a", 1))
        await engine.execute(Add("a", 1))
        query = {"type": "StockOf", "item": "a"}
        assert await caller.call("ask", {"query": query, "at": 1}) == {"answer": 1, "position": 1}
        assert await caller.call("ask", {"query": query, "at": "1"}) == {"answer": 1, "position": 1}
        now = datetime.now(UTC).isoformat()
        assert await caller.call("ask", {"query": query, "at": now}) == {"answer": 2, "position": 2}
        for wrong, problem in (("yesterday", "neither a position nor a time"), (9, "above the head")):
            error = await caller.call("ask", {"query": query, "at": wrong})
            assert (error["data"]["error"], problem in error["message"]) == ("InvalidMessage", True)
