"""Where the outcomes of an `execute_many` go: one future for all of them, instead of one for each."""

from __future__ import annotations

import asyncio
from typing import Any

from millstream.engine.application.messages import Receipt
from millstream.engine.errors import MillstreamError

__all__ = ["Outcomes", "Place"]


class Outcomes:
    """The outcomes of several commands, in order, and the future that is done when all are there."""

    __slots__ = ("abandoned", "future", "left", "outcomes")

    def __init__(self, size: int) -> None:
        self.outcomes: list[Receipt | MillstreamError | None] = [None] * size
        self.left = size
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Nobody waits any more: what is not decided yet never executes.
        self.abandoned = False

    def settle(self, index: int, outcome: Any) -> None:
        """Note the outcome of one of them."""
        self.outcomes[index] = outcome
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)


class Place:
    """One command's place in a `Outcomes`: where the reply to it is put."""

    __slots__ = ("_group", "_index")

    def __init__(self, group: Outcomes, index: int) -> None:
        self._group = group
        self._index = index

    def done(self) -> bool:
        return self._group.abandoned or self._group.outcomes[self._index] is not None

    def set_result(self, result: Any, /) -> None:
        self._group.settle(self._index, result)

    def set_exception(self, exception: BaseException, /) -> None:
        self._group.settle(self._index, exception)
