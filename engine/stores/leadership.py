"""The time for which a log is one writer's: what opening a log gives.

Here: who holds it, and how it learns that it is over. Not here: how a store finds out (`port`), what a writer does
then (`write`).
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Leadership"]


class Leadership:
    """A log that is open for writing, and is so until it is closed, or until it is lost to another writer.

    That it is lost stops no writer: the log's rule does, at the next append. It is a word of it in time.

    Args:
        address: where the writer says that it can be reached.
        took_over: whether the writer before had not let go: it died, or was stopped, or cut off.
        is_sure: whether no other writer can hold it at this moment; where it is kept by a lease, that is not over.
    """

    def __init__(
        self, address: str | None = None, *, took_over: bool = False, is_sure: Callable[[], bool] = lambda: True
    ) -> None:
        self.address = address
        self.took_over = took_over
        self._is_sure = is_sure
        self._is_lost = False
        self._tell: Callable[[], None] | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is certain that no other process writes just now: to be asked before what can't be undone."""
        return not self._is_lost and self._is_sure()

    @property
    def is_lost(self) -> bool:
        """Whether another writer has the log: that never changes back."""
        return self._is_lost

    def on_lost(self, tell: Callable[[], None]) -> None:
        """Let ``tell`` be called once it is lost, on the loop; now, if it is already. It may not raise."""
        self._tell = tell
        if self._is_lost:
            tell()

    def lose(self) -> None:
        """The store has found out that another writer has the log. To be called by the store, on the loop."""
        if not self._is_lost:
            self._is_lost = True
            if self._tell is not None:
                self._tell()
