"""A `SqlTable`: rows in a database behind an engine, what its class may say, and what an event may not do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from types import new_class
from typing import Any, ClassVar, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select, text, update

from millstream.engine import (
    About,
    App,
    DefinitionError,
    Engine,
    InvalidMessage,
    Key,
    Limits,
    Query,
    ViewFaulted,
    ViewIncomplete,
)
from millstream.engine.commits.commit import Head
from millstream.views import Page, TableView, answers, applies
from millstream.views.sql import SqlTable, SqlView, Statement
from tests.views.sql.ledger import Account, InMemory, Move, Moved, OfMemory
from tests.views.sql.places import new_database
from tests.views.sql.test_sql_view import moved
from tests.views.sql.things import Every, Kind, Level, Nested, SqlEvery, SqlThings, Thing

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """On one loop: what is looked at are databases."""
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def place(request: pytest.FixtureRequest) -> str | None:
    """The `database` of a view: None is a file beside the log."""
    return new_database() if request.param == "PostgreSQL" else None


class AccountRow(msgspec.Struct, frozen=True):
    account: str
    amount: int = 0
    moves: int = 0


class One(Query[AccountRow | None]):
    account: Key


class Top(Query[Page[AccountRow]]):
    after: str | None = None


class Average(Query[float]): ...


class Accounts(SqlTable[AccountRow]):
    key: ClassVar = "account"
    ordered: ClassVar = ("amount",)

    @applies
    def moved(self, event: Moved) -> Iterator[Statement]:
        def grown(row: AccountRow) -> AccountRow:
            if event.amount == 13:
                raise ValueError("thirteen")
            return replace(row, amount=row.amount + event.amount, moves=row.moves + 1)

        yield self.change(event.account, grown, new=AccountRow(event.account))

    @answers
    def one(self, query: One) -> AccountRow | None:
        return self.get(query.account)

    @answers
    def top(self, query: Top) -> Page[AccountRow]:
        return self.page("amount", descending=True, limit=2, after=query.after)

    @answers
    def average(self, query: Average, db: Connection) -> float:
        return float(db.scalar(select(func.avg(self.table.c.amount))) or 0)


def app_with(view: type[SqlView], place: str | None = None, **attributes: Any) -> App:
    made = type(view.__name__, (view,), {**attributes, "database": place, "__module__": __name__})
    return App(models=[Account], views=[InMemory, made], name="ledger")


async def test_rows_are_changed_found_and_paged_as_in_memory(place: str | None, tmp_path: Path) -> None:
    for life in (1, 2):
        async with Engine(app_with(Accounts, place), log=tmp_path / "log.db") as engine:
            await moved(engine, [("ann", 1), ("bob", 2), ("cid", 3)] * 50)
            after = engine.position
            assert await engine.ask(One("bob"), after=after) == AccountRow("bob", 100 * life, 50 * life)
            assert await engine.ask(One("dan")) is None
            page = await engine.ask(Top())
            assert [row.account for row in page.rows] == ["cid", "bob"]
            assert await engine.ask(Top(page.next)) == Page((AccountRow("ann", 50 * life, 50 * life),))
            assert await engine.ask(Average()) == 100 * life


async def test_rows_are_watched_by_their_key(place: str | None, tmp_path: Path) -> None:
    async with Engine(app_with(Things, place), log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1), ("bob", 2)])
        async with engine.watch_rows(All(), after=2) as changes:
            first = await anext(changes)
            assert [row.account for row in first.put] == ["ann", "bob"]
            receipt = await engine.execute(Move("bob", 5))
            assert await engine.ask(OfMemory("bob"), after=receipt) == 7
            change = await anext(changes)
            assert (change.put, change.removed) == ((AccountRow("bob", 7, 2),), ())


class All(Query[tuple[AccountRow, ...]]): ...


class Things(Accounts):
    @answers
    def every(self, query: All) -> tuple[AccountRow, ...]:
        return tuple(self.rows())


async def test_a_row_that_can_not_be_changed_is_parked_and_what_it_changed_is_not_there(
    place: str | None, tmp_path: Path
) -> None:
    app = app_with(Accounts, place, poison="park")
    async with Engine(app, log=tmp_path / "log.db", limits=Limits(batch_commands_max=3)) as engine:
        await moved(engine, [("ann", 1), ("bob", 13), ("ann", 2), ("bob", 1), ("cid", 1)])
        with pytest.raises(ViewIncomplete) as incomplete:
            await engine.ask(Top(), after=5)
        assert incomplete.value.answer == Page((AccountRow("ann", 3, 2), AccountRow("cid", 1, 1)))
        assert await engine.skip_parked("Accounts", 2) == []
        assert await engine.ask(One("bob"), incomplete=True) == AccountRow("bob", 1, 1)


async def test_other_fields_make_the_table_anew(tmp_path: Path) -> None:
    class Wider(msgspec.Struct, frozen=True):
        account: str
        amount: int = 0
        last: int | None = None

    class WiderAccounts(SqlTable[Wider]):
        key: ClassVar = "account"

        @applies
        def moved(self, event: Moved) -> Iterator[Statement]:
            def how(row: Wider) -> Wider:
                return Wider(row.account, row.amount + event.amount, event.amount)

            yield self.change(event.account, how, new=Wider(event.account))

        @answers
        def sum_of(self, query: Average, db: Connection) -> float:
            return float(sum(row.amount * 1000 + (row.last or 0) for row in self.rows()))

    for view, expected in ((Accounts, 5.0), (WiderAccounts, 5003.0)):
        made = type("Accounts", (view,), {"__module__": __name__})
        async with Engine(
            App(models=[Account], views=[InMemory, made], name="ledger"), log=tmp_path / "l.db"
        ) as engine:
            if not engine.position:
                await moved(engine, [("ann", 2), ("ann", 3)])
            assert await engine.ask(Average(), after=2) == expected
    assert len(list(tmp_path.glob("l.db-Accounts-????????"))) == 2


def storage_of(view: type[SqlView], place: str | None) -> Any:
    made: type[SqlView] = type(view.__name__, (view,), {"database": place, "__module__": __name__})
    return made.__storage__(None)


def test_values_of_every_type_come_back_as_they_were(place: str | None) -> None:
    east = timezone(timedelta(hours=2))
    full = Every(
        key=UUID(int=7),
        flag=True,
        whole=-(2**63),
        real=-1.5e300,
        text="é'\"\U0001f600\n",
        raw=b"\x00\xff",
        moment=datetime(2026, 3, 1, 1, 30, 0, 5, tzinfo=east),
        local=datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - as its field says
        day=date(2026, 2, 28),
        clock=time(23, 59, 59, 999_999),
        duration=timedelta(days=-3, microseconds=1),
        exact=Decimal("10.500"),
        kind=Kind.FANCY,
        level=Level.HIGH,
        choice="y",
        parts=(3, 1, 2),
        tags=frozenset("ab"),
        nested=Nested("n", date(1999, 1, 1)),
        either="7",
    )
    plain = Every(key=UUID(int=3), moment=datetime(2026, 2, 28, 23, 30, tzinfo=UTC), day=date(1, 1, 1))
    storage = storage_of(SqlEvery, place)
    head, _ = storage.open()
    table = SqlEvery()
    many = [replace(plain, key=UUID(int=100 + number), real=float(number)) for number in range(20)]
    steps = [table.put(row) for row in [full, plain, *many]]
    storage.write(steps, head, Head(1, 2, "", bytes(32)), b"")

    def asked(look: Any, _: object) -> Any:
        view: SqlEvery = look.view
        assert view.get(full.key) == full
        assert view.get(full.key).moment.tzinfo is UTC  # type: ignore[union-attr]
        assert str(view.get(full.key).exact) == "10.500"  # type: ignore[union-attr]
        assert view.get(plain.key) == plain
        assert view.find(kind=Kind.FANCY) == view.find(level=Level.HIGH) == view.find(flag=True) == (full,)
        assert view.find(local=full.local) == view.find(choice="y") == (full,)
        for by in ("moment", "day", "clock", "duration", "raw", "real", "text"):
            in_python = sorted([full, plain, *many], key=attrgetter(by, "whole" if by == "text" else "key", "key"))
            assert view.between(by) == tuple(in_python)
            page = view.page(by, limit=1)
            assert view.page(by, after=page.next).rows == tuple(in_python[1:])
        return True

    assert storage.question(asked, None).run()[0]
    storage.close()


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"real": float("nan")}, ValueError, "real of row .* is NaN"),
        ({"exact": Decimal("nan")}, ValueError, "exact of row .* is NaN"),
        ({"moment": datetime(2026, 1, 1)}, TypeError, "moment of row .* has no time zone"),  # noqa: DTZ001 - so it is
        ({"local": datetime(2026, 1, 1, tzinfo=UTC)}, TypeError, "local of row .* has a time zone"),
        ({"clock": time(1, tzinfo=UTC)}, TypeError, "clock of row .* has a time zone"),
        ({"whole": True}, TypeError, "whole of row .* is a bool"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(
    changes: dict[str, Any], error: type[Exception], problem: str
) -> None:
    row = Every(key=UUID(int=1), moment=datetime(2026, 1, 1, tzinfo=UTC), day=date(2026, 1, 1))
    with pytest.raises(error, match=problem):
        SqlEvery().put(replace(row, **changes))


def test_a_row_of_another_class_is_refused() -> None:
    with pytest.raises(TypeError, match="the rows of SqlThings are Thing, and this is a AccountRow"):
        SqlThings().put(AccountRow("ann"))  # type: ignore[arg-type]


async def test_what_is_made_and_not_yielded_is_an_error(tmp_path: Path) -> None:
    class Forgetful(SqlTable[AccountRow]):
        key: ClassVar = "account"

        @applies
        def moved(self, event: Moved) -> Iterator[Statement]:
            self.put(AccountRow(event.account))
            yield self.put(AccountRow("other"))

        @answers
        def one(self, query: One) -> AccountRow | None:
            return self.get(query.account)

    async with Engine(App(models=[Account], views=[Forgetful], name="l"), log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1)])
        with pytest.raises(ViewFaulted, match="1 changes were made and not yielded"):
            await engine.ask(One("ann"), after=1)


def test_what_makes_a_row_sees_its_variables_as_they_were_when_it_was_yielded() -> None:
    storage, table = storage_of(SqlThings, None), SqlThings()
    head, _ = storage.open()
    steps = [table.change(key, lambda row: replace(row, seen=key), new=Thing(key)) for key in range(1, 4)]  # noqa: B023 - as it is now
    storage.write(steps, head, Head(1, 1, "", bytes(32)), b"")
    seen, _ = storage.question(lambda look, _: [(row.key, row.seen) for row in look.view.rows()], None).run()
    assert seen == [(1, 1), (2, 2), (3, 3)]
    storage.close()


def test_so_do_the_functions_that_it_calls() -> None:
    storage, table = storage_of(SqlThings, None), SqlThings()
    head, _ = storage.open()
    steps = []
    for key in range(1, 4):

        def helper(deep: int = 0) -> int:
            return key if deep else helper(deep + 1)  # noqa: B023 - as they are now

        steps.append(table.change(key, lambda row: replace(row, seen=helper()), new=Thing(key)))
    storage.write(steps, head, Head(1, 1, "", bytes(32)), b"")
    seen, _ = storage.question(lambda look, _: [(row.key, row.seen) for row in look.view.rows()], None).run()
    assert seen == [(1, 1), (2, 2), (3, 3)]
    storage.close()


class Noted(msgspec.Struct, frozen=True):
    key: int
    note: str = ""
    more: str = ""
    mark: Literal["a", None] = None


def noting(fields: Sequence[str]) -> type[SqlTable[Noted]]:
    class Notes(SqlTable[Noted]):
        key: ClassVar = "key"
        text: ClassVar = fields

        @applies
        def moved(self, event: Moved) -> Iterator[Statement]:
            yield self.put(Noted(0, event.account))

    return Notes


def test_other_fields_to_search_in_are_another_table() -> None:
    one, other, again = (
        noting(fields).__storage__(None)._fingerprint for fields in (("note",), ("note", "more"), ("note",))
    )
    assert one == again != other


def test_many_words_and_long_ones_are_searched_for(place: str | None) -> None:
    storage, table = storage_of(noting(("note",)), place), noting(("note",))()
    head, _ = storage.open()
    long = "x" * 6_000
    rows = [Noted(1, " ".join(f"w{number}" for number in range(600))), Noted(2, f"{long} w1"), Noted(3, "w1", mark="a")]
    storage.write([table.put(row) for row in rows], head, Head(1, 3, "", bytes(32)), b"")

    def asked(look: Any, _: object) -> Any:
        view: SqlTable[Noted] = look.view
        assert view.search(" ".join(f"w{number}" for number in range(599, 0, -1))) == (rows[0],)
        assert view.search("w1 w2 w3 nowhere") == ()
        assert view.search(f"w1 {long}") == (rows[1],)
        assert view.search("w1 w1 w1", limit=2) == (rows[0], rows[1])
        with pytest.raises(InvalidMessage, match="more than 1,000 words"):
            view.search(" ".join(f"w{number}" for number in range(1_002)))
        assert view.get(2**70) is None
        assert view.get(3) == rows[2]
        return True

    assert storage.question(asked, None).run()[0]
    storage.close()


async def test_an_event_reads_no_rows(tmp_path: Path) -> None:
    class Reading(Accounts):
        @applies
        def moved(self, event: Moved) -> Iterator[Statement]:
            if self.get(event.account) is None:
                yield self.put(AccountRow(event.account))

    async with Engine(app_with(Reading), log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1)])
        with pytest.raises(ViewFaulted, match="applies an event yields changes"):
            await engine.ask(One("ann"), after=1)


class Money(msgspec.Struct, frozen=True):
    key: int
    amount: Decimal = Decimal(0)
    parts: tuple[int, ...] = ()
    moment: datetime | None = None


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({}, "a SqlTable says which field of its rows is the key"),
        ({"key": "kye"}, "Money has no field 'kye'; Money has key, amount, parts, moment"),
        ({"key": "key", "indexes": ("amount",)}, "indexes needs values that a database finds and orders"),
        ({"key": "parts"}, "key needs values that a database finds and orders"),
        ({"key": "key", "ordered": ("moment",)}, "ordered needs values that can be ordered"),
        ({"key": "key", "text": ("amount",)}, "text is over fields that are str"),
        ({"key": "key", "find": 3, "__annotations__": {"more": int}}, "the state of a SqlTable is its rows"),
        ({"key": "key", "find": 3}, "'find' is what a SqlTable has itself"),
    ],
)
def test_a_class_that_contradicts_itself_is_refused(attributes: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        new_class("Wrong", (SqlTable[Money],), exec_body=lambda body: body.update(attributes, __module__=__name__))


def test_questions_that_no_index_answers_are_refused_and_so_are_cursors_of_others() -> None:
    storage = SqlThings.__storage__(None)
    storage.open()

    def asked(look: Any, _: object) -> bool:
        view: SqlThings = look.view
        for ask, error, problem in (
            (lambda: view.find(seen=1), DefinitionError, "no index finds rows by seen"),
            (lambda: view.find(), DefinitionError, r"rows\(\) is all of them"),
            (lambda: view.find(sene=1), DefinitionError, "Thing has no field 'sene'"),
            (lambda: view.page("seen"), DefinitionError, "no ordered index gives rows by seen"),
            (lambda: view.page("size", after="abc"), InvalidMessage, "it is none, or was garbled"),
            (lambda: view.page("size", limit=0), InvalidMessage, "from 1 to page_rows_max=1,000"),
            (lambda: view.between("size", limit=0), InvalidMessage, "at least 1"),
            (lambda: view.between("size", low=1, above=2), TypeError, "of low and above one is given"),
        ):
            with pytest.raises(error, match=problem):
                ask()
        return True

    assert storage.question(asked, None).run()[0]
    storage.close()


# What an event may not do.

tables = MetaData()
counts = Table("counts", tables, Column("n", Integer, primary_key=True), Column("at", Integer))


class Ends(SqlView):
    """Its statements would end the transaction, each in another way."""

    metadata = tables
    statement: ClassVar[Any] = None

    @applies
    def moved(self, event: Moved, about: About) -> Iterator[Statement]:
        yield insert(counts), {"n": about.position, "at": event.amount}
        if event.amount == 7:
            yield type(self).statement

    @answers
    def count(self, query: OfMemory, db: Connection) -> int:
        return db.scalar(select(func.count()).select_from(counts)) or 0


def ending(how: Any, place: str | None, poison: str) -> App:
    attributes = {"statement": how, "database": place, "metadata": tables, "poison": poison}
    return App(models=[Account], views=[type("Ends", (Ends,), attributes)], name="ends")


def commits(db: Connection) -> None:
    db.commit()


def rolls_back(db: Connection) -> None:
    db.rollback()


@pytest.mark.parametrize("poison", ["stop", "park"])
@pytest.mark.parametrize(
    "how",
    [text("COMMIT"), text("-- well\n ROLLBACK"), text("begin"), text("SELECT 1; COMMIT"), commits, rolls_back],
    ids=["commit", "rollback", "begin", "two", "function", "function that rolls back"],
)
async def test_an_event_that_would_end_the_transaction_is_met_as_one_that_can_not_be_applied(
    how: Any, poison: str, place: str | None, tmp_path: Path
) -> None:
    app = ending(how, place, poison)
    async with Engine(app, log=tmp_path / "log.db", limits=Limits(batch_commands_max=2)) as engine:
        await moved(engine, [("ann", 1), ("bob", 2), ("cid", 7), ("dan", 1), ("eve", 1)])
        if poison == "stop":
            with pytest.raises(ViewFaulted, match=r"position 3.*transaction"):
                await engine.ask(OfMemory("ann"), after=5)
        else:
            assert await engine.ask(OfMemory("ann"), after=5, incomplete=True) == 4
            assert [(each.position, "transaction" in each.cause) for each in engine.parked()] == [(3, True)]


#: SQLite's own: a constraint ends the transaction.
OR_ROLLBACK = text("INSERT OR ROLLBACK INTO counts VALUES (1, 1)")


@pytest.mark.parametrize("poison", ["stop", "park"])
async def test_an_event_that_ends_the_transaction_all_the_same_faults_its_view_and_leaves_nothing(
    poison: str, tmp_path: Path
) -> None:
    for _ in range(2):
        async with Engine(ending(OR_ROLLBACK, None, poison), log=tmp_path / "log.db") as engine:
            if not engine.position:
                await moved(engine, [("ann", 1), ("bob", 2), ("cid", 7), ("dan", 1), ("eve", 1)])
            with pytest.raises(ViewFaulted, match=r"position 3.*transaction"):
                await engine.ask(OfMemory("ann"), after=5)
        with sqlite3.connect(next(tmp_path.glob("log.db-Ends-????????"))) as database:
            assert database.execute("SELECT position FROM millstream_view").fetchall() == [(0,)]
            assert database.execute("SELECT count(*) FROM counts").fetchall() == [(0,)]


async def test_a_statement_that_no_transaction_takes_is_not_tried_for_ever(tmp_path: Path) -> None:
    app = ending(text("VACUUM"), new_database(), "stop")
    async with Engine(app, log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 7)])
        with pytest.raises(ViewFaulted, match="VACUUM cannot run inside a transaction block"):
            await engine.ask(OfMemory("ann"), after=1)


class Reads(SqlView):
    """Whoever must read in between is given the connection."""

    metadata = tables

    @applies
    def moved(self, event: Moved, about: About) -> Iterator[Statement]:
        yield insert(counts), {"n": about.position, "at": event.amount}

        def add_all(db: Connection) -> None:
            total = db.scalar(select(func.sum(counts.c.at)))
            db.execute(update(counts).where(counts.c.n == about.position).values(at=total))

        yield add_all

    @answers
    def last(self, query: OfMemory, db: Connection) -> int:
        return db.scalar(select(func.max(counts.c.at))) or 0


async def test_a_function_is_given_the_connection_when_all_before_it_was_executed(
    place: str | None, tmp_path: Path
) -> None:
    app = App(models=[Account], views=[type("Reads", (Reads,), {"metadata": tables, "database": place})], name="reads")
    async with Engine(app, log=tmp_path / "log.db") as engine:
        await moved(engine, [("ann", 1)] * 10)
        assert await engine.ask(OfMemory("ann"), after=10) == 512


def test_a_table_in_memory_takes_a_new_row_to_change_too() -> None:
    class InDict(TableView[AccountRow]):
        key: ClassVar = "account"

        @applies
        def moved(self, event: Moved) -> None:
            self.change(event.account, lambda row: replace(row, moves=row.moves + 1), new=AccountRow(event.account, 1))

    table = InDict()
    for _ in range(2):
        table.moved(Moved("ann", 1))
    assert table.get("ann") == AccountRow("ann", 1, 2)
    with pytest.raises(ValueError, match="a change keeps the key"):
        table.change("bob", lambda row: row, new=AccountRow("ann"))
