"""PostgreSQL is killed under load, and so is a process that writes to it: each event counts once, however often.

With MILLSTREAM_TORTURE set, a hundred times each.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import Engine, Limits
from tests.engine.server.caller import until
from tests.postgres import Server, new_server, sql
from tests.views.sql.ledger import Sums, app_of, made
from tests.views.sql.places import new_database
from tests.views.sql.test_sql_crashes import killed_under_load
from tests.views.sql.test_sql_view import moved

pytestmark = pytest.mark.anyio

#: How often a server is killed, and a process that writes to one.
RESTARTS = 100 if os.environ.get("MILLSTREAM_TORTURE") else 2
KILLS = 100 if os.environ.get("MILLSTREAM_TORTURE") else 1


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """On one loop: what is killed is a process."""
    return "asyncio", {"use_uvloop": False}


@pytest.fixture
def own_server() -> Iterator[Server]:
    made = new_server("views")
    made.start()
    yield made
    made.stop("immediate")


async def test_a_server_that_is_killed_under_load_again_and_again_counts_each_event_once(
    own_server: Server, tmp_path: Path
) -> None:
    """Nothing waits for anything: the writer goes on, whatever the server does, and the view follows when it can."""
    ledger, dice = app_of(made(database=new_database(own_server))), random.Random(11)
    limits = Limits(catch_up_retry_seconds=0.02, batch_commands_max=5)
    behind = 0
    async with Engine(ledger, log=tmp_path / "log.db", limits=limits) as engine:

        async def write() -> None:
            for _ in range(80):
                await moved(engine, [("ann", 1), ("bob", 1)] * 5)

        for _ in range(RESTARTS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                target = engine.position + dice.randint(1, 700)
                await until(lambda target=target: engine.stats().views["Ledger"].position >= target)  # type: ignore[misc]
                await anyio.to_thread.run_sync(own_server.kill)
                behind += engine.position > engine.stats().views["Ledger"].position
                await anyio.to_thread.run_sync(own_server.start)
        assert behind  # else it was never killed before a page was written
        position = engine.position
        assert position == RESTARTS * 800
        assert await engine.ask(Sums(), after=position) == (position, position, position)


async def test_killed_in_the_middle_of_a_page_each_event_counts_once(tmp_path: Path) -> None:
    log, dice, behind, address = tmp_path / "log.db", random.Random(7), 0, new_database()
    for _ in range(KILLS):
        said = await anyio.to_thread.run_sync(killed_under_load, log, dice.randint(1, 12), address)
        position, entries = counted_in(address)
        assert position == entries  # a page is there whole, with its head, or not at all
        behind += position < said
        async with Engine(app_of(made(database=address)), log=log) as engine:
            assert engine.position >= said
            total = engine.position
            assert await engine.ask(Sums(), after=total) == (total, total, total)
    assert behind or KILLS < 10


def counted_in(address: str) -> tuple[int, int]:
    """The head's position, and how many events are in the tables; none, if it was killed before there were any."""
    plain_address = address.replace("+psycopg", "")
    named = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'millstream_view'"
    schemas = sql(plain_address, named)
    if not schemas:
        return 0, 0
    ((schema,),) = schemas
    ((position, entries),) = sql(
        plain_address,
        f'SELECT (SELECT position FROM "{schema}".millstream_view), (SELECT count(*) FROM "{schema}".entries)',
    )
    return position or 0, entries
