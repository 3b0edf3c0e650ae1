"""Killed in the middle of a page: each event counts once, however often. And random histories, as in memory."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import Engine, Limits, Replica
from millstream.engine.upkeep import drop_stored_view, stored_views
from tests.views.sql.ledger import RAISES, REFUSED, Move, Of, OfMemory, Richer, Sums, app_of, ledger, made
from tests.views.sql.test_sql_view import database_of

pytestmark = pytest.mark.anyio

KILLS = 100 if os.environ.get("MILLSTREAM_TORTURE") else 5
MADE_ANEW = 100 if os.environ.get("MILLSTREAM_TORTURE") else 1
ROOT = Path(__file__).parents[3]


def killed_under_load(log: Path, lines: int, database: str | None = None) -> int:
    """Run a process until it has said so many lines, and kill it; the last position that it has said."""
    said = 0
    with subprocess.Popen(
        [sys.executable, "-m", "tests.views.sql.child", str(log), *([database] if database else [])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        for _ in range(lines):
            said = int(child.stdout.readline())
        child.kill()
    return said


def counted(log: Path) -> tuple[int, int]:
    """The head's position, and how many events are in the tables; if it was killed before there were any, none."""
    if not list(log.parent.glob(f"{log.name}-Ledger-????????")):
        return 0, 0
    with sqlite3.connect(database_of(log)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return 0, 0
        found: tuple[int, int] = connection.execute(
            "SELECT (SELECT position FROM millstream_view), (SELECT count(*) FROM entries)"
        ).fetchone()
        return found


async def test_killed_in_the_middle_of_a_page_each_event_counts_once(tmp_path: Path) -> None:
    log, dice, behind = tmp_path / "log.db", random.Random(7), 0
    for _ in range(KILLS):
        said = await anyio.to_thread.run_sync(killed_under_load, log, dice.randint(1, 12))
        position, entries = counted(log)
        assert position == entries  # a page is there whole, with its head, or not at all
        behind += position < said
        async with Engine(ledger, log=log) as engine:
            assert engine.position >= said
            total = engine.position
            assert await engine.ask(Sums(), after=total) == (total, total, total)
    assert behind  # else it was never killed before a page was written


async def test_killed_while_it_is_made_anew_a_view_is_whole_and_nothing_is_lost(tmp_path: Path) -> None:
    log, dice = tmp_path / "log.db", random.Random(5)
    for _ in range(MADE_ANEW):
        said = await anyio.to_thread.run_sync(killed_under_load, log, dice.randint(2, 5), "rebuilds")
        async with Engine(ledger, log=log) as engine:
            total = engine.position
            assert total >= said
            assert await engine.ask(Sums(), after=total) == (total, total, total)
            for each in await stored_views(log, ledger):
                if not each.is_current:
                    await drop_stored_view(log, ledger, each.name)
            assert await engine.ask(Sums(), after=total) == (total, total, total)


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """On one loop: what is killed is a process, and what is looked at a file."""
    return "asyncio", {"use_uvloop": False}


moves = st.tuples(st.sampled_from("abc"), st.sampled_from([-3, -1, 0, 2, 5, 8, REFUSED, RAISES]))
lives = st.lists(st.lists(moves, max_size=12), min_size=1, max_size=4)


@given(lives, st.sampled_from(["park", "skip"]), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_random_histories_give_what_a_plain_model_says(
    lived: list[list[tuple[str, int]]], poison: str, batch: int
) -> None:
    """Live, after restarts, made anew by other code, and in a replica of that: page by page, and event by event."""
    app, other = app_of(made(poison=poison)), app_of(made(poison=poison, code_version=2))

    async def require_equal(asked: Engine | Replica, done: list[tuple[str, int]]) -> None:
        expected = plain(done, poison)
        found = {each.account: each.amount for each in await asked.ask(Richer(-99), after=len(done), incomplete=True)}
        assert found == expected
        assert (await asked.ask(Sums(), incomplete=True))[:2] == (sum(expected.values()), sum(expected.values()))
        if not {REFUSED, RAISES} & {amount for _, amount in done}:
            for account in "abc":
                assert await asked.ask(Of(account)) == await asked.ask(OfMemory(account), after=len(done))

    async def run(path: Path) -> None:
        done: list[tuple[str, int]] = []
        for life in lived:
            async with Engine(app, log=path, limits=Limits(batch_commands_max=batch)) as engine:
                await require_equal(engine, done)
                await engine.execute_many([Move(*each) for each in life])
                done += life
                await require_equal(engine, done)
                async with Replica(other, log=path) as replica:
                    await require_equal(replica, done)

    with TemporaryDirectory() as folder:
        anyio.run(run, Path(folder) / "log.db")


def plain(done: list[tuple[str, int]], poison: str) -> dict[str, int]:
    """What the accounts come to: an account that has something parked stays as it is."""
    amounts: dict[str, int] = {}
    parked: set[Any] = set()
    for account, amount in done:
        if amount in (REFUSED, RAISES):
            if poison == "park":
                parked.add(account)
        elif account not in parked:
            amounts[account] = amounts.get(account, 0) + amount
    return amounts
