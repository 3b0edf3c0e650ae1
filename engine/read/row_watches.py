"""Watches of rows: what has changed in an answer, instead of the answer.

Here: comparing an answer with the one that this watch has given before. Not here: when there is a new one (`watches`),
and what changes are (`application.row_changes`).

A slow watcher gets what has changed since the answer that it was given last, in one. Equal questions are
compared once, where those who ask are as far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from millstream.engine.application.row_changes import Changes, changes_between, rows_by_key
from millstream.engine.errors import AnswerFailed
from millstream.engine.read.watches import Watch

__all__ = ["RowWatch"]

_encode = msgspec.json.Encoder().encode


class RowWatch:
    """One open watch of rows. Its owner closes it, and takes its changes in one task.

    Args:
        watch: the watch of their answer.
        name: of the field that tells rows apart, in JSON.
        default: its value where a row's JSON leaves it out; None where none does.
    """

    __slots__ = ("_given", "_name", "_shared", "_watch")

    def __init__(self, watch: Watch, name: str, default: bytes | None = None) -> None:
        self._watch = watch
        self._name = name
        self._shared: _Shared = watch.shared.setdefault(name, _Shared(name, default))
        self._given: Mapping[bytes, Raw] | None = None

    async def next(self) -> tuple[bytes, int]:
        """The next changes as JSON, and a position at which they are true. All rows are there at once.

        Raises:
            AnswerFailed: also where two rows have one key.
            MillstreamError: as `Watch.next`.
        """
        while True:
            data, position = await self._watch.next()
            try:
                now = self._shared.rows(data)
            except (ValueError, msgspec.DecodeError) as error:
                raise AnswerFailed(self._watch.view, self._watch.query, f"it gave no rows: {error}") from error
            before, self._given = self._given, now
            if (changes := self._shared.changes(before, now)) is not None:
                return changes, position

    def close(self) -> None:
        """Watch no more. Closing twice is allowed."""
        self._watch.close()


class _Shared:
    """What was found out of the answers to equal questions, the last of each."""

    __slots__ = ("_before", "_changes", "_data", "_default", "_name", "_now", "_rows")

    def __init__(self, name: str, default: bytes | None) -> None:
        self._name = name
        self._default = default
        self._data = b""
        self._rows: Mapping[bytes, Raw] = {}
        self._before: Any = self
        self._now: Any = self
        self._changes: bytes | None = None

    def rows(self, data: bytes) -> Mapping[bytes, Raw]:
        """An answer's rows, by their keys."""
        if data is not self._data:
            self._rows, self._data = rows_by_key(data, self._name, self._default), data
        return self._rows

    def changes(self, before: Mapping[bytes, Raw] | None, now: Mapping[bytes, Raw]) -> bytes | None:
        """What is other between two answers, as JSON."""
        if before is not self._before or now is not self._now:
            changes: Changes | None = changes_between(self._name, before, now)
            self._before, self._now = before, now
            self._changes = None if changes is None else _encode(changes)
        return self._changes
