"""Which statements are executed together: never such that rows come out otherwise than one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import StatementError

from millstream.views.sql.batches import Batch, Batches, Statement
from millstream.views.sql.executing import Executor

metadata = MetaData()
one = Table("one", metadata, Column("k", Text, primary_key=True), Column("a", Integer), Column("b", Integer))
two = Table("two", metadata, Column("n", Integer, primary_key=True), Column("k", Text))

ONE = insert(one).prefix_with("OR REPLACE")
ADD = update(one).where(one.c.k == bindparam("of")).values(a=one.c.a + bindparam("by"))
GONE = delete(one).where(one.c.k == bindparam("of"))
TWO = insert(two).values(n=bindparam("n"), k=bindparam("k"))
COPIED = insert(two).from_select(["k"], select(one.c.k).where(one.c.k == bindparam("of")))
TEXT = text("UPDATE one SET b = coalesce(b, 0) + 1")


@pytest.fixture
def database() -> Iterator[Connection]:
    with create_engine("sqlite://").begin() as connection:
        metadata.create_all(connection)
        yield connection


def rows_of(connection: Connection) -> list[Any]:
    return [connection.execute(select(table)).all() for table in (one, two)]


keys = st.sampled_from("xyz")
statements = st.one_of(
    st.builds(lambda k, a: (ONE, {"k": k, "a": a}), keys, st.integers(0, 9)),
    st.builds(lambda k, a, b: (ONE, {"k": k, "a": a, "b": b}), keys, st.integers(0, 9), st.integers(0, 9)),
    st.builds(lambda k, by: (ADD, {"of": k, "by": by}), keys, st.integers(1, 9)),
    st.builds(lambda k, by: update(one).where(one.c.k == k).values(a=by), keys, st.integers(1, 9)),
    st.builds(lambda k: (GONE, {"of": k}), keys),
    st.builds(lambda k: (COPIED, {"of": k}), keys),
    st.just(TEXT),
)


@given(st.lists(statements, max_size=60))
def test_a_page_gives_the_rows_that_its_statements_give_one_by_one(page: list[Statement]) -> None:
    found = []
    for together in (True, False):
        with create_engine("sqlite://").begin() as connection:
            metadata.create_all(connection)
            batches, executor = Batches(), Executor()
            for part in [page] if together else [[each] for each in page]:
                for batch in batches.of(part):
                    executor.execute(connection, batch)
            found.append(rows_of(connection))
    assert found[0] == found[1]


def test_equal_statements_on_different_tables_come_together() -> None:
    page: list[Statement] = []
    for number in range(20):
        page += [(ONE, {"k": str(number), "a": 1}), (TWO, {"n": number, "k": "x"})]
    assert rows_in(page) == [20, 20]
    with_text = [*page[:20], TEXT, *page[20:]]
    assert rows_in(with_text) == [10, 10, 0, 10, 10]


def rows_in(page: list[Statement]) -> list[int]:
    return [len(batch.parameters) for batch in Batches().of(page) if isinstance(batch, Batch)]


@pytest.mark.parametrize("rows", [1, 8, 20])
def test_a_value_that_is_missing_is_an_error_however_many_rows_there_are(rows: int, database: Connection) -> None:
    statement = insert(one).values(k=bindparam("k"), a=bindparam("a"), b=bindparam("b"))
    (batch,) = Batches().of([(statement, {"k": str(number), "a": 1}) for number in range(rows)])
    with pytest.raises(StatementError, match="A value is required for bind parameter 'b'"):
        Executor().execute(database, batch)


def test_what_is_no_statement_is_refused() -> None:
    several: list[Any] = ["INSERT INTO one", 7, ("INSERT", {})]
    for wrong in several:
        with pytest.raises(TypeError, match="an event yields statements of SQLAlchemy, not"):
            Batches().of([wrong])


def test_values_are_bound_by_their_types(tmp_path: Path) -> None:
    from datetime import date

    from sqlalchemy import JSON, Date

    kinds = MetaData()
    table = Table("kinds", kinds, Column("day", Date), Column("what", JSON), Column("n", Integer))
    statement = insert(table).values(n=3)
    with create_engine(f"sqlite:///{tmp_path}/kinds.db").begin() as connection:
        kinds.create_all(connection)
        rows = [{"day": date(2026, 1, number), "what": {"n": [number]}} for number in range(1, 12)]
        (batch,) = Batches().of([(statement, row) for row in rows])
        Executor().execute(connection, batch)
        assert connection.execute(select(table)).all() == [(row["day"], row["what"], 3) for row in rows]
