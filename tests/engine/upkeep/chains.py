"""Chains of commits for these tests: made, put into stores, and damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from millstream.engine import MemoryLog, SqliteLog
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.stores.memory import MemoryStore
from tests.support import Row, sealed_rows

APP = "bank"


def sealed(*bodies: Sequence[Row], after: Head | None = None) -> list[Commit]:
    """A commit for each list of records, one second apart."""
    head, made = after or Head(), []
    for records in bodies:
        commit = sealed_rows(head, f"2026-01-01T00:00:{head.number:02}.000000Z", records)
        made.append(commit)
        head = Head.after(commit, sum(len(msgspec.json.decode(record.events)) for record in records))
    return made


def deposit(account: str, *amounts: int, offset: int = 0) -> Row:
    events = [{"type": "Deposited", "account": account, "amount": amount} for amount in amounts]
    return Row("Deposit", account, offset=offset, events=msgspec.Raw(msgspec.json.encode(events)))


#: Five commits with 2, 1, 0, 3 and 1 events.
FIVE = sealed(
    [deposit("ann", 1), deposit("bob", 2, offset=1)],
    [deposit("ann", 3)],
    [deposit("ann")],
    [deposit("Zoë", 4, 5, 6)],
    [deposit("bob", 7)],
)


def in_memory(commits: Sequence[Commit], application: str = APP) -> MemoryLog:
    """A log in memory that holds what it is told to, whole or not."""
    return MemoryLog(MemoryStore(list(commits), application))


async def in_file(path: Path, commits: Sequence[Commit], application: str = APP) -> Path:
    """A log in a file, closed again, so that all of it is in that one file."""
    log = SqliteLog(path)
    await log.open(application)
    for commit in commits:
        await log.append(commit)
    await log.close()
    return path


async def commits_in(path: Path) -> list[Commit]:
    """What a log in a file holds, as it is read back."""
    log = SqliteLog(path)
    await log.attach()
    try:
        found: list[Commit] = []
        while page := await log.read(len(found), 1_000_000):
            found += page
        return found
    finally:
        await log.close()


def change(path: Path, *statements: str) -> None:
    """Change a log behind millstream's back."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def with_commit(index: int, **fields: object) -> list[Commit]:
    """`FIVE`, one of them changed."""
    return [replace(commit, **fields) if at == index else commit for at, commit in enumerate(FIVE)]
