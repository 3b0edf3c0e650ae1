"""Hash indexes: from the values of some fields to the keys of the rows that have them.

Here: one index. Not here: rows (`view`), and indexes that are in order (`ordered`).

A value that one row has, which in an index over something nearly unique is most of them, holds its key alone: a set
for each would be 216 bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from operator import attrgetter
from typing import Any

__all__ = ["HashIndex"]


class _Several(set[Any]):
    """The keys of rows with one value. A class of its own, as a key may be any other."""

    __slots__ = ()


class HashIndex:
    """One index.

    Args:
        fields: over which fields of the rows.
    """

    __slots__ = ("_keys", "value_of")

    def __init__(self, fields: tuple[str, ...]) -> None:
        #: A row's value: of its one field, or a tuple.
        self.value_of = attrgetter(*fields)
        self._keys: dict[Any, Any] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HashIndex) and self._keys == other._keys

    __hash__ = None  # type: ignore[assignment]

    def keys(self, value: Any) -> Collection[Any]:
        """The keys of the rows with a value, in no order. Not to be kept: it may be the index's own."""
        try:
            found = self._keys[value]
        except KeyError:
            return ()
        return found if type(found) is _Several else (found,)

    def count(self, value: Any) -> int:
        """How many rows have it."""
        return len(self.keys(value))

    def add(self, value: Any, key: Any) -> None:
        """A row has this value now."""
        keys = self._keys
        if value not in keys:
            keys[value] = key
            return
        found = keys[value]
        if type(found) is _Several:
            found.add(key)
        else:
            keys[value] = _Several((found, key))

    def remove(self, value: Any, key: Any) -> None:
        """A row that had it is gone, or has another one."""
        found = self._keys[value]
        if type(found) is not _Several:
            del self._keys[value]
            return
        found.remove(key)
        if len(found) == 1:
            (self._keys[value],) = found

    def drained(self, most: int) -> Iterator[None]:
        """Drop all of it, so many entries at a step."""
        while self._keys:
            for _ in range(min(most, len(self._keys))):
                _, found = self._keys.popitem()
                while type(found) is _Several and len(found) > most:
                    found.difference_update(list(islice(found, most)))
                    yield
            yield
