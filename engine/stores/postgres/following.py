"""How a reader of a log in PostgreSQL notices that another process has appended.

Here: what is listened to, and how often the log is looked at beside that. Not here: what is read then (`reading`).

A notification comes some 0.1 ms after the commit. One may be lost with its connection, and a standby or a pooler has
none: so the log is looked at by a timer, too, while a task waits. A look is one query of some 0.1 ms.
"""

from __future__ import annotations

import asyncio

from millstream.engine.stores.following import AppendSignal

__all__ = ["Ear"]

#: Where notifications come, and where none do.
_LISTENING_SECONDS = 0.5
_POLLING_SECONDS = 0.25


class Ear(AppendSignal):
    """A signal that is given by notifications, and by a timer while a task waits."""

    def __init__(self) -> None:
        super().__init__()
        self.is_listening = False
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None

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

    def heard(self, *_: object) -> None:
        """A notification came."""
        self.tell()

    def _look_later(self) -> None:
        if self._timer is None:
            seconds = _LISTENING_SECONDS if self.is_listening else _POLLING_SECONDS
            self._timer = asyncio.get_running_loop().call_later(seconds, self._beat)

    def _beat(self) -> None:
        self._timer = None
        self.tell()
        if self._waiting:
            self._look_later()
