"""A view in SQL in a running engine: what it answers and when, what fails and what then, and who may share a database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select

from millstream.engine import (
    About,
    AnswerFailed,
    DefinitionError,
    Engine,
    Limits,
    MemoryLog,
    Metadata,
    NotKept,
    NotYetVisible,
    Replica,
    ViewFaulted,
    ViewIncomplete,
    ViewUnavailable,
)
from millstream.engine.testing import Scenario
from millstream.views import answers, applies
from millstream.views.sql import SqlView, Statement
from tests.engine.server.caller import until
from tests.support import remarkable
from tests.views.sql.ledger import (
    RAISES,
    REFUSED,
    Balance,
    Move,
    Moved,
    Of,
    OfMemory,
    Richer,
    SeenIn,
    Slow,
    Sums,
    app_of,
    ledger,
    made,
)

pytestmark = pytest.mark.anyio


def database_of(log: Path) -> Path:
    """The file of the view's database beside a log."""
    (found,) = log.parent.glob(f"{log.name}-Ledger-????????")  # and not its -wal, -shm or -journal
    return found


async def moved(engine: Engine, moves: Sequence[tuple[str, int]]) -> int:
    """Execute them; the position that they come to."""
    receipts = await engine.execute_many([Move(account, amount) for account, amount in moves])
    return max(getattr(each, "position", 0) for each in receipts)


# Asking.


async def test_it_answers_from_its_tables_what_was_written_before(tmp_path: Path) -> None:
    async with Engine(ledger, log=tmp_path / "log.db") as engine:
        receipt = await engine.execute(Move("ann", 7), metadata=Metadata(actor="teller"))
        assert await engine.ask(Of("ann"), after=receipt) == 7
        await moved(engine, [("bob", 3), ("ann", -2)])
        assert await engine.ask(Richer(0), after=3) == [Balance("bob", 3, 1), Balance("ann", 5, 2)]
        answered = await engine.answer(Sums(), after=3)
        assert (answered.answer, answered.position) == ((8, 8, 3), 3)
    with sqlite3.connect(database_of(tmp_path / "log.db")) as database:
        rows = database.execute("SELECT position, account, amount, actor FROM entries").fetchall()
    assert rows == [(1, "ann", 7, "teller"), (2, "bob", 3, None), (3, "ann", -2, None)]


async def test_the_next_engine_goes_on_where_the_database_is(tmp_path: Path, log_lines: list[Any]) -> None:
    for life in range(1, 4):
        async with Engine(ledger, log=tmp_path / "log.db") as engine:
            await moved(engine, [("ann", 1)] * 100)
            assert await engine.ask(Sums(), after=engine.position) == (life * 100, life * 100, life * 100)
    assert remarkable(log_lines) == []


async def test_with_a_log_in_memory_its_database_goes_with_the_engine() -> None:
    log = MemoryLog()
    async with Engine(ledger, log=log) as engine:
        await moved(engine, [("ann", 1)])
        assert await engine.ask(Of("ann"), after=1) == 1


async def test_it_is_asked_together_with_a_view_in_memory_at_one_position(tmp_path: Path) -> None:
    async with Engine(ledger, log=tmp_path / "log.db") as engine, anyio.create_task_group() as tasks:

        async def write() -> None:
            for _ in range(300):
                await engine.execute(Move("ann", 1))

        tasks.start_soon(write)
        met = 0
        while engine.position < 300:
            in_tables, in_memory, sums = await engine.ask_all(Of("ann"), OfMemory("ann"), Sums())
            assert in_tables == in_memory == sums[0] == sums[1]
            met += 1
        assert met > 3


async def test_a_watch_gets_each_answer_that_differs(tmp_path: Path) -> None:
    limits = Limits(batch_commands_max=1)
    async with (
        Engine(ledger, log=tmp_path / "log.db", limits=limits) as engine,
        engine.watch(Of("ann")) as latest,
        engine.watch(Of("ann"), every=True) as each,
    ):
        assert (await anext(latest)).answer == (await anext(each)).answer == 0
        await moved(engine, [("bob", 1), ("ann", 1), ("ann", 1)])
        seen = 0
        while seen < 2:
            seen = (await anext(latest)).answer
        found = [await anext(each), await anext(each)]
        assert [(answered.answer, answered.position) for answered in found] == [(1, 2), (2, 3)]


async def test_a_watch_ends_with_what_the_view_faults_with(tmp_path: Path) -> None:
    async with Engine(ledger, log=tmp_path / "log.db") as engine, engine.watch(Of("ann")) as answers:
        await anext(answers)
        await engine.execute(Move("ann", REFUSED))
        with pytest.raises(ViewFaulted, match="position 1"):
            await anext(answers)


async def test_what_a_database_does_not_keep_is_refused(tmp_path: Path) -> None:
    async with Engine(ledger, log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1)])
        with pytest.raises(NotKept, match="has no earlier state: ask a view in memory"):
            await engine.ask(Of("ann"), at=1)
        assert (await engine.rebuild("InMemory")).rows_differ == 0


async def test_a_question_that_takes_too_long_is_interrupted_and_the_connection_goes_on(tmp_path: Path) -> None:
    limits = Limits(stored_answer_seconds_max=0.05, stored_questions_max=1)
    async with Engine(ledger, log=tmp_path / "log.db", limits=limits) as engine:
        for _ in range(3):
            with pytest.raises(AnswerFailed, match=r"it took longer than 0\.05 s"):
                await engine.ask(Slow())
        with anyio.move_on_after(0.01):
            await engine.ask(Slow())
    async with Engine(ledger, log=tmp_path / "log.db") as engine:
        assert await engine.ask(Of("ann")) == 0


def test_a_scenario_asks_only_views_in_memory() -> None:
    with Scenario(ledger) as scenario:
        scenario.when(Move("ann", 1))
        assert scenario.ask(OfMemory("ann")) == 1
        with pytest.raises(NotKept, match="has no simulation: ask a real engine"):
            scenario.ask(Of("ann"))


class Reused(SqlView):
    """Fills one dict again and again."""

    metadata = MetaData()
    rows = Table("rows", metadata, Column("n", Integer, primary_key=True), Column("account", Text))
    row = insert(rows)

    @applies
    def moved(self, event: Moved, about: About) -> Iterator[Statement]:
        values: dict[str, Any] = {"account": event.account}
        for n in range(3):
            values["n"] = about.position * 10 + n
            yield self.row, values

    @answers
    def of(self, query: Of, db: Connection) -> int:
        return len(set(db.scalars(select(self.rows.c.n))))


async def test_values_are_those_of_the_moment_in_which_they_were_yielded(tmp_path: Path) -> None:
    async with Engine(app_of(Reused), log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1)] * 5)
        assert await engine.ask(Of("ann"), after=5) == 15


# What fails.


@pytest.mark.parametrize("amount", [REFUSED, RAISES])
async def test_an_event_that_can_not_be_applied_stops_the_view_before_it(amount: int, tmp_path: Path) -> None:
    for _ in range(2):
        async with Engine(ledger, log=tmp_path / "log.db", limits=Limits(batch_commands_max=3)) as engine:
            if not engine.position:
                await moved(engine, [("ann", 1)] * 10 + [("ann", amount)] + [("ann", 1)] * 10)
            with pytest.raises(ViewFaulted, match="position 11"):
                await engine.ask(Of("ann"), after=21)
            assert await engine.ask(OfMemory("ann"), after=21) == 20 + amount
    with sqlite3.connect(database_of(tmp_path / "log.db")) as database:
        assert database.execute("SELECT count(*), sum(amount) FROM entries").fetchone() == (9, 9)  # whole commits
        assert database.execute("SELECT number, position FROM millstream_view").fetchone() == (3, 9)


@pytest.mark.parametrize("amount", [REFUSED, RAISES])
async def test_an_event_that_is_parked_leaves_no_half_and_its_key_waits_behind_it(
    amount: int, tmp_path: Path, log_lines: list[Any]
) -> None:
    parking = app_of(made(poison="park"))
    async with Engine(parking, log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1), ("ann", amount), ("bob", 2), ("ann", 3), ("cid", 4)])
        with pytest.raises(ViewIncomplete) as incomplete:
            await engine.ask(Richer(-1), after=5)
        assert incomplete.value.answer == [Balance("ann", 1, 1), Balance("bob", 2, 1), Balance("cid", 4, 1)]
        assert [(parked.position, parked.key) for parked in engine.parked()] == [(2, "ann"), (4, "ann")]
    async with Engine(parking, log=tmp_path / "log.db") as engine:  # what is parked lies in the same database
        await engine.answer(Of("bob"), after=5, incomplete=True)
        assert [parked.position for parked in await engine.replay_parked()] == [2, 4]
        assert [parked.position for parked in await engine.skip_parked("Ledger", 2)] == []
        assert await engine.ask(Sums(), incomplete=True) == (10, 10, 4)
        assert engine.stats().views["Ledger"].skipped == 1
    async with Engine(parking, log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 5)])
        assert await engine.ask(Of("ann"), after=6, incomplete=True) == 9
    assert remarkable(log_lines) == ["event_parked"]


async def test_an_event_that_is_skipped_is_counted(tmp_path: Path) -> None:
    async with Engine(app_of(made(poison="skip")), log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1), ("ann", REFUSED), ("ann", RAISES), ("ann", 3)])
        assert await engine.ask(Sums(), after=4, incomplete=True) == (4, 4, 2)
        assert engine.stats().views["Ledger"].skipped == 2


async def test_a_database_that_is_locked_holds_up_its_view_alone_and_it_goes_on_afterwards(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    limits = Limits(catch_up_retry_seconds=0.05)
    async with Engine(ledger, log=tmp_path / "log.db", limits=limits) as engine:
        await moved(engine, [("ann", 1)])
        assert await engine.ask(Of("ann"), after=1) == 1
        other = sqlite3.connect(database_of(tmp_path / "log.db"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await moved(engine, [("ann", 1)] * 50)
        assert await engine.ask(OfMemory("ann"), after=51) == 51
        with pytest.raises(NotYetVisible):
            await engine.ask(Of("ann"), after=51, timeout=0.2)
        assert await engine.ask(Of("ann")) == 1  # what is there can be asked meanwhile
        await until(lambda: "view_catch_up_failed" in [line["event"] for line in log_lines])
        await moved(engine, [("bob", 1)])
        other.execute("ROLLBACK")
        other.close()
        assert await engine.ask(Sums(), after=52) == (52, 52, 52)
    assert "is locked" in str(next(line for line in log_lines if line["event"] == "view_catch_up_failed"))


async def test_a_database_that_can_not_be_opened_is_tried_again(tmp_path: Path, log_lines: list[Any]) -> None:
    folder = tmp_path / "mounted later"
    app, limits = app_of(made(database=f"sqlite:///{folder}/view.db")), Limits(catch_up_retry_seconds=0.05)
    async with Engine(app, log=tmp_path / "log.db", limits=limits) as engine:
        await moved(engine, [("ann", 2)])
        with pytest.raises(NotYetVisible):
            await engine.ask(Of("ann"), timeout=0.1)
        await until(lambda: "view_catch_up_failed" in [line["event"] for line in log_lines])
        folder.mkdir()
        assert await engine.ask(Of("ann"), after=1) == 2
        for file in folder.iterdir():
            file.unlink()
    assert log_lines


async def test_a_question_that_meets_a_lock_may_be_asked_again(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db", isolation_level=None)
    other.execute("CREATE TABLE seen (n)")
    async with Engine(ledger, log=tmp_path / "log.db") as engine:
        assert await engine.ask(SeenIn(str(tmp_path / "other.db"))) == 0
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ViewUnavailable, match="database is locked; try again later"):
            await engine.ask(SeenIn(str(tmp_path / "other.db")))
        other.execute("ROLLBACK")
        assert await engine.ask(SeenIn(str(tmp_path / "other.db"))) == 0
    other.close()


async def test_a_database_that_followed_another_history_faults_its_view(tmp_path: Path) -> None:
    app = app_of(made(database=f"sqlite:///{tmp_path}/view.db"))
    async with Engine(app, log=tmp_path / "one.db") as engine:
        await moved(engine, [("ann", 1)] * 5)
        await engine.ask(Of("ann"), after=5)
    for log, amount in (("two.db", 5), ("three.db", 1)):  # another commit of that number, and none
        async with Engine(app, log=tmp_path / log) as engine:
            await moved(engine, [("ann", amount)] * amount)
            with pytest.raises(ViewFaulted, match="the log has another one or none there"):
                await engine.ask(Of("ann"))
            assert await engine.ask(OfMemory("ann"), after=engine.position) == amount * amount


# Whose database it is.


async def test_other_code_has_a_database_of_its_own_beside_the_old_one(tmp_path: Path) -> None:
    async with Engine(ledger, log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1)] * 5)
        await engine.ask(Of("ann"), after=5)
        async with Replica(app_of(made(code_version=2)), log=tmp_path / "log.db") as newer:
            assert await newer.ask(Sums(), after=5) == (5, 5, 5)
            receipt = await engine.execute(Move("ann", 1))
            assert await newer.ask(Of("ann"), after=receipt) == await engine.ask(Of("ann"), after=receipt) == 6
    assert (
        len({each.name[:-4] for each in tmp_path.glob("log.db-Ledger-*-wal")} | set(tmp_path.glob("*-Ledger-*"))) == 2
    )


async def test_an_engine_and_replicas_on_one_database_count_each_commit_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with Engine(ledger, log=path) as engine, Replica(ledger, log=path) as one, Replica(ledger, log=path) as two:
        for _ in range(60):
            await moved(engine, [("ann", 1), ("bob", 2)])
        for asked in (engine, one, two):
            assert await asked.ask(Sums(), after=120) == (180, 180, 120)
            assert await asked.ask(Richer(0), after=120) == [Balance("ann", 60, 60), Balance("bob", 120, 60)]


async def test_code_that_was_not_meant_for_a_database_is_refused(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/view.db"
    async with Engine(app_of(made(database=address)), log=tmp_path / "log.db") as engine:
        await engine.ask(Of("ann"))
    async with Engine(app_of(made(database=address, code_version=2)), log=tmp_path / "log.db") as engine:
        with pytest.raises(ViewFaulted, match="was made by other code"):
            await engine.ask(Of("ann"))


# What such a class is.


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({}, "has its tables in `metadata`"),
        ({"metadata": {}}, "has its tables in `metadata`"),
        ({"metadata": MetaData(), "database": "nonsense"}, "is no address that SQLAlchemy reads"),
        (
            {"metadata": MetaData(), "database": "mysql://host/db"},
            "lies in sqlite or postgresql, and its `database` is of mysql",
        ),
    ],
)
def test_a_class_that_contradicts_itself_is_refused(attributes: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        type("Wrong", (SqlView,), attributes)
