"""What a `TableView` takes to answer and to change, with many rows in it, beside SQLite in memory and dicts by hand.

Here: the three systems, and the same questions and rows for each. Not here: views in an engine (`views`).

Dicts by hand are what an application writes that needs this one question: rows by key, and by branch. They are sorted
when a page is asked for.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from operator import attrgetter
from random import Random
from typing import Any, ClassVar, Protocol

import msgspec

from millstream.bench.bank import account_name, fingerprint
from millstream.bench.job import DifferentWork, Job, Result
from millstream.bench.measure import latencies, percentile
from millstream.engine import Event, Key
from millstream.engine.loop.clock import elapsed
from millstream.views import TableView, applies

__all__ = ["AccountRow", "Accounts", "Dicts", "Rows", "Sqlite", "Table", "inserts", "lookups", "pages"]

_PAGE_ROWS = 50
_BRANCH_ROWS = 1_000


class AccountRow(msgspec.Struct, frozen=True):
    """An account, at a branch."""

    account: str
    branch: int
    balance: int
    owner: str = "one"


class _Moved(Event):
    account: Key
    branch: int
    balance: int


class Accounts(TableView[AccountRow]):
    """Accounts by branch, and by balance within a branch."""

    key: ClassVar = "account"
    indexes: ClassVar = ("branch",)
    ordered: ClassVar = (("branch", "balance"),)

    @applies
    def moved(self, event: _Moved) -> None:
        self.put(AccountRow(event.account, event.branch, event.balance))


class Rows(Protocol):
    """One system that keeps rows."""

    def put(self, account: str, branch: int, balance: int) -> None:
        """Keep a row."""
        ...

    def get(self, account: str) -> AccountRow | None:
        """The row of an account."""
        ...

    def two_pages(self, branch: int) -> Iterator[Sequence[AccountRow]]:
        """The 50 accounts of a branch with the least money, and the 50 after them: each is made when it is taken."""
        ...

    def close(self) -> None:
        """Release its memory."""
        ...


class Table:
    """The view, as an engine calls it."""

    def __init__(self) -> None:
        self._table = Accounts()
        self._apply: Callable[[Any], None] = Accounts.__appliers__[_Moved].function.__get__(self._table)
        self.get = self._table.get

    def put(self, account: str, branch: int, balance: int) -> None:
        """As `Rows.put`."""
        self._apply(_Moved(account, branch, balance))

    def two_pages(self, branch: int) -> Iterator[Sequence[AccountRow]]:
        """As `Rows.two_pages`."""
        page = self._table.page("balance", where={"branch": branch}, limit=_PAGE_ROWS)
        yield page.rows
        yield self._table.page("balance", where={"branch": branch}, after=page.next, limit=_PAGE_ROWS).rows

    def close(self) -> None:
        """Nothing is open."""


_SCHEMA = """
CREATE TABLE accounts (account TEXT PRIMARY KEY, branch INTEGER, balance INTEGER, owner TEXT) WITHOUT ROWID;
CREATE INDEX by_balance ON accounts (branch, balance, account);
"""
_PUT = "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, 'one')"
_GET = "SELECT account, branch, balance, owner FROM accounts WHERE account = ?"
_PAGE = """
SELECT account, branch, balance, owner FROM accounts WHERE branch = ? AND (balance, account) > (?, ?)
ORDER BY balance, account LIMIT 50
"""


class Sqlite:
    """A table in memory with an index, by the module of the standard library."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._db.executescript(_SCHEMA)

    def put(self, account: str, branch: int, balance: int) -> None:
        """As `Rows.put`."""
        self._db.execute(_PUT, (account, branch, balance))

    def get(self, account: str) -> AccountRow | None:
        """As `Rows.get`."""
        row = self._db.execute(_GET, (account,)).fetchone()
        return None if row is None else AccountRow(*row)

    def two_pages(self, branch: int) -> Iterator[Sequence[AccountRow]]:
        """As `Rows.two_pages`."""
        balance, account = -1, ""
        for _ in range(2):
            found = [AccountRow(*row) for row in self._db.execute(_PAGE, (branch, balance, account))]
            yield found
            balance, account = found[-1].balance, found[-1].account

    def close(self) -> None:
        """Close it."""
        self._db.close()


class Dicts:
    """Rows by key, and by branch and key."""

    def __init__(self) -> None:
        self._rows: dict[str, AccountRow] = {}
        self._branches: dict[int, dict[str, AccountRow]] = {}
        self.get = self._rows.get

    def put(self, account: str, branch: int, balance: int) -> None:
        """As `Rows.put`."""
        old = self._rows.get(account)
        if old is not None:
            del self._branches[old.branch][account]
        row = self._rows[account] = AccountRow(account, branch, balance)
        self._branches.setdefault(branch, {})[account] = row

    def two_pages(self, branch: int) -> Iterator[Sequence[AccountRow]]:
        """As `Rows.two_pages`."""
        for start in (0, _PAGE_ROWS):
            found = sorted(self._branches[branch].values(), key=_by_balance)
            yield found[start : start + _PAGE_ROWS]

    def close(self) -> None:
        """Nothing is open."""


_by_balance = attrgetter("balance", "account")


def lookups(system: Callable[[], Rows], job: Job) -> Result:
    """The p99 in microseconds of looking a row up by its key."""
    with closing(system()) as rows:
        _fill(rows, job)
        make = Random(job.workload.seed)
        asked = [account_name(make.randrange(job.workload.accounts)) for _ in range(job.workload.asks)]
        seconds = []
        total = 0
        for account in asked:
            started = elapsed()
            row = rows.get(account)
            seconds.append(elapsed() - started)
            if row is None:
                raise DifferentWork(job.program, {account: "is not there"})
            total += row.balance
    ordered = sorted(each * 1e6 for each in seconds)
    details = {"p50 µs": percentile(ordered, 0.5), "p99.9 µs": percentile(ordered, 0.999)}
    return Result(value=percentile(ordered, 0.99), details=details, state=fingerprint({"sum": total}))


def pages(system: Callable[[], Rows], job: Job) -> Result:
    """The p99 in milliseconds of a page of 50 rows, half of them the second page of a branch."""
    with closing(system()) as rows:
        branches, _ = _fill(rows, job)
        make = Random(job.workload.seed)
        seconds = []
        total = 0
        for _ in range(job.workload.asks // 2):
            asked = rows.two_pages(make.randrange(branches))
            for number in (1, 2):
                started = elapsed()
                page = next(asked)
                seconds.append(elapsed() - started)
                total += sum(row.balance * number for row in page)
    measured = latencies(seconds)
    return Result(value=measured.pop("p99 ms"), details=measured, state=fingerprint({"sum": total}))


def inserts(system: Callable[[], Rows], job: Job) -> Result:
    """The longest of so many inserts, in milliseconds, into so many rows; beside it, the longest while they came."""
    with closing(system()) as rows:
        branches, filling_ms = _fill(rows, job)
        make = Random(job.workload.seed)
        first = job.workload.accounts
        longest, started = 0.0, elapsed()
        for number in range(first, first + job.workload.commands):
            name, branch, balance = account_name(number), make.randrange(branches), make.randrange(1_000_000)
            before = elapsed()
            rows.put(name, branch, balance)
            longest = max(longest, elapsed() - before)
        seconds = elapsed() - started
        total = sum(row.balance for each in range(branches) for page in rows.two_pages(each) for row in page)
    details = {"rows/s": job.workload.commands / seconds, "ms while they came": filling_ms}
    return Result(value=longest * 1e3, details=details, state=fingerprint({"sum": total}))


def _fill(rows: Rows, job: Job) -> tuple[int, float]:
    """Put the workload's accounts there; the number of branches, and the longest of these, in milliseconds."""
    branches = max(1, job.workload.accounts // _BRANCH_ROWS)
    make = Random(job.workload.seed + 1)
    longest = 0.0
    for number in range(job.workload.accounts):
        name, branch, balance = account_name(number), make.randrange(branches), make.randrange(1_000_000)
        before = elapsed()
        rows.put(name, branch, balance)
        longest = max(longest, elapsed() - before)
    gc.collect()
    return branches, longest * 1e3
