"""A log as millstream 0.1 left it, in format 1: what the first process of a torture may find.

Its commands are the first that this process sends, under the same ids: so the process upgrades the log, and each of
those commands must be found in it, once, where 0.1 had put it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from millstream.bench.proofs.torture.application import till
from millstream.bench.proofs.torture.work import command, expected_events
from millstream.engine.application.validation import payload_digest
from millstream.engine.commits.commit import Head, seal
from millstream.engine.commits.marks import LOG_APPLICATION_ID
from millstream.engine.commits.record import Record
from millstream.engine.commits.rows import rows_of
from millstream.engine.stores.sqlite.schema import schema_of

__all__ = ["write_in_format_1"]

_COMMANDS_PER_COMMIT = 5
_AT = "2026-01-01T00:00:00.000000Z"


def write_in_format_1(log: Path, names: Sequence[str]) -> None:
    """Make a log that holds these commands.

    Args:
        log: where; nothing is there.
        names: those of commands of one event each.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(log, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        for statement in schema_of(1).values():
            db.execute(statement)
        db.executemany("INSERT INTO meta VALUES (?, ?)", [("application", till.name), ("format", "1")])
        head = Head()
        for first in range(0, len(names), _COMMANDS_PER_COMMIT):
            some = names[first : first + _COMMANDS_PER_COMMIT]
            commit = seal(head, _AT, rows_of([_record(name, offset) for offset, name in enumerate(some)]))
            row = (commit.number, commit.position, _AT, commit.body.decode(), commit.digest)
            db.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", row)
            head = Head.after(commit, len(some))
        db.execute(f"PRAGMA application_id={LOG_APPLICATION_ID}")
        db.execute("PRAGMA user_version=1")


def _record(name: str, offset: int) -> Record[object]:
    sent, events = command(name), expected_events(name)
    key, tag = str(events[0]["account"]), type(sent).__name__
    return Record(tag, key, name, payload_digest(sent), offset=offset, events=list(events))
