"""A log as millstream 0.1 left it, in format 1: what the first process of a proof may find, and upgrades.

Here: how it is written. Not here: which commands lie in it, which each proof says for itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from millstream.engine import App, Command
from millstream.engine.application.validation import payload_digest
from millstream.engine.commits.commit import Head, seal
from millstream.engine.commits.marks import LOG_APPLICATION_ID
from millstream.engine.commits.record import Record
from millstream.engine.commits.rows import rows_of
from millstream.engine.stores.sqlite.schema import schema_of

__all__ = ["Older", "write_in_format_1"]

_AT = "2026-01-01T00:00:00.000000Z"


class Older(NamedTuple):
    """A command that lies in such a log."""

    command: Command
    key: str
    #: As JSON has them.
    events: Sequence[Mapping[str, Any]]
    id: str | None = None
    correlation: str | None = None


def write_in_format_1(log: Path, app: App, commits: Iterable[Sequence[Older]]) -> None:
    """Make a log that holds these commits.

    Args:
        log: where; nothing is there.
        app: whose it is.
        commits: the commands of each, in order. All events of a command have its key.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(log, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        for statement in schema_of(1).values():
            db.execute(statement)
        db.executemany("INSERT INTO meta VALUES (?, ?)", [("application", app.name), ("format", "1")])
        head = Head()
        for commands in commits:
            records = _records(commands)
            commit = seal(head, _AT, rows_of(records))
            row = (commit.number, commit.position, _AT, commit.body.decode(), commit.digest)
            db.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", row)
            head = Head.after(commit, sum(len(record.events) for record in records))
        db.execute(f"PRAGMA application_id={LOG_APPLICATION_ID}")
        db.execute("PRAGMA user_version=1")


def _records(commands: Iterable[Older]) -> list[Record[Any]]:
    """What a commit of 0.1 holds of these commands."""
    records: list[Record[Any]] = []
    offset = 0
    for older in commands:
        records.append(
            Record(
                type=type(older.command).__name__,
                key=older.key,
                id=older.id,
                payload=None if older.id is None else payload_digest(older.command),
                correlation=older.correlation,
                offset=offset,
                events=list(older.events),
            )
        )
        offset += len(older.events)
    return records
