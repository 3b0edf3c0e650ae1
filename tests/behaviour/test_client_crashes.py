"""A server that is killed and started again under its callers: what they sent happens once, and they hear of it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import Receipt
from millstream.engine.client import Client, ClientLimits
from millstream.engine.errors import ConnectionLost
from tests.engine.client.peer import until
from tests.engine.client.serving import Served, served
from tests.shop import Add, StockOf

pytestmark = pytest.mark.anyio

CALLERS = 50
COMMANDS = 12
KILLED_AFTER = (100, 300)
LIMITS = ClientLimits(retry_seconds_min=0.005, retry_seconds_max=0.05)


def logged(log: Path) -> list[tuple[int, str | None, str]]:
    """Position, command id and item of each event, read without any of our code."""
    with closing(sqlite3.connect(log)) as database:
        rows = database.execute(
            "select position, command_id, json_extract(data, '$.item') from events order by position"
        )
        return [(position, command_id, item) for position, command_id, item in rows]


class Tally:
    """Counts, and tells when enough is counted."""

    def __init__(self) -> None:
        self._count = 0
        self._enough = 0
        self._reached = anyio.Event()

    def add(self) -> None:
        self._count += 1
        if self._count >= self._enough:
            self._reached.set()

    async def reach(self, enough: int) -> None:
        self._enough, self._reached = enough, anyio.Event()
        if self._count < enough:
            with anyio.fail_after(60):
                await self._reached.wait()


class Watcher:
    """What a watch gave, while the server came and went."""

    def __init__(self) -> None:
        self.given: list[tuple[int, int]] = []

    async def run(self, client: Client) -> None:
        async with client.watch(StockOf("all")) as answers:
            async for answered in answers:
                self.given.append((answered.answer, answered.position))


async def test_commands_with_ids_happen_once_each_and_each_caller_gets_its_receipt(tmp_path: Path) -> None:
    receipts: dict[str, Receipt] = {}
    tally = Tally()

    async def caller(client: Client, number: int) -> None:
        for nth in range(COMMANDS):
            name = f"{number}-{nth}"
            receipts[name] = await client.execute(Add("all", 1), command_id=name)
            tally.add()

    async def killer(server: Served) -> None:
        for count in KILLED_AFTER:
            await tally.reach(count)
            server.kill()
            await server.start()

    watchers = [Watcher() for _ in range(3)]
    with served(tmp_path) as server:
        await server.start()
        async with Client(server.address, limits=LIMITS) as client, anyio.create_task_group() as watching:
            for watcher in watchers:
                watching.start_soon(watcher.run, client)
            async with anyio.create_task_group() as group:
                group.start_soon(killer, server)
                for number in range(CALLERS):
                    group.start_soon(caller, client, number)
            total = CALLERS * COMMANDS
            await until(lambda: all(watcher.given[-1][0] == total for watcher in watchers))
            watching.cancel_scope.cancel()

    events = logged(tmp_path / "shop.db")
    assert Counter(name for _, name, _ in events) == {
        f"{n}-{nth}": 1 for n in range(CALLERS) for nth in range(COMMANDS)
    }
    assert {name: receipt.position for name, receipt in receipts.items()} == {
        name: position for position, name, _ in events
    }
    for watcher in watchers:
        assert watcher.given == sorted(set(watcher.given))
        assert all(answer == position for answer, position in watcher.given)


async def test_a_client_that_names_commands_needs_no_ids_for_that_and_many_at_once_are_no_different(
    tmp_path: Path,
) -> None:
    outcomes: list[Receipt | Exception] = []

    async def seen(client: Client, position: int) -> None:
        async with client.watch(StockOf("a")) as answers:
            async for answered in answers:
                if answered.position >= position:
                    return

    async def many(client: Client, name: str) -> None:
        outcomes.extend(await client.execute_many([Add(name, 1)] * 2_000))

    with served(tmp_path) as server:
        await server.start()
        async with (
            Client(server.address, name_commands=True, limits=LIMITS) as client,
            anyio.create_task_group() as group,
        ):
            for name in "ab":
                group.start_soon(many, client, name)
            for position in (500, 2_000):
                await seen(client, position)
                server.kill()
                await server.start()
    assert {type(outcome) for outcome in outcomes} == {Receipt}
    events = logged(tmp_path / "shop.db")
    assert Counter(item for _, _, item in events) == {"a": 2_000, "b": 2_000}
    assert len({name for _, name, _ in events}) == 4_000


async def test_a_command_without_an_id_that_was_under_way_is_in_doubt_and_never_sent_twice(tmp_path: Path) -> None:
    outcomes: list[Receipt | ConnectionLost] = []
    tally = Tally()

    async def caller(client: Client, server: Served) -> None:
        for _ in range(COMMANDS):
            try:
                outcomes.append(await client.execute(Add("all", 1)))
            except ConnectionLost as error:
                outcomes.append(error)
            if len(outcomes) == 200:
                server.freeze()  # here, so that the next command of this caller at least is sent and never answered
            tally.add()

    with served(tmp_path) as server:
        await server.start()
        async with Client(server.address, limits=LIMITS) as client, anyio.create_task_group() as group:
            for _ in range(CALLERS):
                group.start_soon(caller, client, server)
            await tally.reach(200)
            for _ in range(10):  # turns of the loop; what was called in one goes out in the next
                await anyio.lowlevel.checkpoint()
            server.kill()
            await server.start()
    positions = [outcome.position for outcome in outcomes if isinstance(outcome, Receipt)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, ConnectionLost)]
    assert len(positions) + len(lost) == CALLERS * COMMANDS
    assert len(set(positions)) == len(positions)
    assert 0 < len(lost) <= CALLERS
    assert all(error.sent for error in lost)
    events = logged(tmp_path / "shop.db")
    assert set(positions) <= {position for position, _, _ in events}
    assert len(positions) <= len(events) <= len(positions) + len(lost)
