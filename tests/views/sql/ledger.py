"""A small application with a view in SQL: accounts that move, two tables, and what its database or code can't take."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    MetaData,
    Table,
    Text,
    bindparam,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from millstream.engine import About, App, Command, Event, Key, Query
from millstream.handlers import Aggregate, handles
from millstream.views import View, answers, applies
from millstream.views.sql import SqlView, Statement

__all__ = [
    "Balance",
    "InMemory",
    "Ledger",
    "Move",
    "Moved",
    "Of",
    "OfMemory",
    "Richer",
    "SeenIn",
    "Slow",
    "Sums",
    "app_of",
    "ledger",
    "made",
]

#: An amount that the database refuses, and one that the view's code refuses.
REFUSED, RAISES = 666, 13


class Move(Command):
    account: Key
    amount: int


class Moved(Event):
    account: Key
    amount: int


class Account(Aggregate):
    @handles
    def move(self, command: Move) -> Iterator[Moved]:
        yield Moved(command.account, command.amount)


class Balance(msgspec.Struct, frozen=True):
    account: str
    amount: int
    moves: int


class Of(Query[int]):
    account: Key


class OfMemory(Query[int]):
    account: Key


class Richer(Query[list[Balance]]):
    least: int


class Sums(Query[tuple[int, int, int]]):
    """The sum of all accounts, that of all entries, and how many of these there are."""


class Slow(Query[int]):
    """Takes longer than anybody waits."""


class SeenIn(Query[int]):
    """Looks into another database, too."""

    path: str


tables = MetaData()
accounts = Table(
    "accounts",
    tables,
    Column("account", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("moves", BigInteger, nullable=False),
)
entries = Table(
    "entries",
    tables,
    Column("position", BigInteger, primary_key=True),
    Column("account", Text, nullable=False, index=True),
    Column("amount", BigInteger, CheckConstraint(f"amount <> {REFUSED}"), nullable=False),
    Column("actor", Text),
)
NEW = insert(accounts).from_select(
    ["account", "amount", "moves"],
    select(bindparam("of", type_=Text), literal(0), literal(0)).where(
        ~exists().where(accounts.c.account == bindparam("of", type_=Text))
    ),
)
MOVED = (
    update(accounts)
    .where(accounts.c.account == bindparam("of"))
    .values(amount=accounts.c.amount + bindparam("by"), moves=accounts.c.moves + 1)
)
ENTRY = insert(entries)


class Ledger(SqlView):
    metadata: ClassVar = tables

    @applies
    def moved(self, event: Moved, about: About) -> Iterator[Statement]:
        if event.amount == RAISES:
            raise ValueError("thirteen")
        yield NEW, {"of": event.account}
        yield MOVED, {"of": event.account, "by": event.amount}
        yield (
            ENTRY,
            {"position": about.position, "account": event.account, "amount": event.amount, "actor": about.actor},
        )

    @answers
    def of(self, query: Of, db: Connection) -> int:
        return db.scalar(select(accounts.c.amount).where(accounts.c.account == query.account)) or 0

    @answers
    def richer(self, query: Richer, db: Connection) -> list[Balance]:
        found = select(accounts).where(accounts.c.amount >= query.least)
        return [Balance(*row) for row in db.execute(found.order_by(accounts.c.amount, accounts.c.account))]

    @answers
    def sums(self, query: Sums, db: Connection) -> tuple[int, int, int]:
        all_accounts = db.scalar(select(func.coalesce(func.sum(accounts.c.amount), 0)))
        total, count = db.execute(select(func.coalesce(func.sum(entries.c.amount), 0), func.count())).one()
        return int(all_accounts or 0), int(total), count

    @answers
    def seen_in(self, query: SeenIn, db: Connection) -> int:
        with sqlite3.connect(query.path, timeout=0.01) as other:
            try:
                return int(other.execute("SELECT count(*) FROM seen").fetchone()[0])
            except sqlite3.Error as error:
                raise DBAPIError.instance("SELECT", {}, error, sqlite3.Error) from error

    @answers
    def slow(self, query: Slow, db: Connection) -> int:
        if db.dialect.name == "postgresql":
            db.exec_driver_sql("SELECT pg_sleep(60)")
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        return int(db.exec_driver_sql(endless).scalar_one())


class InMemory(View):
    amounts: dict[str, int] = {}

    @applies
    def moved(self, event: Moved) -> None:
        self.amounts[event.account] = self.amounts.get(event.account, 0) + event.amount

    @answers
    def of(self, query: OfMemory) -> int:
        return self.amounts.get(query.account, 0)


def made(**attributes: Any) -> type[Ledger]:
    """The view, otherwise: with another ``poison``, ``database`` or ``code_version``."""
    return type("Ledger", (Ledger,), {**attributes, "metadata": tables})


def app_of(view: type[SqlView] = Ledger) -> App:
    return App(models=[Account], views=[InMemory, view], name="ledger")


ledger = app_of()
