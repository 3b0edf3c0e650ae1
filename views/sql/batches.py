"""Statements of a page of events, gathered so that equal ones are executed together.

Here: what may change places with what. Not here: executing them (`executing`).

    two statements                                      keep their order
    --------------                                      ----------------
    on one table                                        always
    on different tables, each of which reads no other   no: equal ones come together
    one of which reads another table, or is text        always: everything before it is executed first
    one of which is a function                          the same
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Delete, Executable, Insert, Table, Update
from sqlalchemy.sql import visitors

from millstream.engine.read.storage import TransactionControl
from millstream.views.sql.control import control_in
from millstream.views.sql.row_steps import RowStep

__all__ = ["Batch", "Batches", "Call", "Gathered", "Rows", "Statement"]

#: What a method with ``@applies`` yields: a statement as it is, or one and the values of its parameters; what a
#: `SqlTable` makes; or a function, which is given the connection when everything before it was executed.
Statement: TypeAlias = Executable | tuple[Executable, Mapping[str, Any]] | RowStep | Callable[[Connection], object]


class Batch:
    """One statement, and the values that it is executed with: several together, or none. Whether all rows have values
    for the same names is seen where they are executed.
    """

    __slots__ = ("is_free", "parameters", "statement")

    def __init__(self, statement: Executable, parameters: list[Mapping[str, Any]], *, is_free: bool = False) -> None:
        self.statement = statement
        self.parameters = parameters
        #: Whether it is none of those that only change one table: it may do anything.
        self.is_free = is_free

    def takes(self, statement: Executable, parameters: Mapping[str, Any]) -> bool:
        """Whether it may be executed together: it is the same statement, with values."""
        return bool(self.parameters) and bool(parameters) and _is_same(self.statement, statement)


class Rows:
    """What becomes of rows of one table."""

    __slots__ = ("steps",)

    def __init__(self, step: RowStep) -> None:
        self.steps = [step]


class Call:
    """A function that is given the connection."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Connection], object]) -> None:
        self.function = function


Gathered: TypeAlias = Batch | Rows | Call


class Batches:
    """Gathers statements. One instance goes on from page to page, since it knows the statements by then."""

    def __init__(self) -> None:
        #: The table that a statement is about, if it touches no other.
        self._tables: WeakKeyDictionary[Executable, Table | None] = WeakKeyDictionary()

    def of(self, statements: Iterable[Statement]) -> list[Gathered]:
        """The same in as few batches as the order allows.

        Raises:
            TypeError: one is no statement.
            TransactionControl: one would begin or end a transaction.
        """
        found: list[Gathered] = []
        last: dict[Table, Batch | Rows] = {}
        latest: Any = None
        more: Any = None
        for each in statements:
            if isinstance(each, tuple):
                statement: Any = each[0]
                parameters: Mapping[str, Any] | None = each[1]
                if statement is latest and parameters:  # most: 0.1 µs instead of 1
                    more(parameters)
                    continue
            elif isinstance(each, RowStep):
                if each.shape is latest:
                    more(each)
                else:
                    latest, more = each.shape, self._rows_of(each, found, last).append
                continue
            else:
                statement, parameters = each, None
            latest = None
            table = self._table_of(statement)
            if table is None:
                last.clear()
                is_call = not isinstance(statement, Executable)
                found.append(Call(statement) if is_call else Batch(statement, _listed(parameters), is_free=True))
                continue
            before = last.get(table)
            if isinstance(before, Batch) and parameters and before.takes(statement, parameters):
                before.parameters.append(parameters)
                latest, more = statement, before.parameters.append
                continue
            last[table] = batch = Batch(statement, _listed(parameters))
            found.append(batch)
            if parameters:
                latest, more = statement, batch.parameters.append
        return found

    @staticmethod
    def _rows_of(step: RowStep, found: list[Gathered], last: dict[Table, Batch | Rows]) -> list[RowStep]:
        """Where the next steps of this table belong."""
        shape = step.shape
        before = last.get(shape.table)
        if isinstance(before, Rows):
            before.steps.append(step)
            return before.steps
        last[shape.table] = rows = Rows(step)
        if shape.words is not None:
            last[shape.words] = rows
        found.append(rows)
        return rows.steps

    def _table_of(self, statement: Any) -> Table | None:
        try:
            return self._tables[statement]
        except (KeyError, TypeError):
            pass
        if not isinstance(statement, Executable):
            if callable(statement) and not isinstance(statement, type):
                return None
            raise TypeError(f"an event yields statements of SQLAlchemy, not {statement!r:.80}")
        if (control := control_in(statement)) is not None:
            raise TransactionControl(
                f"an event's statements are part of its page's transaction, and {control} would begin or end one"
            )
        table = self._tables[statement] = _only_table(statement)
        return table


def _listed(parameters: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return [] if parameters is None else [parameters]


def _only_table(statement: Executable) -> Table | None:
    if not isinstance(statement, Insert | Update | Delete) or not isinstance(statement.table, Table):
        return None
    touched = {each for each in visitors.iterate(statement) if isinstance(each, Table)}
    return statement.table if touched <= {statement.table} else None


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one.compare(other)))
