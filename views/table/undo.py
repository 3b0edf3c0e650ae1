"""What an event did to a table is taken back where its method raises, so that it was applied whole or not at all.

Here: the method that is called instead of the author's. Not here: what a change is (`view`).

The engine knows nothing of it: whatever its policy for such an event is, it finds the rows as they were before. Until
the method returns, each change notes the row that was there, which costs an append; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol

from millstream.views.table.indexes import Indexes

__all__ = ["Undoing", "undone_if_it_raises"]


class Undoing(Protocol):
    """A table, as it is seen from here."""

    _indexes: Indexes

    def _write(self, key: Any, old: Any, new: Any) -> None:
        """Put a row in place of another one, or of none."""
        ...

    def _row(self, key: Any) -> Any:
        """The row with a key; None if there is none."""
        ...


def undone_if_it_raises(apply: Callable[..., Any]) -> Callable[..., Any]:
    """A method that applies an event, and what it had changed is changed back if it raises."""

    @wraps(apply)
    def applied(table: Undoing, *event: Any) -> None:
        indexes = table._indexes
        journal: list[tuple[Any, Any]] = []
        indexes.journal = journal
        try:
            apply(table, *event)
        except BaseException:
            indexes.journal = None
            for key, old in reversed(journal):
                table._write(key, table._row(key), old)
            raise
        indexes.journal = None

    return applied
