"""How much is asked and not answered: questions that wait for a view, and watches, in bytes of their JSON.

Here: the account, one for each connection and one for all of them. Not here: what is refused otherwise (`connection`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from millstream.engine.errors import LimitReached
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.shares import Shares

__all__ = ["Asked"]

_encode = msgspec.json.Encoder().encode


class Asked:
    """The account of all connections together. An idle connection has no entry.

    Args:
        limits: the server's.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._connection_bytes_max = limits.connection_asked_bytes_max
        self._shares = Shares("asked_bytes_max", limits.asked_bytes_max)

    @property
    def size_bytes(self) -> int:
        """What all connections ask."""
        return self._shares.total

    @contextmanager
    def holding(self, connection: object, question: Any) -> Iterator[None]:
        """Keep a question for as long as the block lasts. Costs an encode of it, which one that waits can bear.

        Raises:
            LimitReached: this connection, or all of them, hold as much as they may.
        """
        size = len(_encode(question))
        if self._shares.of(connection) + size > self._connection_bytes_max:
            raise LimitReached("connection_asked_bytes_max", self._connection_bytes_max)
        with self._shares.holding(connection, size):
            yield
