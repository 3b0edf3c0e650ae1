"""What the suites of stores need of a store: handles to one log, and a look at what it has put down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import pytest

from millstream.engine.stores.port import Log

__all__ = ["LogHandles"]


class LogHandles(ABC):
    """What a store's test says of it; the suites subclass this."""

    @abstractmethod
    def make(self) -> Log:
        """A new handle, not open yet, to this test's one log, which is not there yet when the test begins."""

    @abstractmethod
    def break_lock(self) -> None:
        """Make the store forget that the log is locked, as a network file system might, or let a lease run out."""

    @abstractmethod
    def traces(self) -> object:
        """What the store has put down, for comparing before and after."""

    async def bound(self, log: Log) -> int | None:
        """Bound what the store takes from this open handle: bodies of so many bytes, and none of twice as many.

        None, as here: it takes bodies of any size, or its bound is too large for a test.
        """
        return None

    @pytest.fixture(autouse=True)
    async def _close_all(self) -> AsyncIterator[None]:
        """Whatever a test leaves open is closed: a failed test must not keep a store's thread alive."""
        self._handles: list[Log] = []
        yield
        for log in self._handles:
            await log.close()

    def handle(self) -> Log:
        """A new handle, which is closed at the end."""
        log = self.make()
        self._handles.append(log)
        return log
