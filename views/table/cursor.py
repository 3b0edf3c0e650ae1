"""Cursors: where a page ended, as a text that says nothing to its reader.

Here: from an entry of an ordered index to a text and back. Not here: pages (`view`).

A cursor holds the last row's entry: its sort values and its key. So a row that does not change between two pages is on
one of them exactly once, whatever else changes. Two sums stand before the entry: by one of them a cursor of another
query is found, by the other a cursor that was cut or garbled. They are no signature. A made up cursor gets rows
that the query gives anyway, because a page never leaves the stretch that its query names.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Any

import msgspec

from millstream.engine.errors import InvalidMessage
from millstream.views.table.ordered import Entry
from millstream.views.table.plan import OrderedPlan, Plan

__all__ = ["Cursors"]

_SUM_BYTES = 6
_encode = msgspec.msgpack.Encoder().encode


class Cursors:
    """The cursors of one ordered index.

    Args:
        plan: the table's.
        index: the index's.
    """

    __slots__ = ("_bound", "_decode", "_view")

    def __init__(self, plan: Plan, index: OrderedPlan) -> None:
        self._view = plan.view
        self._bound = (plan.view, *index.entry)
        hints = tuple(plan.row.hints[name] for name in index.entry)
        self._decode = msgspec.msgpack.Decoder(tuple[hints]).decode  # type: ignore[valid-type]

    def text(self, query: tuple[Any, ...], entry: Entry) -> str:
        """The cursor for what comes after an entry.

        Args:
            query: all that says which rows come, and in which order.
            entry: of the last row of the page.
        """
        last, asked = _encode(entry), self._sum(query)
        return urlsafe_b64encode(asked + _sum(asked + last) + last).rstrip(b"=").decode()

    def entry(self, query: tuple[Any, ...], cursor: str) -> Entry:
        """The entry after which to go on.

        Raises:
            InvalidMessage: it is no cursor, or one of another query.
        """
        try:
            data = b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError, AttributeError, TypeError) as error:
            raise self._wrong(cursor, "it is none, or was garbled: give back what a page gave") from error
        asked, whole, last = data[:_SUM_BYTES], data[_SUM_BYTES : 2 * _SUM_BYTES], data[2 * _SUM_BYTES :]
        if whole != _sum(asked + last):
            raise self._wrong(cursor, "it is none, or was garbled: give back what a page gave")
        if asked != self._sum(query):
            raise self._wrong(cursor, "it is of another query: order, direction and filter are to be those of the page")
        try:
            return self._decode(last)
        except msgspec.DecodeError as error:
            raise self._wrong(cursor, f"it is of another version of the application: {error}") from error

    def _sum(self, query: tuple[Any, ...]) -> bytes:
        return _sum(_encode((self._bound, query)))

    def _wrong(self, cursor: str, problem: str) -> InvalidMessage:
        return InvalidMessage(f"cursor {cursor!r:.80} of {self._view}", problem)


def _sum(data: bytes) -> bytes:
    return blake2b(data, digest_size=_SUM_BYTES).digest()
