"""A view's database: its tables, and beside them one row that says how far they are.

Here: transactions. Not here: which statements (`view`), in which order (`batches`), and when (the engine).

The head's row is compared and swapped within the transaction of a page, so that each commit counts once, whichever
process dies when, and however many there are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from threading import Condition, Lock
from typing import Any, NamedTuple

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    RootTransaction,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import QueuePool

from millstream.engine.commits.commit import GENESIS, Head
from millstream.engine.read.storage import StorageMoved, StorageUnknown, TransactionEnded
from millstream.engine.stores.sqlite.permissions import OWNER_ONLY, make_like
from millstream.views.sql.batches import Batches, Rows, Statement
from millstream.views.sql.executing import Executor
from millstream.views.sql.failures import judged

__all__ = ["Look", "SqlStorage"]

#: How long a statement waits for another program's lock, in SQLite.
_BUSY_SECONDS = 1.0
#: How long closing waits for questions that were interrupted.
_ENDING_SECONDS_MAX = 5.0
#: PostgreSQL has names of so many bytes at most.
_NAME_CHARS_MAX = 63

_own = MetaData()
#: How far a view is: the last commit that is in its tables, and what it has left out.
_HEADS = Table(
    "millstream_view",
    _own,
    Column("view", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("recorded_at", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("notes", LargeBinary, nullable=False),
)


class Look(NamedTuple):
    """What an answering method is called with: the view, and a transaction that only reads."""

    view: Any
    connection: Connection


class SqlStorage:
    """The `ViewStorage` port on a database that SQLAlchemy knows.

    Args:
        view: an instance of the view.
        name: the view's.
        fingerprint: of its tables and code. A database that was made for another one is not used.
        metadata: its tables.
        url: the database. None: a file of SQLite.
        file: that file. None: one that goes when this is closed.
        like: the log, whose permissions the file gets.
    """

    def __init__(
        self,
        view: Any,
        name: str,
        fingerprint: str,
        metadata: MetaData,
        *,
        url: URL | None = None,
        file: Path | None = None,
        like: Path | None = None,
    ) -> None:
        self._view = view
        self._name = name
        self._fingerprint = fingerprint
        self._metadata = metadata
        self._url = url
        self._file = file
        self._like = like
        self._folder: Path | None = None
        self._engines: tuple[Engine, Engine] | None = None
        self._batches = Batches()
        self._executor = Executor()
        self._trying: tuple[Connection, RootTransaction] | None = None
        #: Questions that are under way, and what tells that one has ended.
        self._asked: set[_Question] = set()
        self._ended = Condition()

    # As the port says.

    def open(self) -> tuple[Head, bytes]:
        with _judging():
            writing, _ = self._opened()
            with writing.begin() as connection:
                self._make_schema(connection)
                _own.create_all(connection)
                self._metadata.create_all(connection)
                found = self._head(connection)
                if found is None:
                    nothing = _row(self._name, self._fingerprint, Head(0, 0, "", GENESIS), b"")
                    try:
                        with connection.begin_nested():
                            connection.execute(insert(_HEADS), nothing)
                    except IntegrityError:  # another process was quicker
                        pass
                    found = self._head(connection)
        if found is None:
            raise StorageUnknown("its head has gone")
        if found.fingerprint != self._fingerprint:
            raise StorageUnknown("its database was made by other code: give this code one of its own")
        return Head(found.number, found.position, found.recorded_at, bytes(found.digest)), bytes(found.notes)

    def write(self, statements: Sequence[Statement], before: Head, after: Head, notes: bytes) -> None:
        writing, _ = self._opened()
        with _judging(), writing.begin() as connection:
            self._swap(connection, before, after, notes)  # first: what another process has done fails otherwise
            self._execute(connection, statements)

    def begin(self, before: Head) -> None:
        with _judging():
            connection = self._opened()[0].connect()
            try:
                self._trying = connection, connection.begin()
                found = self._head(connection, locked=True)
                if found is None or (found.number, bytes(found.digest)) != (before.number, before.digest):
                    raise StorageMoved(f"it is not at commit {before.number:,} any more")
            except BaseException:
                self._trying = None
                connection.close()
                raise

    def try_these(self, statements: Sequence[Statement]) -> None:
        assert self._trying is not None, "begin was called"
        connection, _ = self._trying
        self._require_within(connection)
        try:
            with _judging(), connection.begin_nested():
                self._execute(connection, statements)
        except TransactionEnded:
            raise
        except Exception as error:
            self._require_within(connection, error)
            raise

    def commit(self, before: Head, after: Head, notes: bytes) -> None:
        assert self._trying is not None, "begin was called"
        connection, transaction = self._trying
        self._require_within(connection)
        with _judging():
            self._swap(connection, before, after, notes)
            transaction.commit()

    def rollback(self) -> None:
        trying, self._trying = self._trying, None
        if trying is not None:
            connection, transaction = trying
            try:
                if transaction.is_active:
                    transaction.rollback()
            except Exception:  # noqa: BLE001 - the connection is gone, and the transaction with it
                connection.invalidate()
            finally:
                connection.close()

    def question(self, answer: Callable[[Any, Any], Any], query: Any) -> _Question:
        return _Question(self, answer, query)

    def close(self) -> None:
        with self._ended:  # a question that nothing waits for any more has a connection still
            for question in self._asked:
                question.interrupt()
            self._ended.wait_for(lambda: not self._asked, _ENDING_SECONDS_MAX)
        engines, self._engines = self._engines, None
        for each in engines or ():
            each.dispose()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # Inside.

    @contextmanager
    def looking(self) -> Iterator[tuple[Connection, int]]:
        """A transaction that only reads, and the position of the head in it."""
        with _judging():
            connection = self._opened()[1].connect()
        with connection, connection.begin():
            with _judging():
                found = self._head(connection)
            if found is None:
                raise StorageUnknown("its head has gone")
            yield connection, found.position

    @contextmanager
    def asking(self, question: _Question) -> Iterator[None]:
        """A block in which a question is under way."""
        with self._ended:
            self._asked.add(question)
        try:
            yield
        finally:
            with self._ended:
                self._asked.discard(question)
                self._ended.notify_all()

    def look(self, connection: Connection) -> Look:
        """What an answering method is called with."""
        return Look(self._view.__asked__(connection), connection)

    def _execute(self, connection: Connection, statements: Sequence[Statement]) -> None:
        for batch in self._batches.of(statements):
            self._executor.execute(connection, batch)
            if not isinstance(batch, Rows) and getattr(batch, "is_free", True):
                self._require_within(connection)

    @staticmethod
    def _require_within(connection: Connection, error: Exception | None = None) -> None:
        """See that the transaction goes on: what is executed after its end would be a transaction of its own.

        Raises:
            TransactionEnded: it does not.
        """
        if not _is_within(connection):
            raise TransactionEnded(
                f"a statement has ended the transaction of its page: {error or 'a COMMIT'}"
            ) from error

    def _head(self, connection: Connection, *, locked: bool = False) -> Any:
        wanted = select(_HEADS).where(_HEADS.c.view == self._name)
        return connection.execute(wanted.with_for_update() if locked else wanted).one_or_none()

    def _swap(self, connection: Connection, before: Head, after: Head, notes: bytes) -> None:
        is_there = (_HEADS.c.view == self._name, _HEADS.c.number == before.number, _HEADS.c.digest == before.digest)
        swapped = update(_HEADS).where(*is_there).values(_row(self._name, self._fingerprint, after, notes))
        if connection.execute(swapped).rowcount != 1:
            raise StorageMoved(f"it is not at commit {before.number:,} any more")

    def _opened(self) -> tuple[Engine, Engine]:
        if self._engines is None:
            is_sqlite = self._url is None or self._url.get_backend_name() == "sqlite"
            self._engines = self._made() if is_sqlite else self._elsewhere()
        return self._engines

    def _made(self) -> tuple[Engine, Engine]:
        if self._url is not None:
            url = self._url
            if not url.database or url.database == ":memory:":
                raise StorageUnknown("a database of SQLite is a file: questions have connections of their own")
        else:
            if self._file is None:
                self._folder = Path(mkdtemp(prefix="millstream-view-"))
            path = self._file or Path(self._folder or ".") / "view"
            make_like(str(path), self._like or path, OWNER_ONLY)
            url = URL.create("sqlite", database=str(path))
        writing = _sqlite(url, "BEGIN IMMEDIATE", only_reads=False)
        return writing, _sqlite(url, "BEGIN", only_reads=True)

    def _elsewhere(self) -> tuple[Engine, Engine]:
        assert self._url is not None
        mapped = {"schema_translate_map": {None: self._schema}}
        writing = create_engine(self._url, pool_size=1, max_overflow=1, pool_pre_ping=True, execution_options=mapped)
        reading = create_engine(self._url, pool_size=1, max_overflow=-1, pool_pre_ping=True, execution_options=mapped)
        for each in (writing, reading):
            event.listen(each, "connect", self._search)
        return writing, reading.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def _schema(self) -> str:
        return f"{self._name.lower()[: _NAME_CHARS_MAX - 17]}_{self._fingerprint[:16]}"

    def _search(self, connection: Any, record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'SET search_path TO "{self._schema}"')
        connection.commit()

    def _make_schema(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":  # two that make it at once would meet in its catalogue
            connection.execute(select(func.pg_advisory_xact_lock(int(self._fingerprint[:15], 16))))
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"'))


class _Question:
    """One question in a transaction of its own."""

    def __init__(self, storage: SqlStorage, answer: Callable[[Any, Any], Any], query: Any) -> None:
        self._storage = storage
        self._answer = answer
        self._query = query
        self._lock = Lock()
        self._asked: Any = None

    def run(self) -> tuple[Any, int]:
        with self._storage.asking(self), self._storage.looking() as (connection, position):
            with self._lock:
                self._asked = connection.connection.driver_connection
            try:
                with _judging():
                    return self._answer(self._storage.look(connection), self._query), position
            finally:
                with self._lock:
                    self._asked = None  # from now on the connection is another question's

    def interrupt(self) -> None:
        with self._lock:
            if self._asked is not None:
                end = getattr(self._asked, "interrupt", None) or getattr(self._asked, "cancel_safe", None)
                if end is not None:
                    end()


@contextmanager
def _judging() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        found = judged(error)
        if found is error:
            raise
        raise found from error


def _is_within(connection: Connection) -> bool:
    """Whether the driver's connection is in a transaction still, as far as it says so."""
    if connection.closed or connection.invalidated:
        return True  # that is an error of its own
    driver: Any = connection.connection.driver_connection
    if (info := getattr(driver, "info", None)) is not None and hasattr(info, "transaction_status"):
        return bool(info.transaction_status)  # psycopg: 0 is idle
    return bool(getattr(driver, "in_transaction", True))


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


def _row(view: str, fingerprint: str, head: Head, notes: bytes) -> dict[str, Any]:
    return {
        "view": view,
        "fingerprint": fingerprint,
        "number": head.number,
        "position": head.position,
        "recorded_at": head.recorded_at,
        "digest": head.digest,
        "notes": notes,
    }
