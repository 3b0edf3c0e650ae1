"""What an event does to a table of rows: a step for each row, and all of a page together.

Here: steps, and executing many of one table. Not here: how they are made (`table`), and when they are executed
(`batches`).

The rows that are to be changed are read with one statement, changed in order, in memory, and each that has become
another one is written once: what a page does to one row ten times is one write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import CellType, FunctionType
from typing import Any

from sqlalchemy import Connection, Executable

from millstream.views.sql.shape import Shape
from millstream.views.table.text import words_of

__all__ = ["WORD_CHARS", "RowStep", "Values", "change", "execute_steps"]

#: Of a longer word so many characters are kept: an index of PostgreSQL takes 2,704 bytes.
WORD_CHARS = 200

#: Keys that are asked for at once. SQLite takes 32,766 values.
_KEYS_AT_ONCE = 500

#: Executes a statement with each of several values.
Values = Callable[[Executable, Sequence[dict[str, Any]]], None]


class RowStep:
    """What becomes of one row. It is made by a table's `put`, `change` and `remove`, and yielded.

    It is no tuple and nothing that one looks into: what an event yields is executed with its page.
    """

    __slots__ = ("how", "key", "row", "shape")

    def __init__(self, shape: Shape, key: Any, row: Any, how: Callable[[Any], Any] | None = None) -> None:
        self.shape = shape
        self.key = key
        #: Without ``how`` the row that is kept, or None where it goes; else what it begins with, if there is none.
        self.row = row
        self.how = how

    def __repr__(self) -> str:
        what = "change" if self.how is not None else "remove" if self.row is None else "put"
        return f"<{what} {self.key!r} of {self.shape.plan.view}>"


def change(shape: Shape, key: Any, how: Callable[[Any], Any], new: Any) -> RowStep:
    """A step that makes another row of the one that is there.

    ``how`` is called later, when the generator has gone on: so it is taken as it is now, with the values that its
    variables have, and those of the functions among them.
    """
    return RowStep(shape, key, new, _as_now(how, {}))


def _as_now(function: Any, taken: dict[int, FunctionType]) -> Any:
    """A function with variables of its own, which have the values of now; other things as they are.

    Args:
        function: which one.
        taken: those that were taken already, as functions may know each other.
    """
    closure = getattr(function, "__closure__", None)
    if not closure or not isinstance(function, FunctionType):
        return function
    if (known := taken.get(id(function))) is not None:
        return known
    cells = tuple(CellType() for _ in closure)
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    taken[id(function)] = made
    for cell, before in zip(cells, closure, strict=True):
        with suppress(ValueError):  # a variable without a value yet
            cell.cell_contents = _as_now(before.cell_contents, taken)
    return made


def execute_steps(connection: Connection, steps: Sequence[RowStep], write: Values) -> None:
    """Execute the steps of one table, in order.

    Raises:
        LookupError: a row that is to be changed is not there.
        TypeError, ValueError: what is to be kept in its place is no row of the table, or has another key.
        Exception: what the database, or changing a row, raised.
    """
    shape = steps[0].shape
    there = _read(connection, shape, steps)
    now: dict[Any, Any] = {}
    for step in steps:
        key = step.key
        now[key] = step.row if step.how is None else _changed(step, now[key] if key in now else there.get(key))
    kept = {key: row for key, row in now.items() if row is not None}
    gone = [{"of": key} for key, row in now.items() if row is None]
    if gone:
        write(shape.gone, gone)
    if kept:
        write(shape.upsert(connection.dialect.name), [shape.values(row) for row in kept.values()])
    if shape.words is not None:
        write(shape.words_gone, [{"of": key} for key in now])
        if words := [{"word": word, "key": key} for key, row in kept.items() for word in _words(shape, row)]:
            write(shape.words_come, words)


def _read(connection: Connection, shape: Shape, steps: Sequence[RowStep]) -> dict[Any, Any]:
    """The rows that are changed before anything else becomes of them."""
    known: set[Any] = set()
    wanted: list[Any] = []
    for step in steps:
        if step.key not in known:
            known.add(step.key)
            if step.how is not None:
                wanted.append(step.key)
    found: dict[Any, Any] = {}
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        rows = connection.execute(shape.some, {"keys": wanted[start : start + _KEYS_AT_ONCE]})
        found |= {shape.key_of(row): row for row in shape.rows(rows)}
    return found


def _changed(step: RowStep, row: Any) -> Any:
    assert step.how is not None
    plan = step.shape.plan
    if row is None and (row := step.row) is None:
        raise LookupError(f"{plan.view} has no row with {plan.key} {step.key!r}")
    row = step.how(row)
    if step.shape.require_row(row) != step.key:
        raise ValueError(f"a change keeps the key, and that of the row {step.key!r} would be another: remove, and put")
    return row


def _words(shape: Shape, row: Any) -> Iterator[str]:
    texts = (getattr(row, field) for field in shape.plan.text)
    yield from {word[:WORD_CHARS] for text in texts if text is not None for word in words_of(text)}
