"""Executing a batch: through SQLAlchemy, or, where that only carries values, past it.

SQLAlchemy takes 3 µs for the values of one row of many, SQLite 2 µs for the row itself. So for a driver that takes
values by place the statement is compiled once, and its rows are handed over as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from millstream.engine.read.storage import TransactionControl
from millstream.views.sql.batches import Batch, Gathered, Rows
from millstream.views.sql.row_steps import execute_steps

__all__ = ["Executor"]

#: What a function that is given a connection may not do with it.
_ENDING = ("commit", "rollback", "close", "invalidate")
#: Fewer rows are not worth compiling a statement for.
_ROWS_MIN = 8


class _Compiled(NamedTuple):
    """A statement as the driver takes it."""

    sql: str
    #: How many values every row must have.
    size: int
    row_of: Callable[[Mapping[str, Any]], tuple[Any, ...]]

    def values_of(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]] | None:
        """The rows by place; None if one has other names than the first."""
        if set(map(len, rows)) != {self.size}:
            return None
        try:
            return list(map(self.row_of, rows))
        except KeyError:
            return None


class Executor:
    """Executes batches on connections of one dialect, and remembers what it has compiled."""

    def __init__(self) -> None:
        self._compiled: WeakKeyDictionary[Executable, _Compiled | None] = WeakKeyDictionary()

    def execute(self, connection: Connection, batch: Gathered) -> None:
        """Execute a statement with each of its values, in order; or what else was gathered.

        Raises:
            TransactionControl: the application's function would end the transaction.
            Exception: what the database, or that function, raised.
        """
        if isinstance(batch, Batch):
            self._execute(connection, batch.statement, batch.parameters)
        elif isinstance(batch, Rows):
            execute_steps(connection, batch.steps, partial(self._execute, connection))
        else:
            own = vars(connection)
            own.update(dict.fromkeys(_ENDING, _refused))
            try:
                batch.function(connection)
            finally:
                for name in _ENDING:
                    own.pop(name)

    def _execute(self, connection: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
        if len(rows) >= _ROWS_MIN:
            if statement not in self._compiled:
                self._compiled[statement] = _compiled(connection, statement, rows[0])
            quick = self._compiled[statement]
            if quick is not None and (values := quick.values_of(rows)) is not None:
                _execute_many(connection, quick.sql, values)
                return
        for alike in _alike(rows) if rows else [None]:
            connection.execute(statement, alike)


def _alike(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The rows, in order, parted where the names of the values change: SQLAlchemy takes those of the first row for all,
    and drops the others.
    """
    for _, alike in groupby(rows, Mapping.keys):
        yield list(alike)


def _execute_many(connection: Connection, sql: str, values: list[tuple[Any, ...]]) -> None:
    """By the driver's own cursor, which spares SQLAlchemy a look at each row: 3 % of a catch-up."""
    driver = connection.connection
    cursor = driver.cursor()
    try:
        cursor.executemany(sql, values)
    except Exception as error:
        error_class = connection.dialect.loaded_dbapi.Error
        if not isinstance(error, error_class):
            raise
        raise DBAPIError.instance(sql, values[0], error, error_class) from error
    finally:
        cursor.close()


def _refused(*_: object) -> None:
    raise TransactionControl("what an event does is part of its page's transaction, and may not end it")


def _compiled(connection: Connection, statement: Any, row: Mapping[str, Any]) -> _Compiled | None:
    """The statement for rows like this one; None where SQLAlchemy does more than to carry their values."""
    compiled = statement.compile(connection, column_keys=sorted(row))
    if not isinstance(compiled, SQLCompiler) or compiled.positiontup is None:
        return None
    if compiled.insert_prefetch or compiled.update_prefetch or compiled.literal_execute_params:
        return None
    if compiled.post_compile_params or not set(row) <= set(compiled.positiontup):
        return None
    places = [(name, compiled.binds[name]) for name in compiled.positiontup]
    if any(bind.callable is not None or (bind.required and name not in row) for name, bind in places):
        return None
    processors = [bind.type.dialect_impl(connection.dialect).bind_processor(connection.dialect) for _, bind in places]
    return _Compiled(str(compiled), len(row), _rows_by(places, processors, row))


def _rows_by(
    places: Sequence[tuple[str, Any]], processors: Sequence[Callable[[Any], Any] | None], row: Mapping[str, Any]
) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    names = [name for name, _ in places]
    if all(name in row for name in names) and not any(processors) and len(names) > 1:
        return itemgetter(*names)
    fixed = {name: bind.value for name, bind in places if name not in row}

    def row_of(values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(
            (fixed[name] if name in fixed else values[name])
            if process is None
            else process(fixed[name] if name in fixed else values[name])
            for name, process in zip(names, processors, strict=True)
        )

    return row_of
