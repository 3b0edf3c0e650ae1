"""How long a server has been out of reach, when it is worth another attempt, and when calls that wait fail."""

from __future__ import annotations

from collections.abc import Callable

from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.randomness import delays

__all__ = ["Outage"]


class Outage:
    """From the moment that there is no connection until one has proved to be one: by a reply, or by standing for longer
    than it may take to make one.

    A server that takes connections and closes them at once is out of reach, too: each such connection is an attempt.

    Args:
        limits: the client's.
        wait: gives the seconds to wait before each attempt but the first; only tests give their own.
    """

    def __init__(self, limits: ClientLimits, wait: Callable[[], float] | None = None) -> None:
        self._limits = limits
        self._wait = wait
        #: Why there is no connection.
        self.problem = "nothing has connected yet"
        self._connected_at = float("inf")
        self.end()

    def connected(self, now: float) -> None:
        """There is a connection."""
        self._connected_at = now

    def lost(self, problem: str, now: float) -> None:
        """It is there no more."""
        self.problem = problem
        if now - self._connected_at > self._limits.connect_seconds_max:
            self.end()

    def end(self) -> None:
        """The server is there."""
        self._since: float | None = None
        self._next = self._wait or delays(self._limits.retry_seconds_min, self._limits.retry_seconds_max).__next__

    def wait(self, now: float) -> float | None:
        """Seconds to wait before the next attempt; None: no more attempts, and calls that wait fail.

        The first attempt is made at once. After None a new outage begins.
        """
        if self._since is None:
            self._since = now
            return 0.0
        seconds = self._next()
        if now + seconds - self._since > self._limits.reconnect_seconds_max:
            self.end()
            return None
        return seconds
