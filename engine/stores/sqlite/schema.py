"""What a log is inside a SQLite file: its tables, the statements on them, and how to tell a log from anything else.

Here: everything that names a table or a column. Not here: connections, threads, locks (`sqlite`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millstream.engine.commits.commit import FORMAT, Commit
from millstream.engine.commits.marks import LOG_APPLICATION_ID
from millstream.engine.errors import LogCorrupt, LogRefused
from millstream.engine.stores.sqlite.connection import Database
from millstream.engine.stores.sqlite.errors import ERRORS, is_damage

__all__ = [
    "APPEND",
    "LAST",
    "PROBE",
    "READ",
    "check_pages",
    "commit_of",
    "create",
    "first_unreadable",
    "is_empty",
    "owner_of",
]

#: As SQLite keeps it, word for word, so that damage to it is seen.
_SCHEMA = {
    "meta": "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "commits": """CREATE TABLE commits (
    number INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    body TEXT NOT NULL,
    digest BLOB NOT NULL
)""",
    "events": """CREATE VIEW events AS
SELECT
    commits.position + coalesce(json_extract(command.value, '$.offset'), 0) + event.key AS position,
    commits.number AS number,
    commits.recorded_at AS recorded_at,
    json_extract(event.value, '$.type') AS type,
    CASE
        WHEN json_type(command.value, '$.keys') IS NULL THEN json_extract(command.value, '$.key')
        ELSE json_extract(command.value, '$.keys[' || event.key || ']')
    END AS key,
    event.value AS data,
    json_extract(command.value, '$.id') AS command_id
FROM commits, json_each(commits.body) AS command, json_each(command.value, '$.events') AS event""",
}

#: The rule of the log is inside the statement, so no time passes between looking at the head and writing after it.
APPEND = """
INSERT INTO commits (number, position, recorded_at, body, digest)
SELECT ?1, ?2, ?3, CAST(?4 AS TEXT), ?5
WHERE ?1 = (SELECT coalesce(max(number), 0) + 1 FROM commits)
RETURNING number
"""

#: Writes the file's first page, with the value that it has: one frame and one fsync, and no row, position or query
#: changes by it. The frame is marked as a commit and belongs to page 1, and no failed commit can begin with such a one:
#: one that changes page 1 changes others, too. So all that lies behind it has checksums that don't follow from it.
PROBE = f"PRAGMA application_id={LOG_APPLICATION_ID}"

_COLUMNS = "number, position, recorded_at, CAST(body AS BLOB), digest"
READ = f"SELECT {_COLUMNS} FROM commits WHERE number > ? ORDER BY number LIMIT ?"
LAST = f"SELECT {_COLUMNS} FROM commits ORDER BY number DESC LIMIT 1"

_SCAN_ROWS = 1_000


def commit_of(log: str, number: int, row: Sequence[Any]) -> Commit:
    """The commit in the row that should hold this number.

    Raises:
        LogCorrupt: it holds another one, or a value has another type: a column's binds nobody
            (https://www.sqlite.org/datatype3.html).
    """
    found, position, recorded_at, body, digest = row
    if found != number:  # rows come in another order when a page is damaged
        raise LogCorrupt(log, number, f"commit {found} stands where {number:,} should")
    if type(position) is int and type(recorded_at) is str and type(body) is bytes and type(digest) is bytes:
        return Commit(number, position, recorded_at, body, digest)
    types = ", ".join(type(value).__name__ for value in row)
    raise LogCorrupt(log, number, f"its row holds values of other types: {types}")


async def is_empty(db: Database) -> bool:
    """Whether nothing was ever put into the file, so that a log can be made in it."""
    ((owner,),) = await db.rows("PRAGMA application_id")
    ((objects,),) = await db.rows("SELECT count(*) FROM sqlite_master")
    return bool(owner == 0 and objects == 0)


async def owner_of(log: str, db: Database) -> str:
    """The name of the application whose log the file holds.

    Raises:
        LogRefused: it holds something else, or a log in a newer format.
        LogCorrupt: it holds a log that names no application, or whose tables are not as they were made.
    """
    ((owner,),) = await db.rows("PRAGMA application_id")
    ((version,),) = await db.rows("PRAGMA user_version")
    if owner != LOG_APPLICATION_ID:
        raise LogRefused(log, "it is a database of something else", "name another file")
    if version > FORMAT:
        raise LogRefused(
            log, f"it has format {version}, this millstream reads up to {FORMAT}", "update millstream to open it"
        )
    schema = {row[0]: row[1] for row in await db.rows("SELECT name, sql FROM sqlite_master")}
    for name, made in _SCHEMA.items():
        if schema.get(name) != made:
            commit, _ = await first_unreadable(db, 0)
            raise LogCorrupt(log, commit, f"what its schema says of {name!r} is not what millstream made")
    rows = await db.rows("SELECT value FROM meta WHERE name = 'application'")
    if not rows or type(rows[0][0]) is not str:
        raise LogCorrupt(log, 1, "its meta table names no application")
    return rows[0][0]


async def create(db: Database, application: str) -> None:
    """Make an empty log. One transaction, so that a crash leaves an empty file or a whole log."""
    await db.rows("PRAGMA synchronous=EXTRA")
    await db.rows("BEGIN IMMEDIATE")
    for statement in _SCHEMA.values():
        await db.rows(statement)
    await db.rows("INSERT INTO meta VALUES ('application', ?), ('format', ?)", (application, str(FORMAT)))
    await db.rows(f"PRAGMA application_id={LOG_APPLICATION_ID}")
    await db.rows(f"PRAGMA user_version={FORMAT}")
    await db.rows("COMMIT")


async def check_pages(log: str, db: Database, bytes_max: int) -> None:
    """That the file's pages make up a database, unless they are more than ``bytes_max``.

    The digests vouch for each commit that is found, and not for there being no more: one damaged byte can make a page
    say that it holds fewer rows than it does. That is found here. 1 to 3 GB/s, without the interpreter's lock.

    Raises:
        LogCorrupt: they don't; names the first commit that can't be read.
    """
    ((pages,),) = await db.rows("PRAGMA page_count")
    ((page_bytes,),) = await db.rows("PRAGMA page_size")
    if pages * page_bytes > bytes_max:
        return
    try:
        ((problem,),) = await db.rows("PRAGMA quick_check(1)")
    except ERRORS as error:
        if not is_damage(error):
            raise
        problem = str(error)
    if problem != "ok":
        commit, _ = await first_unreadable(db, 0)
        raise LogCorrupt(log, commit, " ".join(str(problem).split()))


async def first_unreadable(db: Database, after: int) -> tuple[int, bool]:
    """The number of the first commit after ``after`` that can't be read, and True.

    Where all can, the number after the last one, and False.
    """
    rows = _SCAN_ROWS
    while True:
        try:
            found = [row[0] for row in await db.rows(READ, (after, rows))]
        except ERRORS:
            if rows == 1:
                return after + 1, True
            rows = max(1, rows // 10)
            continue
        for number in found:
            if number != after + 1:
                return after + 1, True
            after = number
        if not found:
            return after + 1, False
