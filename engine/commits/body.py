"""A commit's body read back: the events of each command, checked against the classes that an application has.

Here: decoding for a replay, and saying what can't be decoded, in either format. Not here: the formats (`columns`, and
`rows` until 0.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from millstream.engine.application.validation import encode, union_of
from millstream.engine.commits.columns import UnknownFeature, column_reader
from millstream.engine.commits.record import Body
from millstream.engine.commits.rows import row_reader

__all__ = ["UNREADABLE", "body_reader", "deepest_event", "events_in", "mismatches", "read_anything"]

#: What reading a body raises: it is of no known shape, or nested too deeply, or needs what this millstream lacks.
UNREADABLE = (msgspec.DecodeError, RecursionError, UnknownFeature)

_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|[\[\]{}]', re.DOTALL)


def body_reader(events: Sequence[type[Any]]) -> Callable[[bytes], Body[Any]]:
    """The function that reads a commit's body, its events checked against ``events``.

    It raises msgspec.DecodeError when the body is not of a known shape or an event is not one of ``events``,
    RecursionError when one is nested too deeply, and UnknownFeature: `UNREADABLE`.
    """
    read_columns, read_rows = column_reader(events), row_reader(events)

    def read(body: bytes) -> Body[Any]:
        return read_columns(body) if body[0:1] == b"{" else read_rows(body)

    return read


class _Unread(msgspec.Struct, gc=False):
    """An event that is counted and not looked at."""


_read_rows = row_reader((_Unread,))
_read_columns = column_reader((_Unread,))


def events_in(body: bytes) -> int:
    """How many events a body holds, whatever they are. What it says of their commands goes together.

    Raises:
        msgspec.DecodeError, RecursionError, UnknownFeature: as a `body_reader`.
    """
    return len((_read_columns(body) if body[0:1] == b"{" else _read_rows(body)).events)


def mismatches(body: bytes, events: Sequence[type[Any]]) -> list[tuple[int, str, bool, str]]:
    """Why a body that was stored whole can't be read as ``events``: per event (its index, type, known or not, problem).

    The slow path of `body_reader`: called when that failed. Empty when the body itself is of no known shape.
    """
    read = msgspec.json.Decoder(union_of(events)).decode
    known = {str(event.__struct_config__.tag) for event in events}
    try:
        plain = read_anything(body).events
    except msgspec.DecodeError:
        return []
    found: list[tuple[int, str, bool, str]] = []
    for index, event in enumerate(plain):
        try:
            read(encode(event))
        except msgspec.DecodeError as error:
            name = str(event.get("type"))
            found.append((index, name, name in known, str(error)))
    return found


#: The same for a body of whatever events, each a dict.
read_anything = body_reader((dict[str, Any],))


def deepest_event(body: bytes) -> tuple[int, str, int]:
    """Which event of a body is nested most deeply: its index, its type, and how deeply.

    The slow path for a body that no decoder reads, because of just that.
    """
    around = 2 if body[0:1] == b"{" else 3  # arrays and objects that an event stands in
    events: list[tuple[int, str, int]] = []
    depth, index, tag, text, deepest = 0, 0, "", b"", 0
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in b"[{":
            depth += 1
            if depth == around + 1:
                tag, deepest = "", 0
            deepest = max(deepest, depth - around)
        elif mark in b"]}":
            if depth == around + 1:
                events.append((index, tag, deepest))
                index += 1
            depth -= 1
        elif depth == around + 1:
            tag = tag or (token[1].decode() if text == b"type" else "")
            text = token[1]
    return max(events, key=itemgetter(2), default=(0, "", 0))
