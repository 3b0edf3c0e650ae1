"""From a log to tables: a view in SQL that catches up, and a loop by hand that does the same and promises less."""

from __future__ import annotations

import gc
import json
import sqlite3
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, bindparam, insert, select, update

from millstream.bench.bank import Branch, Deposited, Opened, bank, fingerprint
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.postgres.server import postgres_server
from millstream.engine import App, Query, Replica
from millstream.engine.loop.clock import elapsed
from millstream.views import answers, applies
from millstream.views.sql import SqlView, Statement

__all__ = ["by_hand", "by_hand_in_postgres", "catching_up", "catching_up_in_postgres"]

_PAGE_COMMITS = 256

_tables = MetaData()
_accounts = Table(
    "accounts", _tables, Column("account", Text, primary_key=True), Column("balance", Integer, nullable=False)
)
_OPENED = insert(_accounts).values(account=bindparam("account"), balance=0)
_MOVED = (
    update(_accounts)
    .where(_accounts.c.account == bindparam("of"))
    .values(balance=_accounts.c.balance + bindparam("by"))
)


class _InTables(Query[dict[str, int]]):
    """All balances, as the tables have them."""


class _Accounts(SqlView):
    """Balances in a table."""

    metadata = _tables

    @applies
    def opened(self, event: Opened) -> Iterator[Statement]:
        yield _OPENED, {"account": event.account}

    @applies
    def deposited(self, event: Deposited) -> Iterator[Statement]:
        yield _MOVED, {"of": event.account, "by": event.amount}

    @answers
    def in_tables(self, query: _InTables, db: Connection) -> dict[str, int]:
        return {row.account: row.balance for row in db.execute(select(_accounts))}


_app = App(models=[Branch], views=[_Accounts], name=bank.name)


def _without_old(directory: Path) -> None:
    for old in directory.glob(f"{LOG_NAME}-_Accounts-*"):
        old.unlink()


async def catching_up(job: Job) -> Result:
    """Events a second from the log into a new database of SQLite, in a replica that has nothing else."""
    _without_old(Path(job.directory))
    return await _caught_up(job, _app)


async def catching_up_in_postgres(job: Job) -> Result:
    """The same into a database of PostgreSQL, on a server of its own."""
    with postgres_server() as server:
        address = server.replace("postgresql://", "postgresql+psycopg://")
        view = type("_Accounts", (_Accounts,), {"metadata": _tables, "database": address})
        return await _caught_up(job, App(models=[Branch], views=[view], name=bank.name))


async def _caught_up(job: Job, app: App) -> Result:
    log = Path(job.directory) / LOG_NAME
    gc.collect()
    started = elapsed()
    async with Replica(app, log=log) as replica:
        events = replica.position
        answered = await replica.ask(_InTables(), after=events)
        seconds = elapsed() - started
    return Result(value=events / seconds, details={"events": events}, state=fingerprint(answered))


def by_hand(job: Job) -> Result:
    """The same rows from the same log: no digest is checked, no type, no head compared."""
    directory, events = Path(job.directory), 0
    (target := directory / "by-hand.db").unlink(missing_ok=True)
    gc.collect()
    started = elapsed()
    source, database = sqlite3.connect(directory / LOG_NAME), sqlite3.connect(target, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "CREATE TABLE head (number)"):
        database.execute(statement)
    database.execute("INSERT INTO head VALUES (0)")
    database.execute("CREATE TABLE accounts (account TEXT PRIMARY KEY, balance INTEGER NOT NULL)")
    commits = source.execute("SELECT number, body FROM commits ORDER BY number")
    while page := commits.fetchmany(_PAGE_COMMITS):
        happened = [event for _, body in page for event in json.loads(body)["events"]]
        opened = [(event["account"],) for event in happened if event["type"] == "Opened"]
        moved = [(event["amount"], event["account"]) for event in happened if event["type"] == "Deposited"]
        events += len(happened)
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO accounts VALUES (?, 0)", opened)
        database.executemany("UPDATE accounts SET balance = balance + ? WHERE account = ?", moved)
        database.execute("UPDATE head SET number = ?", (page[-1][0],))
        database.execute("COMMIT")
    seconds = elapsed() - started
    balances = dict(database.execute("SELECT account, balance FROM accounts"))
    source.close()
    database.close()
    return Result(value=events / seconds, details={"events": events}, state=fingerprint(balances))


def by_hand_in_postgres(job: Job) -> Result:
    """The same as `by_hand`, by psycopg."""
    psycopg = import_module("psycopg")  # a driver that the program chooses: no extra has it
    events = 0
    with postgres_server() as server, psycopg.connect(server) as database:
        gc.collect()
        started = elapsed()
        source = sqlite3.connect(Path(job.directory) / LOG_NAME)
        cursor = database.cursor()
        cursor.execute("CREATE TABLE head (number bigint)")
        cursor.execute("INSERT INTO head VALUES (0)")
        cursor.execute("CREATE TABLE accounts (account text PRIMARY KEY, balance bigint NOT NULL)")
        database.commit()
        commits = source.execute("SELECT number, body FROM commits ORDER BY number")
        while page := commits.fetchmany(_PAGE_COMMITS):
            happened = [event for _, body in page for event in json.loads(body)["events"]]
            opened = [(event["account"],) for event in happened if event["type"] == "Opened"]
            moved = [(event["amount"], event["account"]) for event in happened if event["type"] == "Deposited"]
            events += len(happened)
            if opened:
                cursor.executemany("INSERT INTO accounts VALUES (%s, 0)", opened)
            cursor.executemany("UPDATE accounts SET balance = balance + %s WHERE account = %s", moved)
            cursor.execute("UPDATE head SET number = %s", (page[-1][0],))
            database.commit()
        seconds = elapsed() - started
        cursor.execute("SELECT account, balance FROM accounts")
        balances = dict(cursor.fetchall())
        source.close()
    return Result(value=events / seconds, details={"events": events}, state=fingerprint(balances))
