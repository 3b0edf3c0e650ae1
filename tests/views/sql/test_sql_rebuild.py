"""A view in SQL is made anew beside the live one: what differs is told, the other database takes its place, and the old
one is listed and dropped. On SQLite and PostgreSQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import App, Engine, Limits, MemoryLog, Replica, ViewFaulted
from tests.postgres import sql
from tests.views.sql.ledger import REFUSED, Balance, Move, Of, OfMemory, Richer, Sums, app_of, made
from tests.views.sql.places import new_database
from tests.views.sql.test_sql_view import database_of, moved

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """On one loop: what is looked at are databases."""
    return "asyncio", {"use_uvloop": False}


class At:
    """A view's database, and a way to change what is in it behind the view's back."""

    def __init__(self, address: str | None, log: Path) -> None:
        self.address = address
        self.log = log

    def app(self, **attributes: Any) -> App:
        return app_of(made(database=self.address, **attributes))

    def storage(self) -> Any:
        return made(database=self.address).__storage__(str(self.log))

    def names(self) -> list[tuple[bool, int | None]]:
        return [(each.is_current, each.position) for each in self.storage().databases()]

    def execute(self, statement: str) -> None:
        if self.address is None:
            with sqlite3.connect(database_of(self.log)) as database:
                database.execute(statement)
            database.close()
        else:
            (current,) = (each.name for each in self.storage().databases() if each.is_current)
            sql(self.address.replace("+psycopg", ""), statement.replace("accounts", f'"{current}".accounts'))


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> At:
    return At(new_database() if request.param == "PostgreSQL" else None, tmp_path / "log.db")


DAMAGE = "UPDATE accounts SET amount = amount + 100 WHERE account = 'ann'"


async def test_what_differs_is_told_and_the_new_database_takes_the_place_of_the_old_one(at: At) -> None:
    async with Engine(at.app(), log=at.log) as engine:
        await moved(engine, [("ann", 1), ("bob", 2)] * 10)
        await engine.ask(Of("ann"), after=20)
        await anyio.to_thread.run_sync(at.execute, DAMAGE)
        assert await engine.ask(Of("ann")) == 110

        told = await engine.rebuild("Ledger", ask=[Of("ann"), Of("bob")], swap=False)
        assert [(each.query, each.before, each.after) for each in told.differences] == [(Of("ann"), 110, 10)]
        assert told.rows_differ == 1
        (row,) = told.rows
        assert row.key == ("accounts", "ann")
        assert (row.before["amount"], row.after["amount"]) == (110, 10)
        assert (told.position, told.swapped) == (20, False)
        assert await engine.ask(Of("ann")) == 110
        assert at.names() == [(True, 20)]

        assert (await engine.rebuild("Ledger")).swapped
        assert await engine.ask(Of("ann")) == 10
        assert sorted(at.names(), key=str) == [(False, None), (True, 20)]
        await moved(engine, [("ann", 1)])
        assert await engine.ask(Sums(), after=21) == (31, 31, 21)
        assert (await engine.rebuild("Ledger")).rows_differ == 0
    async with Engine(at.app(), log=at.log) as engine:
        await moved(engine, [("ann", 1)])
        assert await engine.ask(Sums(), after=22) == (32, 32, 22)
    assert sorted(at.names(), key=str) == [(False, None), (False, None), (True, 22)]


async def test_what_is_old_is_dropped_and_what_is_current_never(at: At) -> None:
    async with Engine(at.app(), log=at.log) as engine:
        await moved(engine, [("ann", 1)])
        await engine.rebuild("Ledger")
    storage = at.storage()
    old, current = sorted(storage.databases(), key=lambda each: each.is_current)
    with pytest.raises(ValueError, match="is current"):
        storage.drop(current.name)
    with pytest.raises(LookupError, match="has no database 'nothing'"):
        storage.drop("nothing")
    storage.drop(old.name)
    assert [each.name for each in storage.databases()] == [current.name]
    async with Engine(at.app(), log=at.log) as engine:
        assert await engine.ask(Of("ann"), after=1) == 1


async def test_a_replica_of_the_same_database_moves_to_the_new_one(at: At) -> None:
    limits = Limits(catch_up_retry_seconds=0.05)
    async with (
        Engine(at.app(), log=at.log, limits=limits) as engine,
        Replica(at.app(), log=at.log, limits=limits) as other,
    ):
        await moved(engine, [("ann", 1)] * 10)
        assert await other.ask(Of("ann"), after=10) == 10
        await anyio.to_thread.run_sync(at.execute, DAMAGE)
        await engine.rebuild("Ledger")
        await moved(engine, [("ann", 1)])
        for asked in (engine, other):
            assert await asked.ask(Sums(), after=11) == (11, 11, 11)


async def test_new_code_is_beside_the_old_and_both_are_made_anew_by_themselves(at: At) -> None:
    async with Engine(at.app(), log=at.log) as engine:
        await moved(engine, [("ann", 1)] * 3)
        async with Replica(at.app(code_version=2), log=at.log) as newer:
            assert await newer.ask(Of("ann"), after=3) == 3
            await engine.rebuild("Ledger")
            await moved(engine, [("ann", 1)])
            assert await newer.ask(Of("ann"), after=4) == await engine.ask(Of("ann"), after=4) == 4
    listed = at.storage().databases()
    assert sorted((each.is_of_this_code, each.is_current, each.position is None) for each in listed) == [
        (False, False, False),
        (True, False, True),
        (True, True, False),
    ]


async def test_while_it_is_made_anew_the_view_goes_on_and_so_does_the_writer(at: At) -> None:
    async with Engine(at.app(), log=at.log) as engine, anyio.create_task_group() as tasks:
        await moved(engine, [("ann", 1)] * 500)
        await engine.ask(Of("ann"), after=500)

        async def write() -> None:
            for _ in range(30):
                await moved(engine, [("ann", 1), ("bob", 1)] * 5)

        tasks.start_soon(write)
        assert (await engine.rebuild("Ledger")).rows_differ == 0
        assert await engine.ask(Of("ann")) >= 500
    async with Engine(at.app(), log=at.log) as engine:
        assert await engine.ask(Sums(), after=800) == (800, 800, 800)


async def test_a_view_whose_database_followed_another_log_is_mended_by_making_it_anew(at: At, tmp_path: Path) -> None:
    at.address = at.address or f"sqlite:///{tmp_path}/view.db"
    async with Engine(at.app(), log=tmp_path / "one.db") as engine:
        await moved(engine, [("ann", 1)] * 5)
        await engine.ask(Of("ann"), after=5)
    async with Engine(at.app(), log=tmp_path / "two.db") as engine:
        await moved(engine, [("ann", 7)] * 2)
        with pytest.raises(ViewFaulted, match="the log has another one or none there"):
            await engine.ask(Of("ann"))
        assert (await engine.rebuild("Ledger")).position == 2
        assert await engine.ask(Of("ann")) == 14
        receipt = await engine.execute(Move("ann", 1))
        assert await engine.ask(Sums(), after=receipt) == (15, 15, 3)
    async with Engine(at.app(), log=tmp_path / "two.db") as engine:
        assert await engine.ask(Sums(), after=3) == (15, 15, 3)


async def test_what_today_s_code_can_not_apply_leaves_the_live_one_and_nothing_beside_it(at: At) -> None:
    async with Engine(at.app(), log=at.log) as engine:
        await moved(engine, [("ann", 1), ("ann", REFUSED)])
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.ask(Of("ann"), after=2)
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.rebuild("Ledger")
        assert len(at.names()) == 1


async def test_with_a_log_in_memory_it_is_made_anew_too() -> None:
    log = MemoryLog()
    async with Engine(app_of(made()), log=log) as engine:
        await moved(engine, [("ann", 1)] * 3)
        assert (await engine.rebuild("Ledger", ask=[Richer(0)])).differences == []
        assert await engine.ask(Richer(0), after=3) == [Balance("ann", 3, 3)]


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    sqlite3.connect(path).close()
    path.touch()


@pytest.mark.parametrize("how", [removed, replaced])
@pytest.mark.parametrize("writes", [True, False])
async def test_a_file_that_is_removed_while_it_is_in_use_faults_its_view_alone(
    how: Callable[[Path], None], writes: bool, tmp_path: Path
) -> None:
    log = tmp_path / "log.db"
    async with Engine(app_of(made()), log=log) as engine:
        await moved(engine, [("ann", 1)] * 3)
        assert await engine.ask(Of("ann"), after=3) == 3
        how(database_of(log))
        if writes:
            await moved(engine, [("ann", 1)])
        with pytest.raises(ViewFaulted, match="was removed or replaced while it was in use"):
            await engine.ask(Of("ann"), after=engine.position)
        assert await engine.ask(OfMemory("ann"), after=engine.position) == engine.position
    for leftover in tmp_path.glob("log.db-Ledger-*.old"):
        leftover.unlink()
    async with Engine(app_of(made()), log=log) as engine:
        assert await engine.ask(Of("ann"), after=engine.position) == engine.position
