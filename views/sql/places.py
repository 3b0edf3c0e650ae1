"""Where a view's database is: a file of SQLite, or a schema of PostgreSQL; and others of that view beside it.

Here: names, engines, and which generation is current. Not here: any table of a view (`storage`).

The code of a view has one place, named by its fingerprint. There its database is a generation: the first one, until the
view is made anew beside it. Which one is current is one row, in a database of its own; without it the first one is.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.pool import QueuePool

from millstream.engine.read.storage import StorageUnknown
from millstream.engine.stores.sqlite.permissions import OWNER_ONLY, make_like

__all__ = ["FilePlace", "Place", "SchemaPlace"]

#: How long a statement waits for another program's lock, in SQLite.
_BUSY_SECONDS = 1.0
#: PostgreSQL has names of so many bytes at most.
_NAME_CHARS_MAX = 63
#: Of the fingerprint, in the name of a schema; and of a generation, with what stands before it.
_DIGEST_CHARS, _GENERATION_CHARS = 16, 6
#: The schema of PostgreSQL that says which generations are current.
_CURRENT = "millstream_views"


class Place(Protocol):
    """Where the generations of one view's database are, for code of one fingerprint."""

    def engines(self, generation: int) -> tuple[Engine, Engine]:
        """What writes to one, and what reads it."""
        ...

    def prepare(self, connection: Connection, generation: int) -> None:
        """Make what a table needs to be in."""
        ...

    def current(self) -> int:
        """Which one is current."""
        ...

    def make_current(self, connection: Connection, generation: int, before: int) -> None:
        """Say that another one is, and have the one before it tell so to those that use it still.

        Args:
            connection: to that generation, in a transaction.
            generation: the one that is current from now on.
            before: the one that was.
        """
        ...

    def names(self) -> dict[str, int | None]:
        """All databases of the view, by name: which generation it is, or None if it was made by other code."""
        ...

    def name(self, generation: int) -> str:
        """What a generation is called."""
        ...

    def head_of(self, name: str, query: str) -> tuple[Any, ...] | None:
        """The row of one's heads; None if it has none."""
        ...

    def drop(self, name: str) -> None:
        """Remove one, which nothing uses."""
        ...

    def identity(self, generation: int) -> object:
        """What is another value when a database was removed or replaced; None where that can't be looked at."""
        ...

    def close(self) -> None:
        """Remove what goes with its user."""
        ...


class FilePlace:
    """Files of SQLite.

    Args:
        url: the first one's; None: one in a folder that goes with this.
        like: the log, whose permissions they get.
        pattern: what the files of other code are called, beside it.
    """

    def __init__(self, url: URL | None, like: Path | None = None, pattern: str | None = None) -> None:
        self._folder = Path(mkdtemp(prefix="millstream-view-")) if url is None else None
        self._url = url or URL.create("sqlite", database=str(self._folder / "view" if self._folder else ""))
        self._like = like
        self._pattern = pattern

    def path(self, generation: int) -> Path:
        first = str(self._url.database)
        return Path(first if generation == 1 else f"{first}-{generation}")

    def engines(self, generation: int) -> tuple[Engine, Engine]:
        if not self._url.database or self._url.database == ":memory:":
            raise StorageUnknown("a database of SQLite is a file: questions have connections of their own")
        path = self.path(generation)
        if self._folder is not None or self._like is not None:
            make_like(str(path), self._like or path, OWNER_ONLY)
        url = self._url.set(database=str(path))
        return _sqlite(url, "BEGIN IMMEDIATE", only_reads=False), _sqlite(url, "BEGIN", only_reads=True)

    def prepare(self, connection: Connection, generation: int) -> None:
        pass

    @property
    def _says(self) -> Path:
        return Path(f"{self._url.database}-current")

    def current(self) -> int:
        if not self._says.exists():
            return 1
        with closing(sqlite3.connect(self._says, timeout=_BUSY_SECONDS)) as says:
            found = says.execute("SELECT generation FROM millstream_current").fetchone()
        return 1 if found is None else int(found[0])

    def make_current(self, connection: Connection, generation: int, before: int) -> None:
        make_like(str(self._says), self._like or self.path(before), OWNER_ONLY)
        with closing(sqlite3.connect(self._says, timeout=_BUSY_SECONDS, isolation_level=None)) as says:
            for statement in (
                "BEGIN IMMEDIATE",
                "CREATE TABLE IF NOT EXISTS millstream_current (one INTEGER PRIMARY KEY, generation INTEGER NOT NULL)",
                f"INSERT OR REPLACE INTO millstream_current VALUES (1, {generation})",
                "COMMIT",
            ):
                says.execute(statement)
        if self.path(before).exists():
            with closing(sqlite3.connect(self.path(before), timeout=_BUSY_SECONDS)) as old, old:
                old.execute("DELETE FROM millstream_view")

    def name(self, generation: int) -> str:
        return self.path(generation).name

    def names(self) -> dict[str, int | None]:
        first = Path(str(self._url.database))
        found: dict[str, int | None] = {}
        for path in sorted(first.parent.glob(f"{self._pattern or first.name}*")):
            base, _, generation = path.name.partition(first.name)
            if not base and (not generation or re.fullmatch(r"-\d+", generation)):
                found[path.name] = int(generation[1:] or 1)
            elif self._pattern is not None and re.fullmatch(r".*-[0-9a-f]{8}(-\d+)?", path.name):
                found[path.name] = None
        return found

    def head_of(self, name: str, query: str) -> tuple[Any, ...] | None:
        path = Path(str(self._url.database)).with_name(name)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as database:
            try:
                found: tuple[Any, ...] | None = database.execute(query).fetchone()
            except sqlite3.OperationalError:  # it was made just now, and has no tables yet
                return None
        return found

    def drop(self, name: str) -> None:
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(str(self._url.database)).with_name(name + ending).unlink(missing_ok=True)

    def identity(self, generation: int) -> object:
        try:
            found = self.path(generation).stat()
        except FileNotFoundError:
            return "gone"
        return found.st_dev, found.st_ino

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class SchemaPlace:
    """Schemas of a database of PostgreSQL.

    Args:
        url: the database.
        view: the view's name.
        fingerprint: of its code.
    """

    def __init__(self, url: URL, view: str, fingerprint: str) -> None:
        self._url = url
        most = _NAME_CHARS_MAX - _DIGEST_CHARS - 1 - _GENERATION_CHARS
        self._view = view.lower().encode()[:most].decode(errors="ignore")
        self._first = f"{self._view}_{fingerprint[:_DIGEST_CHARS]}"
        self._lock = int(fingerprint[:15], 16)

    def engines(self, generation: int) -> tuple[Engine, Engine]:
        schema = self.name(generation)
        mapped = {"schema_translate_map": {None: schema}}
        writing = create_engine(self._url, pool_size=1, max_overflow=1, pool_pre_ping=True, execution_options=mapped)
        reading = create_engine(self._url, pool_size=1, max_overflow=-1, pool_pre_ping=True, execution_options=mapped)

        def search(connection: Any, record: object) -> None:
            with connection.cursor() as cursor:
                cursor.execute(f'SET search_path TO "{schema}"')
            connection.commit()

        for each in (writing, reading):
            event.listen(each, "connect", search)
        only_reads = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        return writing, reading.execution_options(**only_reads)

    def prepare(self, connection: Connection, generation: int) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(self._lock)))  # two at once would meet in its catalogue
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.name(generation)}"'))

    def current(self) -> int:
        with self._connected() as connection:
            if connection.scalar(text(f"SELECT to_regclass('{_CURRENT}.current')")) is None:
                return 1
            said = text(f"SELECT generation FROM {_CURRENT}.current WHERE view = :view")
            return int(connection.scalar(said, {"view": self._first}) or 1)

    def make_current(self, connection: Connection, generation: int, before: int) -> None:
        said = f"INSERT INTO {_CURRENT}.current VALUES ('{self._first}', {generation})"
        for statement in (
            f"SELECT pg_advisory_xact_lock({self._lock})",
            f"CREATE SCHEMA IF NOT EXISTS {_CURRENT}",
            f"CREATE TABLE IF NOT EXISTS {_CURRENT}.current (view text PRIMARY KEY, generation integer NOT NULL)",
            f"{said} ON CONFLICT (view) DO UPDATE SET generation = excluded.generation",
        ):
            connection.execute(text(statement))
        if connection.scalar(text(f"""SELECT to_regclass('"{self.name(before)}".millstream_view')""")) is not None:
            connection.execute(text(f'DELETE FROM "{self.name(before)}".millstream_view'))

    def name(self, generation: int) -> str:
        return self._first if generation == 1 else f"{self._first}_{generation}"

    def names(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        with self._connected() as connection:
            named = connection.scalars(text("SELECT nspname FROM pg_namespace ORDER BY nspname"))
            for name in named:
                shape = re.fullmatch(rf"({re.escape(self._view)}_[0-9a-f]{{{_DIGEST_CHARS}}})(?:_(\d+))?", name)
                if shape is not None:
                    found[name] = int(shape[2] or 1) if shape[1] == self._first else None
        return found

    def head_of(self, name: str, query: str) -> tuple[Any, ...] | None:
        with self._connected() as connection:
            if connection.scalar(text(f"""SELECT to_regclass('"{name}".millstream_view')""")) is None:
                return None
            connection.execute(text(f'SET LOCAL search_path TO "{name}"'))
            found = connection.execute(text(query)).first()
        return None if found is None else tuple(found)

    def drop(self, name: str) -> None:
        with self._connected() as connection:
            connection.execute(text(f'DROP SCHEMA IF EXISTS "{name}" CASCADE'))

    def identity(self, generation: int) -> object:
        return None

    def close(self) -> None:
        pass

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        engine = create_engine(self._url, pool_size=1)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()


def _sqlite(url: URL, begin: str, *, only_reads: bool) -> Engine:
    """An engine whose transactions begin where they are said to begin, which sqlite3 by itself does not do:
    https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable.
    """
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=-1 if only_reads else 1,
        connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS},
    )

    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"query_only={int(only_reads)}"):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine
