"""Ordered indexes: entries in order, each the values of some fields of a row and its key; and stretches of them.

Here: one index, what is needed of a sorted container, and where a stretch begins and ends. Not here: rows (`view`), and
the place in a stretch that a page ends at (`cursor`).

A stretch is half open: entries from ``start`` on and below ``stop``, compared as tuples are. A tuple that ends early is
below all that begin like it, and one that ends with `LAST` is above them. So no entry is equal to a ``stop`` by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

__all__ = ["LAST", "Entry", "OrderedIndex", "Sorted", "Stretch", "count_within", "new_sorted", "stretch_of"]

Entry: TypeAlias = tuple[Any, ...]


class _Last:
    """Above every value of a field."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return other is not self


LAST = _Last()


class Sorted(Protocol):
    """What is needed of a container that keeps entries in order: ``SortedList`` of the package sortedcontainers.

    Everything is logarithmic but `irange`, which takes as long as what is taken of it.
    """

    def add(self, value: Entry) -> None:
        """Raises TypeError where it can't be compared, and has changed nothing then."""
        ...

    def remove(self, value: Entry) -> None: ...

    def bisect_left(self, value: Entry) -> int: ...

    def irange(
        self, minimum: Entry, maximum: Entry, inclusive: tuple[bool, bool], reverse: bool
    ) -> Iterator[Entry]: ...

    def __len__(self) -> int: ...

    def __delitem__(self, index: slice) -> None: ...


def new_sorted() -> Sorted:
    """An empty one. The extra ``tables`` is there: a class that needs it could not have been made."""
    return cast(Sorted, import_module("sortedcontainers").SortedList())


class Stretch(NamedTuple):
    """Entries from ``start`` on and below ``stop``."""

    start: Entry
    stop: Entry

    def after(self, entry: Entry, *, descending: bool) -> Stretch:
        """What of it comes after an entry, going up or down."""
        if descending:
            return Stretch(self.start, min(self.stop, entry))
        return Stretch(max(self.start, (*entry, LAST)), self.stop)


def stretch_of(
    prefix: Entry,
    low: Entry | None = None,
    above: Entry | None = None,
    high: Entry | None = None,
    below: Entry | None = None,
) -> Stretch:
    """The entries that begin with some values, between bounds on the values after those.

    Args:
        prefix: what they begin with; empty for all.
        low: the first values that may follow it.
        above: the last that may not.
        high: the last values that may follow it.
        below: the first that may not.
    """
    start = (*prefix, *above, LAST) if above is not None else (*prefix, *(low or ()))
    stop = (*prefix, *below) if below is not None else (*prefix, *(high or ()), LAST)
    return Stretch(start, stop)


class OrderedIndex:
    """One index.

    Args:
        fields: over which fields of the rows; the last one is the key.
    """

    __slots__ = ("entries", "entry_of")

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.entries = new_sorted()
        get: Callable[[Any], Any] = attrgetter(*fields)  # of several fields a tuple, made without a frame of Python
        #: A row's entry.
        self.entry_of: Callable[[Any], Entry] = get if len(fields) > 1 else lambda row: (get(row),)

    def within(self, stretch: Stretch, *, descending: bool = False) -> Iterator[Entry]:
        """The entries of a stretch, in order. Not to be used any more after a change."""
        return self.entries.irange(stretch.start, stretch.stop, (True, False), descending)

    def count(self, stretch: Stretch) -> int:
        """How many there are."""
        return count_within(self.entries, stretch)


def count_within(entries: Sorted, stretch: Stretch) -> int:
    """How many entries a stretch has, without going over them."""
    return max(0, entries.bisect_left(stretch.stop) - entries.bisect_left(stretch.start))
