"""All indexes of one table, which move together: a change is in all of them, or in none.

Here: what a changed row means for each index, and the journal from which a change is taken back. Not here: rows
(`view`), and what a question needs of one index.

Invariants: what can fail, such as values that can't be compared, fails before anything has changed, or is undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from millstream.views.table.cursor import Cursors
from millstream.views.table.hashed import HashIndex
from millstream.views.table.ordered import Entry, OrderedIndex, Sorted
from millstream.views.table.plan import Plan
from millstream.views.table.rows import may_be_nan
from millstream.views.table.text import TextIndex

__all__ = ["Indexes"]

#: Entries that are dropped at a step: they are small.
_AT_ONCE = 1_000

_Entries: TypeAlias = list[tuple[Sorted, Entry]]


class Indexes:
    """The indexes of a table.

    Args:
        plan: the table's.
    """

    __slots__ = ("_floats", "_in_order", "_pairs", "cursors", "hashed", "journal", "ordered", "plan", "text")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        #: What the event that is applied has changed: keys, and the rows that were there. None between two events.
        self.journal: list[tuple[Any, Any]] | None = None
        self.hashed = tuple(map(HashIndex, plan.hashed))
        self.ordered = tuple(OrderedIndex(each.entry) for each in plan.ordered)
        self.cursors = tuple(Cursors(plan, each) for each in plan.ordered)
        self._pairs = [(each.entries, each.entry_of) for each in self.ordered]
        self.text = TextIndex(plan.text, plan.key) if plan.text else None
        used = {plan.key, *(name for fields in plan.hashed for name in fields)}
        used |= {name for each in plan.ordered for name in each.fields}
        self._floats = tuple(sorted(name for name in used if may_be_nan(plan.row.fields[name])))
        self._in_order: tuple[OrderedIndex | TextIndex, ...] = (*self.ordered, *([self.text] if self.text else ()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Indexes):
            return NotImplemented
        ours, theirs = ([each.entries for each in those._in_order] for those in (self, other))
        return self.hashed == other.hashed and ours == theirs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self.hashed)} hashed, {len(self._in_order)} in order>"

    def move(self, key: Any, old: Any, new: Any) -> None:
        """Take a row that was there out of all indexes, and another one in.

        Args:
            key: of both.
            old: None if there was none.
            new: None if there is none any more.

        Raises:
            TypeError, ValueError: a value of the new row is not what its field says, and no index could hold it.
        """
        if new is not None:
            for name in self._floats:
                if _is_nan(getattr(new, name)):
                    raise ValueError(f"{name} of row {key!r} is NaN, which is equal to nothing and never found again")
        values = self._values(old, new)
        gone = self._let_come(old, new)
        for entries, entry in gone:
            entries.remove(entry)
        for index, before, after in values:
            if old is not None:
                index.remove(before, key)
            if new is not None:
                index.add(after, key)

    def drained(self) -> Iterator[None]:
        """Drop all entries, some at each step."""
        for index in self.hashed:
            yield from index.drained(_AT_ONCE)
        for each in self._in_order:
            while len(each.entries):
                del each.entries[-_AT_ONCE:]
                yield

    def _values(self, old: Any, new: Any) -> list[tuple[HashIndex, Any, Any]]:
        """The hash indexes in which another value comes, with both values, each of which can be hashed."""
        values = []
        for index in self.hashed:
            before = None if old is None else index.value_of(old)
            after = None if new is None else index.value_of(new)
            if old is None or new is None or before != after:
                hash(after)
                values.append((index, before, after))
        return values

    def _let_come(self, old: Any, new: Any) -> _Entries:
        """Add the entries that come, all of them or none; returns those that are to go."""
        come: _Entries = []
        gone: _Entries = []
        try:
            for entries, entry_of in self._pairs:
                before = None if old is None else entry_of(old)
                after = None if new is None else entry_of(new)
                if before == after:
                    continue
                if after is not None:
                    entries.add(after)
                    come.append((entries, after))
                if before is not None:
                    gone.append((entries, before))
            text = self.text
            if text is not None and (old is None or new is None or not text.is_same(old, new)):
                words = set() if old is None else text.entries_of(old)
                new_words = set() if new is None else text.entries_of(new)
                for word in new_words - words:
                    text.entries.add(word)
                    come.append((text.entries, word))
                gone += [(text.entries, word) for word in words - new_words]
        except BaseException:
            for entries, entry in come:
                entries.remove(entry)
            raise
        return gone


def _is_nan(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_nan, value))
    return bool(value != value)
