"""``millstream view`` on views in SQL: new code's database is made and compared beside the running one, and what is old
is listed and dropped.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from sqlalchemy import Connection, select

from millstream.engine import Engine, ViewUnavailable
from millstream.engine.client import Client
from millstream.engine.upkeep import ComparedAnswer, drop_stored_view, make_views, stored_views
from millstream.views import answers
from tests.engine.cli.running import Millstream, program, served
from tests.views.sql.ledger import Ledger, Move, Of, Sums, accounts, app_of, ledger, made, tables
from tests.views.sql.test_sql_view import moved

ROOT = Path(__file__).parents[3]
HERE = "tests.views.sql.test_sql_upkeep:newer"


class Doubled(Ledger):
    """Tomorrow's code, which answers otherwise."""

    metadata: ClassVar = tables
    code_version: ClassVar = 2

    @answers
    def of(self, query: Of, db: Connection) -> int:
        return 2 * (db.scalar(select(accounts.c.amount).where(accounts.c.account == query.account)) or 0)


Doubled.__name__ = "Ledger"
newer = app_of(Doubled)


@pytest.fixture
def millstream(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Millstream:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("MILLSTREAM_ADDRESS", f"unix://{tmp_path}/socket")
    return program(capsysbinary)


async def move(socket: Path, count: int) -> None:
    async with Client(f"unix://{socket}") as client:
        await client.execute_many([Move("ann", 1)] * count)
        await client.ask(Of("ann"), after=(await client.execute(Move("bob", 1))))


def test_new_code_s_database_is_made_beside_the_running_one_compared_listed_and_taken_up(
    millstream: Millstream, tmp_path: Path
) -> None:
    with served(ledger, Path("log.db"), tmp_path / "socket"):
        anyio.run(move, tmp_path / "socket", 9)
        ran = millstream("view", "rebuild", HERE, "log.db", "Ledger", "--json")
        assert (ran.code, ran.err) == (0, "")
        assert (ran.values["began_after"], ran.values["position"], ran.values["stored"]) == (0, 10, True)
        anyio.run(move, tmp_path / "socket", 4)
        queries = ('{"type":"Of","account":"ann"}', '{"type":"Sums"}')
        ran = millstream("view", "diff", HERE, "log.db", *queries)
        assert ran.code == 1
        assert ran.out.splitlines()[0] == 'DIFFERS at 15: {"type":"Of","account":"ann"}'
        assert ran.out.splitlines()[-1] == 'same at 15: {"type":"Sums"}'
        assert millstream("view", "rebuild", HERE, "log.db", "Ledger", "--json").values["began_after"] == 15
        listed = millstream("view", "list", HERE, "log.db", "--json").lines
        assert sorted((each["is_current"], each["is_of_this_code"], each["position"]) for each in listed) == [
            (False, False, 15),
            (True, True, 15),
        ]

    async def ask() -> int:
        async with Engine(newer, log="log.db") as engine:
            return await engine.ask(Of("ann"), after=15)

    assert anyio.run(ask) == 26


def test_what_is_old_is_dropped_by_its_name_and_what_is_current_is_not(millstream: Millstream, tmp_path: Path) -> None:
    with served(ledger, Path("log.db"), tmp_path / "socket"):
        anyio.run(move, tmp_path / "socket", 3)
    app = "tests.views.sql.ledger:ledger"
    ran = millstream("view", "rebuild", app, "log.db", "Ledger", "--anew")
    assert (ran.code, ran.err) == (0, "")
    listed = {each["is_current"]: each["name"] for each in millstream("view", "list", app, "log.db", "--json").lines}
    ran = millstream("view", "list", app, "log.db")
    assert [line.split()[1:] for line in ran.out.splitlines() if "Ledger" in line] == [
        [listed[False], "old"],
        [listed[True], "4", "current"],
    ]
    ran = millstream("view", "drop", app, "log.db", listed[True])
    assert (ran.code, "is current" in ran.err) == (2, True)
    ran = millstream("view", "drop", app, "log.db", "nothing")
    assert ran.code == 2
    ran = millstream("view", "drop", app, "log.db", listed[False], "--json")
    assert (ran.code, ran.err, ran.values) == (0, "", {"removed": listed[False]})
    assert not Path(listed[False]).exists()
    assert [each["name"] for each in millstream("view", "list", app, "log.db", "--json").lines] == [listed[True]]


def test_a_database_that_is_away_is_said_in_a_line(tmp_path: Path) -> None:
    away = app_of(made(database="postgresql+psycopg://nobody@127.0.0.1:1/none"))

    async def run() -> None:
        async with Engine(ledger, log=tmp_path / "log.db"):
            pass
        with pytest.raises(ViewUnavailable, match=r"view Ledger.*refused"):
            await stored_views(tmp_path / "log.db", away)
        with pytest.raises(ViewUnavailable, match=r"view Ledger.*refused"):
            await drop_stored_view(tmp_path / "log.db", away, "some")

    anyio.run(run)


def test_by_default_a_view_in_sql_is_brought_on_where_it_is_behind(tmp_path: Path) -> None:
    async def run() -> list[tuple[str, int, int]]:
        async with Engine(ledger, log=tmp_path / "log.db") as engine:
            await moved(engine, [("ann", 1)] * 3)
            await engine.ask(Sums(), after=3)
        found: list[Any] = []
        for _ in range(2):
            found += await make_views(tmp_path / "log.db", newer)
        return [(each.view, each.began_after, each.position) for each in found if each.view == "Ledger"]

    assert anyio.run(run) == [("Ledger", 0, 3)]


def test_a_nan_is_the_same_as_a_nan() -> None:
    rows = [{"key": "a", "value": math.nan}]
    assert not ComparedAnswer(Of("a"), 3, rows, [{"key": "a", "value": math.nan}]).differs
    assert ComparedAnswer(Of("a"), 3, rows, [{"key": "a", "value": 1.0}]).differs
