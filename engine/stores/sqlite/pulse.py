"""How a reader of a SQLite file notices that another process has written to it.

Here: what is looked at, and how often. Not here: what is read then (`reading`).

SQLite signals no commit, and has a number that differs after one: ``PRAGMA data_version``
(https://www.sqlite.org/pragma.html#pragma_data_version). A look takes a read transaction, no lock that a writer waits
for, and reads nothing that is not in memory. It is taken on the loop's own thread, on a connection that does nothing
else: that costs 2 to 4 µs. In a thread it would cost 100, and beside a busy loop wait 5 ms for the interpreter's lock,
three times.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from millstream.engine.stores.following import AppendSignal

__all__ = ["LOOK_SECONDS", "Pulse", "look_connection", "version_of"]

#: How long a commit of another process may stay unseen. Each look wakes the process, which is most of its cost.
LOOK_SECONDS = 0.005


class Pulse(AppendSignal):
    """A signal that no append gives: looked for while a task waits, once for all that do.

    Args:
        state: what it looks like now; something new has come when that differs. Whatever it raises counts as new:
            the read that follows raises it, too.
    """

    def __init__(self, state: Callable[[], object]) -> None:
        super().__init__()
        self._state = state
        self._seen: object = None
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None

    def mark(self) -> int:
        self.look()
        return super().mark()

    async def moved(self, mark: int) -> bool:
        self._waiting += 1
        self._look_later()
        try:
            return await super().moved(mark)
        finally:
            self._waiting -= 1
            if not self._waiting and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def look(self) -> None:
        """Look now."""
        try:
            seen = self._state()
        except Exception:  # noqa: BLE001 - the read that follows finds out what it is
            seen = object()
        if seen != self._seen:
            self._seen = seen
            self.tell()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._beat)

    def _beat(self) -> None:
        self._timer = None
        self.look()
        if self._waiting:
            self._look_later()


def look_connection(address: str) -> sqlite3.Connection:
    """A connection for `version_of`: it waits for no lock. Made in 0.1 ms where another one reads that file."""
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=0)


def version_of(connection: sqlite3.Connection) -> object:
    """What differs once another connection has committed."""
    return connection.execute("PRAGMA data_version").fetchone()
