"""What a log is inside a PostgreSQL database: one schema with its tables, a view, and the statements on them.

Here: everything that names a table or a column. Not here: connections (`connecting`), who may write (`leading`).
"""

from __future__ import annotations

import asyncpg
import msgspec

from millstream.engine.commits.columns import UnknownFeature, require_features
from millstream.engine.commits.commit import FORMAT
from millstream.engine.errors import LogCorrupt, LogRefused
from millstream.engine.stores.log_id import new_log_id
from millstream.engine.stores.postgres.connecting import Connection
from millstream.engine.stores.postgres.settings import Settings

__all__ = ["BODY_BYTES_MAX", "Meta", "create", "is_there", "meta_of", "schema_sql"]

#: A value, and a message to the server, have less than 1 GiB: https://www.postgresql.org/docs/current/limits.html.
BODY_BYTES_MAX = 1_000_000_000
#: Of the tables, apart from the format of the commits in them.
_LAYOUT = 1

_TABLES = """
CREATE TABLE {s}.meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {s}.commits (
    number bigint PRIMARY KEY,
    position bigint NOT NULL,
    recorded_at text NOT NULL,
    body bytea NOT NULL,
    digest bytea NOT NULL
);
CREATE TABLE {s}.leader (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    term bigint NOT NULL,
    holder text,
    address text,
    pid integer,
    started timestamptz,
    expires_at timestamptz NOT NULL
);
INSERT INTO {s}.leader (term, expires_at) VALUES (0, '-infinity');
CREATE SEQUENCE {s}.attempts;
CREATE TABLE {s}.snapshots (
    attempt bigint PRIMARY KEY,
    part text NOT NULL,
    number bigint NOT NULL,
    position bigint NOT NULL,
    recorded_at text NOT NULL,
    digest bytea NOT NULL,
    fingerprint text NOT NULL,
    pieces integer NOT NULL,
    checksum bytea NOT NULL,
    notes bytea NOT NULL
);
CREATE TABLE {s}.pieces (
    attempt bigint NOT NULL,
    place integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (attempt, place)
);
ALTER TABLE {s}.pieces ALTER COLUMN data SET STORAGE EXTERNAL;
-- lz4 where the server has it; its own compression takes more time than all else that an append does
DO $$ BEGIN
    ALTER TABLE {s}.commits ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN OTHERS THEN
    ALTER TABLE {s}.commits ALTER COLUMN body SET STORAGE EXTERNAL;
END $$;
"""

#: A body as jsonb. That holds no NUL: one becomes U+FFFD here. A body that it can't hold at all has no events to show.
_READABLE = r"""
CREATE FUNCTION {s}.readable(body bytea) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE plain text := convert_from(body, 'UTF8');
BEGIN
    IF strpos(plain, '\u0000') > 0 THEN
        plain := regexp_replace(plain, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g');
    END IF;
    RETURN plain::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN jsonb_build_object('unreadable', SQLERRM);
END $$;
"""

_EVENTS = """
CREATE VIEW {s}.events AS
SELECT
    c.position + e.place - 1 AS position,
    c.number AS number,
    c.recorded_at AS recorded_at,
    e.event ->> 'type' AS type,
    e.event ->> (b.body -> 'key' ->> (e.event ->> 'type')) AS key,
    e.event AS data,
    b.body -> 'ids' ->> p.place AS command_id,
    coalesce(b.body ->> 'type', b.body -> 'types' ->> p.place) AS command,
    b.body -> 'actors' ->> p.place AS actor,
    b.body -> 'correlations' ->> p.place AS correlation,
    coalesce(
        b.body -> 'causations' ->> p.place,
        (
            SELECT coalesce(
                'timer:' || (origin ->> 'timer'),
                'event:' || coalesce(c.position + (origin ->> 'event')::bigint, (origin ->> 'at')::bigint)
            )
            FROM jsonb_array_elements(b.body -> 'origins') AS origin
            WHERE (origin ->> 'command')::integer = p.place
            LIMIT 1
        )
    ) AS causation,
    b.body -> 'traces' ->> p.place AS trace,
    b.body -> 'extras' -> p.place AS extra
FROM {s}.commits AS c
CROSS JOIN LATERAL (SELECT {s}.readable(c.body) AS body OFFSET 0) AS b
CROSS JOIN LATERAL jsonb_array_elements(
    CASE WHEN jsonb_typeof(b.body) = 'object' THEN b.body -> 'events' END
) WITH ORDINALITY AS e (event, place)
CROSS JOIN LATERAL (
    SELECT coalesce((b.body -> 'of' ->> (e.place - 1)::integer)::integer, (e.place - 1)::integer) AS place
) AS p
UNION ALL
SELECT
    c.position + coalesce((r.command ->> 'offset')::bigint, 0) + e.place - 1,
    c.number,
    c.recorded_at,
    e.event ->> 'type',
    CASE
        WHEN r.command -> 'keys' IS NULL THEN r.command ->> 'key'
        ELSE r.command -> 'keys' ->> (e.place - 1)::integer
    END,
    e.event,
    r.command ->> 'id',
    r.command ->> 'type',
    r.command ->> 'actor',
    r.command ->> 'correlation',
    r.command ->> 'causation',
    NULL,
    NULL
FROM {s}.commits AS c
CROSS JOIN LATERAL (SELECT {s}.readable(c.body) AS body OFFSET 0) AS b
CROSS JOIN LATERAL jsonb_array_elements(CASE WHEN jsonb_typeof(b.body) = 'array' THEN b.body END) AS r (command)
CROSS JOIN LATERAL jsonb_array_elements(r.command -> 'events') WITH ORDINALITY AS e (event, place);
"""

_IS_THERE = """
SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = 'meta'
"""
_TAKEN = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 LIMIT 1
"""


class Meta(msgspec.Struct, frozen=True):
    """What a log says of itself. ``needs`` are the features that a reader must understand."""

    application: str
    log: str
    needs: tuple[str, ...] = ()


def schema_sql(settings: Settings) -> str:
    """The statements that make an empty log, for an administrator to run where the program's own role may not.

    The role that writes the log needs USAGE on the schema, all on its tables and its sequence, and nothing else.
    """
    return f"CREATE SCHEMA {settings.place};{_tables_of(settings)}"


def _tables_of(settings: Settings) -> str:
    return (_TABLES + _READABLE + _EVENTS).replace("{s}", settings.place)


async def is_there(connection: Connection, settings: Settings) -> bool:
    """Whether the schema has the tables of a log."""
    # Not by `to_regclass`: that may remember, in the transaction that waited for the one that made it, that it was not.
    return bool(await connection.fetchval(_IS_THERE, settings.schema))


async def create(connection: Connection, settings: Settings, application: str) -> None:
    """Make a log, if there is none; and make it the application's, if it is no application's yet. In one transaction.

    Raises:
        LogRefused: the schema holds something else.
        asyncpg.PostgresError: it can't be made.
    """
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"millstream {settings.schema}"
        )
        if not await is_there(connection, settings):
            taken = await connection.fetchval(_TAKEN, settings.schema)
            if taken is not None:
                problem = f"the schema {settings.schema!r} holds something else: {taken!r}"
                raise LogRefused(settings.name, problem, "name another schema")
            if not await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", settings.schema):
                await connection.execute(f"CREATE SCHEMA {settings.place}")
            await connection.execute(_tables_of(settings))
        if not await connection.fetchval(f"SELECT count(*) FROM {settings.place}.meta"):
            rows = {"application": application, "format": str(FORMAT), "layout": str(_LAYOUT), "log": new_log_id()}
            await connection.executemany(f"INSERT INTO {settings.place}.meta VALUES ($1, $2)", list(rows.items()))


async def meta_of(connection: Connection, settings: Settings) -> Meta:
    """What a log says of itself.

    Raises:
        LogRefused: there is none, it has a newer format, or needs a newer millstream.
        LogCorrupt: it names no application.
    """
    rows: list[asyncpg.Record] = []
    if await is_there(connection, settings):
        rows = await connection.fetch(f"SELECT name, value FROM {settings.place}.meta LIMIT 100")
    told = {str(row["name"]): str(row["value"]) for row in rows}
    if not told:
        raise LogRefused(settings.name, "there is no log in this schema", "let an engine open it first")
    try:
        meta = Meta(told["application"], told["log"], tuple(told.get("needs", "").split()))
        newest = {"format": FORMAT, "layout": _LAYOUT}
        found = {name: int(told[name]) for name in newest}
    except (KeyError, ValueError) as error:
        raise LogCorrupt(settings.name, 1, f"its table meta is not what millstream wrote: {error!r}") from error
    for name, most in newest.items():
        if found[name] > most:
            problem = f"it has {name} {found[name]}, this millstream reads up to {most}"
            raise LogRefused(settings.name, problem, "update millstream to open it")
    try:
        require_features(meta.needs)
    except UnknownFeature as error:
        problem = f"it needs what this millstream does not know: {error}"
        raise LogRefused(settings.name, problem, "update millstream") from error
    return meta
