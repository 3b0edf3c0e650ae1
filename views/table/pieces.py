"""The rows of a table as pieces of a snapshot, and back.

Here: rows, batch after batch, by the way in which any state becomes pieces (`millstream.engine.snapshots.pieces`), with
its checks. Not here: indexes, which are made anew from the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from millstream.engine.errors import SnapshotMismatch
from millstream.engine.snapshots.pieces import add_piece, pieces_of

__all__ = ["pieces_of_rows", "rows_of_piece"]

#: Rows that become some pieces of 64 KiB together: a list of a million would hold the loop for as long as it is made.
_BATCH_ROWS = 4_096


class _Batch(msgspec.Struct):
    """What a batch has beside its rows: the field by which they were kept."""

    key: str = ""


def pieces_of_rows(view: type, row: type[msgspec.Struct], key: str, rows: Iterable[Any]) -> Iterator[bytes]:
    """The pieces, each made when it is asked for; some where there is no row, too.

    Args:
        view: whose rows they are.
        row: their class.
        key: the field by which they are kept.
        rows: they don't change until the last piece is made.

    Raises:
        TypeError: a row holds something that would not come back as what it is.
    """
    made, left = _batch(view, row), iter(rows)
    batch = list(islice(left, _BATCH_ROWS))
    while True:
        yield from pieces_of(made(key, batch))
        batch = list(islice(left, _BATCH_ROWS))
        if not batch:
            return


def rows_of_piece(view: type, row: type[msgspec.Struct], key: str, piece: bytes) -> list[Any]:
    """The rows of one piece.

    Raises:
        SnapshotMismatch: it does not fit, or its rows were kept by another field.
    """
    batch: Any = _batch(view, row)()
    add_piece(batch, piece)
    if batch.key not in ("", key):
        raise SnapshotMismatch(view.__name__, f"its rows were kept by {batch.key!r}, and are by {key!r} now")
    rows: list[Any] = batch.rows
    return rows


@lru_cache(maxsize=256)
def _batch(view: type, row: type[msgspec.Struct]) -> type[Any]:
    """The class of a view's batches, under its name, which errors say."""
    rows: Any = list[row]  # type: ignore[valid-type]
    field: Any = ("rows", rows, msgspec.field(default_factory=list))
    return msgspec.defstruct(view.__name__, [field], bases=(_Batch,))
