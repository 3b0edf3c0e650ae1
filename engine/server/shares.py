"""Limits that all connections share: how much of one each has, so that no one takes all of it.

Here: the account of one limit. Not here: which limits there are, and what is counted (`queries`, `commands`, `asked`).

Invariant: a connection may take more only while it has less than is left to all others. So one alone gets half of a
limit, ten that take what they can get an eleventh each, and an eleventh is left for the next one. No number has
to be chosen for that, and it holds however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from millstream.engine.errors import LimitReached

__all__ = ["Shares"]


class Shares:
    """What each connection has of one limit. One that has nothing has no entry.

    Args:
        limit: its name.
        value: how much there is for all together.
        says_full: whether it is said here that all is taken; else the next one that is asked does, which knows more.
    """

    __slots__ = ("_held", "_limit", "_says_full", "_value", "total")

    def __init__(self, limit: str, value: int, *, says_full: bool = True) -> None:
        self._limit = limit
        self._value = value
        self._says_full = says_full
        self._held: dict[object, int] = {}
        #: What all connections have together.
        self.total = 0

    def of(self, connection: object) -> int:
        """What this connection has."""
        return self._held.get(connection, 0)

    def take(self, connection: object, amount: int = 1) -> None:
        """Let a connection have so much more.

        Raises:
            LimitReached: all is taken; or, with ``held``, this connection has its share. It got nothing.
        """
        held, left = self._held.get(connection, 0), self._value - self.total
        if amount > left:
            if self._says_full:
                raise LimitReached(self._limit, self._value)
        elif held >= left:
            raise LimitReached(self._limit, self._value, held)
        self._held[connection] = held + amount
        self.total += amount

    def give_back(self, connection: object, amount: int = 1) -> None:
        """A connection has so much less: what it took."""
        left = self._held[connection] - amount
        if left:
            self._held[connection] = left
        else:
            del self._held[connection]
        self.total -= amount

    @contextmanager
    def holding(self, connection: object, amount: int = 1) -> Iterator[None]:
        """Let a connection have so much for as long as the block lasts.

        Raises:
            LimitReached: as `take`.
        """
        self.take(connection, amount)
        try:
            yield
        finally:
            self.give_back(connection, amount)
