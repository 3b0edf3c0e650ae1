"""What two databases of one view have otherwise, row by row.

Here: comparing them. Not here: which two these are (`storage`).

Some hundred rows of one are looked up in the other by their keys, and the other way round. A table without a key is
held in memory, twice. NaN is the same as NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, Table, select, tuple_

__all__ = ["differing"]

_ROWS_AT_ONCE = 500


def differing(
    view: Any, metadata: MetaData, engines: tuple[Engine, Engine], most: int
) -> tuple[int, list[tuple[Any, Any, Any]]]:
    """How many rows differ, and the first of them: their key, and what is in the first one and in the second.

    Args:
        view: an instance of the view. Rows of its ``table`` come as its rows, others as dicts, under a key that
            begins with the table's name.
        metadata: the tables.
        engines: of both.
        most: how many are named.
    """
    count, told = 0, list[tuple[Any, Any, Any]]()
    shape = getattr(view, "__shape__", None)
    with engines[0].connect() as one, engines[1].connect() as other:
        for table in metadata.sorted_tables:
            if shape is not None and table is shape.words:
                continue  # they follow from the rows
            for key, here, there in _of_table(table, one, other):
                count += 1
                if len(told) < most:
                    if shape is not None and table is shape.table:
                        rows = [None if row is None else shape.rows([row])[0] for row in (here, there)]
                        told.append((key[0], rows[0], rows[1]))
                    else:
                        plain = [None if row is None else row._asdict() for row in (here, there)]
                        told.append(((table.name, *key), plain[0], plain[1]))
    return count, told


def _of_table(table: Table, one: Connection, other: Connection) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    keys = tuple(table.primary_key.columns)
    if not keys:
        yield from _of_whole(table, one, other)
        return
    for rows in _parts(table, one):
        theirs = _with_keys(table, keys, other, rows)
        for key, row in _by_key(keys, rows).items():
            there = theirs.get(key)
            if there is None or not _is_same(tuple(row), tuple(there)):
                yield key, row, there
    for rows in _parts(table, other):
        ours = _with_keys(table, keys, one, rows)
        for key, row in _by_key(keys, rows).items():
            if key not in ours:
                yield key, None, row


def _of_whole(table: Table, one: Connection, other: Connection) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    ours, theirs = (Counter(row for rows in _parts(table, each) for row in rows) for each in (one, other))
    for row, count in (ours - theirs).items():
        yield from ((tuple(row), row, None) for _ in range(count))
    for row, count in (theirs - ours).items():
        yield from ((tuple(row), None, row) for _ in range(count))


def _parts(table: Table, connection: Connection) -> Iterator[Sequence[Any]]:
    return connection.execute(select(table), execution_options={"yield_per": _ROWS_AT_ONCE}).partitions()


def _with_keys(
    table: Table, keys: tuple[Column[Any], ...], connection: Connection, rows: Sequence[Any]
) -> dict[tuple[Any, ...], Any]:
    wanted = _by_key(keys, rows)
    of = keys[0].in_([key[0] for key in wanted]) if len(keys) == 1 else tuple_(*keys).in_(list(wanted))
    return _by_key(keys, connection.execute(select(table).where(of)).all())


def _by_key(keys: tuple[Column[Any], ...], rows: Sequence[Any]) -> dict[tuple[Any, ...], Any]:
    return {tuple(getattr(row, each.name) for each in keys): row for row in rows}


def _is_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return one == other or all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True))
