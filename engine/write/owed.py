"""Outcomes that stand, until all of their callers have been answered.

Here: whose turn it is to be answered. Not here: when an outcome stands, and how many are answered at once (`writer`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from millstream.engine.application.messages import Receipt
from millstream.engine.write.envelope import Promise
from millstream.engine.write.rows import Outcome

__all__ = ["Owed"]


class Owed:
    """Outcomes in the order in which their commands were decided. Its length is how many are still to be given."""

    __slots__ = ("_drafts",)

    def __init__(self) -> None:
        # Of each draft what is left, in step with its promises alone, which know how many they are. A queue of pairs
        # would make a tuple for each, which the collector walks over.
        self._drafts: deque[tuple[Iterator[Promise], Iterator[tuple[Promise, Outcome]]]] = deque()

    def __len__(self) -> int:
        return sum(promises.__length_hint__() for promises, _ in self._drafts)  # type: ignore[attr-defined]

    def add(self, promises: Sequence[Promise], outcomes: Sequence[Outcome]) -> None:
        """The outcomes of the callers of one more draft."""
        left = iter(promises)
        self._drafts.append((left, zip(left, outcomes, strict=True)))

    def tell(self, most: int) -> None:
        """Answer the next ones; a caller that has given up gets nothing. A promise that raises is not called again."""
        while self._drafts and most > 0:
            promises, pairs = self._drafts[0]
            left: int = promises.__length_hint__()  # type: ignore[attr-defined]
            for promise, outcome in islice(pairs, most):
                if promise.done():
                    continue
                if type(outcome) is Receipt:
                    promise.set_result(outcome)
                else:
                    promise.set_exception(outcome)  # type: ignore[arg-type]  # it is no receipt
            if left <= most:
                self._drafts.popleft()
            most -= left
