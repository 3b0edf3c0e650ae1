"""Giving a command up when its time is over."""

from __future__ import annotations

import asyncio

from millstream.engine.errors import DeadlineExceeded
from millstream.engine.write.envelope import Promise
from millstream.engine.write.mailbox import Mailbox

__all__ = ["Expiry"]


class Expiry:
    """Rings when the time is over: a promise that has no outcome then gets `DeadlineExceeded`.

    Args:
        mailbox: where the command waits, or waited.
        promise: who waits for it. Settling it cancels this.
        command: the name of its type.
        seconds: the time, from now on.
    """

    __slots__ = ("_command", "_mailbox", "_promise", "_seconds", "_timer", "ticket")

    def __init__(self, mailbox: Mailbox, promise: Promise, command: str, seconds: float) -> None:
        #: The command's ticket; 0 while it is not in the mailbox.
        self.ticket = 0
        self._mailbox = mailbox
        self._promise = promise
        self._command = command
        self._seconds = seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def cancel(self) -> None:
        """Not any more."""
        self._timer.cancel()

    def _ring(self) -> None:
        if not self._promise.done():
            decided = self._mailbox.has_taken(self.ticket)
            self._promise.set_exception(DeadlineExceeded(self._command, self._seconds, decided=decided))
