"""What a log is inside a SQLite file: its tables, the statements on them, and how to tell a log from anything else.

Here: everything that names a table or a column. Not here: connections, threads, locks (`sqlite`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import replace

from millstream.engine.commits.columns import UnknownFeature, needs_of, require_features
from millstream.engine.commits.commit import FORMAT, Commit
from millstream.engine.commits.marks import LOG_APPLICATION_ID
from millstream.engine.errors import LogCorrupt, LogRefused
from millstream.engine.stores.log_id import new_log_id
from millstream.engine.stores.sqlite.connection import Database
from millstream.engine.stores.sqlite.errors import ERRORS, is_damage, primary_code, text_of

__all__ = [
    "BODY_BYTES_MAX",
    "LAST",
    "META",
    "PROBE",
    "READ",
    "SCHEMA",
    "Meta",
    "Writing",
    "added_to",
    "changed_in",
    "check_pages",
    "commit_of",
    "create",
    "first_unreadable",
    "is_empty",
    "meta_in",
    "meta_of",
    "schema_of",
    "upgrade",
]

#: A row has 1,000,000,000 bytes at most: https://www.sqlite.org/limits.html. This leaves some to its other columns.
BODY_BYTES_MAX = 999_000_000

_META = "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_COMMITS = """CREATE TABLE commits (
    number INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    body TEXT NOT NULL,
    digest BLOB NOT NULL
)"""
#: Of format 1. A log that has it is whole, and gets that of today from its next writer.
_EVENTS_1 = """CREATE VIEW events AS
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
FROM commits, json_each(commits.body) AS command, json_each(command.value, '$.events') AS event"""
#: Which command of a commit of format 2 an event is of: `of` says it, where it is not one event each.
_PLACE = "coalesce(json_extract(commits.body, '$.of[' || event.key || ']'), event.key)"


def _told(column: str, name: str) -> str:
    """What a column of format 2 says of an event's command."""
    return f"json_extract(commits.body, '$.{column}[' || {_PLACE} || ']') AS {name}"


#: What led to an event's command: as its caller said it; or the event that a reaction followed, or the timer.
_CAUSATION = f"""coalesce(
        json_extract(commits.body, '$.causations[' || {_PLACE} || ']'),
        (
            SELECT coalesce(
                'timer:' || json_extract(origin.value, '$.timer'),
                'event:' || coalesce(
                    commits.position + json_extract(origin.value, '$.event'), json_extract(origin.value, '$.at')
                )
            )
            FROM json_each(commits.body, '$.origins') AS origin
            WHERE json_extract(origin.value, '$.command') = {_PLACE}
        )
    ) AS causation"""


#: Of format 2. A log may hold commits of format 1, and after them those of today. A type may have a dot: it is quoted.
_EVENTS = f"""CREATE VIEW events AS
SELECT
    commits.position + event.key AS position,
    commits.number AS number,
    commits.recorded_at AS recorded_at,
    json_extract(event.value, '$.type') AS type,
    json_extract(
        event.value,
        '$."' || json_extract(commits.body, '$.key."' || json_extract(event.value, '$.type') || '"') || '"'
    ) AS key,
    event.value AS data,
    {_told("ids", "command_id")},
    coalesce(
        json_extract(commits.body, '$.type'), json_extract(commits.body, '$.types[' || {_PLACE} || ']')
    ) AS command,
    {_told("actors", "actor")},
    {_told("correlations", "correlation")},
    {_CAUSATION},
    {_told("traces", "trace")},
    {_told("extras", "extra")}
FROM commits, json_each(commits.body, '$.events') AS event
WHERE substr(commits.body, 1, 1) = '{{'
UNION ALL
SELECT
    commits.position + coalesce(json_extract(command.value, '$.offset'), 0) + event.key,
    commits.number,
    commits.recorded_at,
    json_extract(event.value, '$.type'),
    CASE
        WHEN json_type(command.value, '$.keys') IS NULL THEN json_extract(command.value, '$.key')
        ELSE json_extract(command.value, '$.keys[' || event.key || ']')
    END,
    event.value,
    json_extract(command.value, '$.id'),
    json_extract(command.value, '$.type'),
    json_extract(command.value, '$.actor'),
    json_extract(command.value, '$.correlation'),
    json_extract(command.value, '$.causation'),
    NULL,
    NULL
FROM commits, json_each(commits.body) AS command, json_each(command.value, '$.events') AS event
WHERE substr(commits.body, 1, 1) = '['"""

#: By format, as SQLite keeps it, word for word, so that damage to it is seen.
_SCHEMAS = {
    1: {"meta": _META, "commits": _COMMITS, "events": _EVENTS_1},
    FORMAT: {"meta": _META, "commits": _COMMITS, "events": _EVENTS},
}
_SCHEMA = _SCHEMAS[FORMAT]


def schema_of(version: int) -> Mapping[str, str]:
    """The statements that make the tables and the view of a log in a format, by name."""
    return _SCHEMAS[version]


#: The rule of the log is inside the statement, so no time passes between looking at the head and writing after it.
_APPEND = """
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

#: What the file says that it holds, and whose it is. More rows than there can be are not waited for.
SCHEMA = "SELECT type, name, sql FROM sqlite_master LIMIT 100"
META = "SELECT name, value FROM meta LIMIT 100"
#: What the shell's ``ANALYZE`` adds. It says how much there is, does nothing, and its names can't be taken.
_STATISTICS = {("table", "sqlite_stat1"), ("table", "sqlite_stat4")}
_CHECKSUM_BYTES = 16

_SCAN_ROWS = 1_000


def commit_of(log: str, number: int, row: Sequence[Any]) -> Commit:
    """The commit in the row that should hold this number.

    Raises:
        LogCorrupt: it holds another one, or a value has another type: a column's binds no writer
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
    return bool(owner == 0 and not await db.rows("SELECT 1 FROM sqlite_master LIMIT 1"))


def changed_in(schema: Iterable[Sequence[Any]], version: int) -> str | None:
    """Which of a log's tables and views is not as millstream made it; None where all are.

    Args:
        schema: the rows of `SCHEMA`.
        version: the format that the file's header says.
    """
    found = {(kind, name): sql for kind, name, sql in schema}
    for name, made in _SCHEMAS.get(version, _SCHEMA).items():
        if found.get((_kind(made), name)) != made:
            return f"what its schema says of {name!r} is not what millstream made"
    return None


def added_to(schema: Iterable[Sequence[Any]]) -> tuple[str, str] | None:
    """What was added to a log's schema, as its kind and its name; None where nothing was.

    A trigger may delete what is acknowledged, an index of its own may refuse a commit, and a view may never end.
    """
    ours = {(_kind(made), name) for name, made in _SCHEMA.items()} | _STATISTICS
    return next(((str(kind), str(name)) for kind, name, _ in schema if (kind, name) not in ours), None)


def _kind(made: str) -> str:
    return made.split()[1].lower()


class Meta(msgspec.Struct, frozen=True):
    """What the table ``meta`` says of a log.

    ``log`` is its random id, None in one of format 1. ``needs`` are the features that a reader must understand.
    """

    application: str
    format: int
    log: str | None = None
    needs: tuple[str, ...] = ()


def meta_in(rows: Iterable[Sequence[Any]], version: int) -> tuple[Meta, str | None]:
    """What the table ``meta`` says, and what is wrong with the table.

    Logs of 0.1 have no checksum there until a writer opens them.

    Args:
        rows: those of `META`.
        version: the format that the file's header says.
    """
    found: dict[Any, Any] = {row[0]: row[1] for row in rows}
    checksum, told = found.pop("checksum", None), dict(found)
    application, log, needs = told.pop("application", None), told.pop("log", None), told.pop("needs", "")
    if type(application) is not str or not application:
        return Meta("", version), "its meta table names no application"
    meta = Meta(application, version, log, tuple(str(needs).split()))
    if told != {"format": str(version)} or (log is None) != (version == 1):
        return meta, "its meta table and its header say different things about its format"
    if checksum != _checksum(found) and not (checksum is None and version == 1):
        return meta, "its meta table is not what was written: its checksum does not match"
    return meta, None


def _checksum(rows: Mapping[str, str]) -> str:
    """The checksum of all other rows of the table."""
    if rows["format"] == "1":
        text = f"1 {rows['application']}"
    else:
        text = "".join(f"{name}={value}\n" for name, value in sorted(rows.items()))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_CHECKSUM_BYTES).hexdigest()


def _rows_of(meta: Meta) -> Iterable[tuple[str, str]]:
    rows = {"application": meta.application, "format": str(meta.format), "log": str(meta.log)}
    if meta.needs:
        rows["needs"] = " ".join(meta.needs)
    return {**rows, "checksum": _checksum(rows)}.items()


async def _write_meta(db: Database, meta: Meta) -> None:
    for name, value in _rows_of(meta):
        await db.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


async def upgrade(db: Database, meta: Meta) -> Meta:
    """Make a log of format 1 one of today's, in one transaction; returns what its ``meta`` says then.

    Commits stay as they are: a log may hold those of both formats. A crash leaves it as it was, or as it is to be.
    """
    upgraded = Meta(meta.application, FORMAT, new_log_id())
    await db.rows("BEGIN IMMEDIATE")
    await db.rows("DROP VIEW events")
    await db.rows(_EVENTS)
    await _write_meta(db, upgraded)
    await db.rows(f"PRAGMA user_version={FORMAT}")
    await db.rows("COMMIT")
    return upgraded


async def meta_of(log: str, db: Database) -> Meta:
    """What a log says of itself.

    Nothing is read of a table before it is known that it is one, and ours.

    Raises:
        LogRefused: it holds something else, a log in a newer format or one that needs a newer millstream, or a log to
            which something was added.
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
    schema = await db.rows(SCHEMA)
    added = added_to(schema)
    if problem := changed_in(schema, version):
        is_readable = added is None and ("table", "commits", _COMMITS) in {tuple(row) for row in schema}
        commit, _ = await first_unreadable(db, 0) if is_readable else (1, True)
        raise LogCorrupt(log, commit, problem)
    if added:
        kind, name = added
        raise LogRefused(
            log,
            f"its schema holds the {kind} {name!r}, which millstream did not make",
            f"remove it (DROP {kind.upper()} in the SQLite shell) and verify the log; "
            "what is yours goes into another file",
        )
    meta, problem = meta_in(await db.rows(META), version)
    if problem:
        raise LogCorrupt(log, 1, problem)
    try:
        require_features(meta.needs)
    except UnknownFeature as error:
        raise LogRefused(log, f"it needs what this millstream does not know: {error}", "update millstream") from error
    return meta


async def create(db: Database, application: str) -> Meta:
    """Make an empty log. One transaction, so that a crash leaves an empty file or a whole log."""
    meta = Meta(application, FORMAT, new_log_id())
    await db.rows("PRAGMA synchronous=EXTRA")
    await db.rows("BEGIN IMMEDIATE")
    for statement in _SCHEMA.values():
        await db.rows(statement)
    await _write_meta(db, meta)
    await db.rows(f"PRAGMA application_id={LOG_APPLICATION_ID}")
    await db.rows(f"PRAGMA user_version={FORMAT}")
    await db.rows("COMMIT")
    return meta


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
        problem = text_of(error)
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


class Writing:
    """Writes the commits of one open log. In the store's thread.

    Args:
        meta: what the log says of itself.
    """

    def __init__(self, meta: Meta) -> None:
        self._meta = meta

    def write(self, commit: Commit, connection: sqlite3.Connection) -> int | None:
        """Write a commit; the head of the log, if that is not the commit before it. Blocks.

        With the first commit that needs a feature, the log's ``meta`` says so, in the same transaction: who opens the
        log from a snapshot may not see that commit.

        Args:
            commit: the commit.
            connection: the one that appends.

        Raises:
            sqlite3.Error: it is not written, or may be: see `errors`.
        """
        row = (commit.number, commit.position, commit.recorded_at, commit.body, commit.digest)
        needs = needs_of(commit.body)
        if not needs or set(needs) <= set(self._meta.needs):
            return _insert(row, connection)
        meta = replace(self._meta, needs=tuple(sorted({*self._meta.needs, *needs})))
        connection.execute("BEGIN IMMEDIATE")
        head = _insert(row, connection)
        if head is None:
            for name, value in _rows_of(meta):
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
        connection.execute("COMMIT")
        if head is None:
            self._meta = meta
        return head


def _insert(row: Sequence[object], connection: sqlite3.Connection) -> int | None:
    try:
        written = connection.execute(_APPEND, row).fetchall()
    except sqlite3.DatabaseError as error:
        if primary_code(error) != sqlite3.SQLITE_AUTH:
            raise
        connection.execute(LAST).fetchall()  # learns of the schema as it is now: the trigger may have been removed
        written = connection.execute(_APPEND, row).fetchall()
    if written:
        return None
    ((head,),) = connection.execute("SELECT coalesce(max(number), 0) FROM commits").fetchall()
    return int(head)
