"""A view's database: its tables, and beside them one row that says how far they are.

Here: transactions. Not here: which statements (`view`), in which order (`batches`), and when (the engine).

The head's row is compared and swapped within the transaction of a page, so that each commit counts once, whichever
process dies when, and however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition, Lock
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    RootTransaction,
    Table,
    Text,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from millstream.engine.commits.commit import GENESIS, Head
from millstream.engine.read.storage import StorageAway, StorageMoved, StorageUnknown, StoredAs, TransactionEnded
from millstream.views.sql.batches import Batches, Rows, Statement
from millstream.views.sql.differing import differing
from millstream.views.sql.executing import Executor
from millstream.views.sql.failures import judged
from millstream.views.sql.places import Place

__all__ = ["Look", "SqlStorage"]

#: How long closing waits for questions that were interrupted.
_ENDING_SECONDS_MAX = 5.0

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
        place: where its database is.
        generation: which one it is. None: the one that is current.
    """

    def __init__(
        self,
        view: Any,
        name: str,
        fingerprint: str,
        metadata: MetaData,
        place: Place,
        *,
        generation: int | None = None,
    ) -> None:
        self._view = view
        self._name = name
        self._fingerprint = fingerprint
        self._metadata = metadata
        self.place = place
        self._fixed = generation
        self._generation = generation
        #: What the database was when it was opened.
        self._identity: object = None
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
            self._move_to_current()
            writing, _ = self._opened()
            with writing.begin() as connection:
                self.place.prepare(connection, self._generation or 1)
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
        self._identity = self.place.identity(self._generation or 1)
        if found.fingerprint != self._fingerprint:
            raise StorageUnknown("its database was made by other code: give this code one of its own")
        return Head(found.number, found.position, found.recorded_at, bytes(found.digest)), bytes(found.notes)

    def write(self, statements: Sequence[Statement], before: Head, after: Head, notes: bytes) -> None:
        writing, _ = self._opened()
        self._require_there()
        with _judging(), writing.begin() as connection:
            self._swap(connection, before, after, notes)  # first: what another process has done fails otherwise
            self._execute(connection, statements)

    def begin(self, before: Head) -> None:
        self._require_there()
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

    def beside(self) -> SqlStorage:
        with _judging():
            generations = [each for each in self.place.names().values() if each is not None]
            made = max([self._generation or self.place.current(), *generations]) + 1
        return SqlStorage(self._view, self._name, self._fingerprint, self._metadata, self.place, generation=made)

    def differing(self, other: Any, most: int) -> tuple[int, list[tuple[Any, Any, Any]]]:
        with _judging():
            return differing(self._view, self._metadata, (self._opened()[1], other._opened()[1]), most)

    def take_place(self, before: Any, head: Head, notes: bytes) -> None:
        was = before._generation or self.place.current()
        with _judging(), self._opened()[0].begin() as connection:
            connection.execute(
                update(_HEADS)
                .where(_HEADS.c.view == self._name)
                .values(_row(self._name, self._fingerprint, head, notes))
            )
            self.place.make_current(connection, self._generation or 1, was)
        self._fixed, before._fixed = None, was

    def databases(self) -> list[StoredAs]:
        with _judging():
            current = self.place.current()
            return [
                StoredAs(self._name, name, generation == current, generation is not None, self._position_of(name))
                for name, generation in self.place.names().items()
            ]

    def _position_of(self, name: str) -> int | None:
        found = self.place.head_of(name, "SELECT position FROM millstream_view")
        return None if found is None else int(found[0])

    def drop(self, name: str | None = None) -> None:
        with _judging():
            name, names = name or self.place.name(self._generation or 1), self.place.names()
            if name not in names:
                raise LookupError(f"view {self._name} has no database {name!r}: it has {', '.join(names) or 'none'}")
            if names[name] == self.place.current():
                raise ValueError(f"{name} is current: make the view anew, or change its code, before it is dropped")
            self.place.drop(name)

    def close(self, seconds: float = 0.0) -> None:
        with self._ended:  # a question that nothing waits for any more has a connection still
            self._ended.wait_for(lambda: not self._asked, seconds)
            for question in self._asked:
                question.interrupt()
            self._ended.wait_for(lambda: not self._asked, _ENDING_SECONDS_MAX)
        engines, self._engines = self._engines, None
        for each in engines or ():
            each.dispose()
        if self._fixed is None:
            self.place.close()

    # Inside.

    def _move_to_current(self) -> None:
        """Close a database in whose place another one is current by now."""
        if self._fixed is None and self._engines is not None and self.place.current() != self._generation:
            engines, self._engines, self._generation = self._engines, None, None
            for each in engines:
                each.dispose()

    @contextmanager
    def looking(self) -> Iterator[tuple[Connection, int]]:
        """A transaction that only reads, and the position of the head in it."""
        self._require_there()
        with _judging():
            connection = self._opened()[1].connect()
        with connection, connection.begin():
            with _judging():
                found = self._head(connection)
            if found is None:
                raise StorageAway("another database takes its place just now")
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
        """Engines of the generation that is in use; without one, of the current one."""
        if self._engines is None:
            if self._generation is None:
                self._generation = self.place.current()
            self._engines = self.place.engines(self._generation)
        return self._engines

    def _require_there(self) -> None:
        """See that what is open is what others would open: a file that was removed lives on until it is closed.

        Raises:
            StorageUnknown: it is not.
        """
        if self._identity is not None and self.place.identity(self._generation or 1) != self._identity:
            raise StorageUnknown(
                f"its database {self.place.name(self._generation or 1)} was removed or replaced while it was in use: "
                "open the engine again, and it is made anew"
            )


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
