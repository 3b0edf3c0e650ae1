"""A commit's body read back: the events of each command, checked against the classes that an application has.

Here: decoding for a replay, and saying what can't be decoded. Not here: what is written (`commit`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

import msgspec

from millstream.engine.application.validation import encode, union_of

__all__ = ["Stored", "body_reader", "deepest_event", "mismatches"]


E = TypeVar("E")

_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|[\[\]{}]', re.DOTALL)
#: An event stands in an array, in a command's object, in the body's array.
_AROUND_EVENTS = 3


class Stored(msgspec.Struct, Generic[E], gc=False):
    """What a replay needs of one command's record: its events decoded, and what `Record` says of the rest."""

    events: list[E] = []
    key: str | None = None
    keys: list[str | None] | None = None
    id: str | None = None
    payload: str = ""


def body_reader(events: Sequence[type[Any]]) -> Callable[[bytes], list[Stored[Any]]]:
    """The function that reads a commit's body, its events checked against ``events``.

    It raises msgspec.DecodeError when the body is not of this shape or an event is not one of ``events``, and
    RecursionError when one is nested too deeply.
    """
    read: Callable[[bytes], list[Stored[Any]]] = msgspec.json.Decoder(list[Stored[union_of(events)]]).decode  # type: ignore[misc]
    return read


def mismatches(body: bytes, events: Sequence[type[Any]]) -> list[tuple[int, str, bool, str]]:
    """Why a body that was stored whole can't be read as ``events``: per event (its index, type, known or not, problem).

    The slow path of `body_reader`: called when that failed. Empty when the body itself is not an array of commands.
    """
    read = msgspec.json.Decoder(union_of(events)).decode
    known = {str(event.__struct_config__.tag) for event in events}
    try:
        records = msgspec.json.decode(body, type=list[Stored[dict[str, Any]]])
    except msgspec.DecodeError:
        return []
    found: list[tuple[int, str, bool, str]] = []
    for index, event in enumerate(event for record in records for event in record.events):
        try:
            read(encode(event))
        except msgspec.DecodeError as error:
            name = str(event.get("type"))
            found.append((index, name, name in known, str(error)))
    return found


def deepest_event(body: bytes) -> tuple[int, str, int]:
    """Which event of a body is nested most deeply: its index, its type, and how deeply.

    The slow path for a body that no decoder reads, because of just that.
    """
    events: list[tuple[int, str, int]] = []
    depth, index, tag, text, deepest = 0, 0, "", b"", 0
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in b"[{":
            depth += 1
            if depth == _AROUND_EVENTS + 1:
                tag, deepest = "", 0
            deepest = max(deepest, depth - _AROUND_EVENTS)
        elif mark in b"]}":
            if depth == _AROUND_EVENTS + 1:
                events.append((index, tag, deepest))
                index += 1
            depth -= 1
        elif depth == _AROUND_EVENTS + 1:
            tag = tag or (token[1].decode() if text == b"type" else "")
            text = token[1]
    return max(events, key=itemgetter(2), default=(0, "", 0))
