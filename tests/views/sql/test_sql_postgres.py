"""The same view in PostgreSQL: its schema, poison, two processes, a server that restarts, and random histories."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, ForeignKey, Integer, MetaData, Table, insert, select

from millstream.engine import (
    About,
    AnswerFailed,
    App,
    DefinitionError,
    Engine,
    Limits,
    Replica,
    ViewFaulted,
    ViewIncomplete,
)
from millstream.views import answers, applies
from millstream.views.sql import SqlView, Statement
from tests.engine.server.caller import until
from tests.postgres import Server, new_server, server, sql
from tests.views.sql.ledger import RAISES, REFUSED, Balance, Move, Moved, Of, OfMemory, Richer, Slow, Sums, app_of, made
from tests.views.sql.places import new_database
from tests.views.sql.test_sql_crashes import lives, plain
from tests.views.sql.test_sql_view import moved

pytestmark = pytest.mark.anyio


def app(**attributes: Any) -> App:
    return app_of(made(**attributes))


async def test_it_answers_what_was_written_before_and_the_next_engine_goes_on(tmp_path: Path) -> None:
    ledger = app(database=new_database())
    for life in (1, 2):
        async with Engine(ledger, log=tmp_path / "log.db") as engine:
            await moved(engine, [("ann", 1), ("bob", 2)] * 50)
            assert await engine.ask(Sums(), after=engine.position) == (150 * life, 150 * life, 100 * life)
            assert await engine.ask(Richer(0)) == [
                Balance("ann", 50 * life, 50 * life),
                Balance("bob", 100 * life, 50 * life),
            ]
            in_tables, in_memory = await engine.ask_all(Of("ann"), OfMemory("ann"))
            assert in_tables == in_memory


async def test_an_engine_and_replicas_on_one_database_count_each_commit_once(tmp_path: Path) -> None:
    path, ledger = tmp_path / "log.db", app(database=new_database())
    async with Engine(ledger, log=path) as engine, Replica(ledger, log=path) as one, Replica(ledger, log=path) as two:
        for _ in range(40):
            await moved(engine, [("ann", 1), ("bob", 2)])
        for asked in (engine, one, two):
            assert await asked.ask(Sums(), after=80) == (120, 120, 80)


@pytest.mark.parametrize("amount", [REFUSED, RAISES])
async def test_an_event_that_the_database_refuses_is_parked_alone(amount: int, tmp_path: Path) -> None:
    parking = app(database=new_database(), poison="park")
    async with Engine(parking, log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1), ("ann", amount), ("bob", 2), ("ann", 3)])
        with pytest.raises(ViewIncomplete) as incomplete:
            await engine.ask(Richer(-1), after=4)
        assert incomplete.value.answer == [Balance("ann", 1, 1), Balance("bob", 2, 1)]
        assert await engine.skip_parked("Ledger", 2) == []
        assert await engine.ask(Sums(), incomplete=True) == (6, 6, 3)
    async with Engine(app(database=new_database()), log=tmp_path / "log.db") as engine:
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.ask(Of("ann"), after=4)


async def test_a_question_that_takes_too_long_is_interrupted(tmp_path: Path) -> None:
    limits = Limits(stored_answer_seconds_max=0.05, stored_questions_max=1)
    async with Engine(app(database=new_database()), log=tmp_path / "log.db", limits=limits) as engine:
        for _ in range(3):
            with pytest.raises(AnswerFailed, match=r"it took longer than 0\.05 s"):
                await engine.ask(Slow())


@pytest.fixture
def own_server() -> Iterator[Server]:
    made = new_server("views")
    made.start()
    yield made
    made.stop("immediate")


async def test_a_server_that_is_killed_and_started_again_counts_each_commit_once(
    own_server: Server, tmp_path: Path, log_lines: list[Any]
) -> None:
    ledger, limits = app(database=new_database(own_server)), Limits(catch_up_retry_seconds=0.05, batch_commands_max=5)
    async with Engine(ledger, log=tmp_path / "log.db", limits=limits) as engine:
        for _ in range(3):
            await moved(engine, [("ann", 1)] * 50)
            await anyio.to_thread.run_sync(own_server.kill)
            await moved(engine, [("bob", 1)] * 50)
            assert await engine.ask(OfMemory("bob"), after=engine.position) > 0
            await anyio.to_thread.run_sync(own_server.start)
            position = engine.position
            assert await engine.ask(Sums(), after=position) == (position, position, position)
        await until(lambda: "view_caught_up" in [line["event"] for line in log_lines])


async def test_its_schema_is_named_by_what_the_code_is_and_old_and_new_lie_side_by_side(tmp_path: Path) -> None:
    address = new_database()
    async with Engine(app(database=address), log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1)])
        await engine.ask(Of("ann"), after=1)
        async with Replica(app(database=address, code_version=2), log=tmp_path / "log.db") as newer:
            assert await newer.ask(Of("ann"), after=1) == 1
    plain_address = address.replace("+psycopg", "")
    schemas = sql(plain_address, "SELECT schemaname FROM pg_tables WHERE tablename = 'millstream_view'")
    assert len(schemas) == 2
    assert all(name.startswith("ledger_") for (name,) in schemas)


@given(lives, st.sampled_from(["park", "skip"]))
@settings(max_examples=6, deadline=None)
def test_random_histories_give_what_a_plain_model_says(lived: list[list[tuple[str, int]]], poison: str) -> None:
    ledger = app(database=new_database(), poison=poison)

    async def run(path: Path) -> None:
        done: list[tuple[str, int]] = []
        for life in lived:
            async with Engine(ledger, log=path, limits=Limits(batch_commands_max=3)) as engine:
                await engine.execute_many([Move(*each) for each in life])
                done += life
                answer = await engine.ask(Richer(-99), after=len(done), incomplete=True)
                assert {each.account: each.amount for each in answer} == plain(done, poison)

    with TemporaryDirectory() as folder:
        anyio.run(run, Path(folder) / "log.db")


async def test_where_the_log_is_no_file_a_view_names_its_database() -> None:
    with pytest.raises(DefinitionError, match="this log is none: name one in its class, `database`"):
        Engine(app(), log=server().address(f"log_{secrets.token_hex(6)}"))
    ledger = app(database=new_database())
    async with Engine(ledger, log=server().address(f"log_{secrets.token_hex(6)}")) as engine:
        await moved(engine, [("ann", 1)])
        assert await engine.ask(Of("ann"), after=1) == 1


class Pairs(SqlView):
    """Its constraint is looked at when a transaction ends."""

    metadata = MetaData()
    rows = Table(
        "rows",
        metadata,
        Column("position", Integer, primary_key=True),
        Column("of", Integer, ForeignKey("rows.position", deferrable=True, initially="DEFERRED")),
    )
    row = insert(rows)

    @applies
    def moved(self, event: Moved, about: About) -> Iterator[Statement]:
        yield self.row, {"position": about.position, "of": event.amount}

    @answers
    def of(self, query: Of, db: Connection) -> int:
        return len(db.execute(select(self.rows)).all())


async def test_a_constraint_that_is_looked_at_with_the_commit_stops_the_view_before_it(tmp_path: Path) -> None:
    pairs = app_of(type("Pairs", (Pairs,), {"metadata": Pairs.metadata, "database": new_database()}))
    async with Engine(pairs, log=tmp_path / "log.db", limits=Limits(batch_commands_max=2)) as engine:
        await moved(engine, [("a", 2), ("b", 1)])  # each of them needs the other
        assert await engine.ask(Of("a"), after=2) == 2
        await moved(engine, [("a", 3), ("b", 99)])
        with pytest.raises(ViewFaulted, match="position 3"):
            await engine.ask(Of("a"), after=4)
        assert await engine.ask(OfMemory("b"), after=4) == 100
