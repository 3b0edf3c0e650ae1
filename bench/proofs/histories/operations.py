"""An operation as its client saw it: what was asked, what came back, and when.

A history is any number of these, with times of one clock. Here: the value, and its line for people. Not here: what an
operation means (a model does), and whether a history is right (`linear`, `by_position`).
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

__all__ = ["Operation"]

Asked = TypeVar("Asked")
Came = TypeVar("Came")


class Operation(msgspec.Struct, Generic[Asked, Came], frozen=True, kw_only=True):
    """One call of one client on one object.

    ``invoked_at`` is a moment before anything of it can have happened, ``returned_at`` one after its result was known,
    in seconds of one clock. Both are None, ``output`` and ``returned_at``, where no result came, or one that leaves it
    open: then it may take effect at any time after it was invoked, or never.
    """

    client: str
    key: str
    asked: Asked
    output: Came | None = None
    invoked_at: float
    returned_at: float | None = None

    def line(self) -> str:
        """It in one line, its times in milliseconds."""
        begin = f"{self.invoked_at * 1e3:,.3f}"
        if self.returned_at is None:
            return f"{begin} … ? ms  {self.client}: {self.asked} → never answered"
        return f"{begin} … {self.returned_at * 1e3:,.3f} ms  {self.client}: {self.asked} → {self.output}"
