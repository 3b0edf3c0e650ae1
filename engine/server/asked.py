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

__all__ = ["Asked"]

_encode = msgspec.json.Encoder().encode


class Asked:
    """The account of all connections together. An idle connection has no entry.

    Args:
        limits: the server's.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._bytes = 0
        self._by_connection: dict[object, int] = {}

    @property
    def size_bytes(self) -> int:
        """What all connections ask."""
        return self._bytes

    @contextmanager
    def holding(self, connection: object, question: Any) -> Iterator[None]:
        """Keep a question for as long as the block lasts. Costs an encode of it, which one that waits can bear.

        Raises:
            LimitReached: this connection, or all of them, hold as much as they may.
        """
        size, held, limits = len(_encode(question)), self._by_connection, self._limits
        if held.get(connection, 0) + size > limits.connection_asked_bytes_max:
            raise LimitReached("connection_asked_bytes_max", limits.connection_asked_bytes_max)
        if self._bytes + size > limits.asked_bytes_max:
            raise LimitReached("asked_bytes_max", limits.asked_bytes_max)
        self._bytes += size
        held[connection] = held.get(connection, 0) + size
        try:
            yield
        finally:
            self._bytes -= size
            held[connection] -= size
            if not held[connection]:
                del held[connection]
