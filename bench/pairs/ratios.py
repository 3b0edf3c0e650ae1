"""From CPU times to a verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles

import msgspec

__all__ = ["BOUND", "CONTROL", "PAIRS_MIN", "Pair", "Ratio", "Result", "result_of"]

#: What NEW may lose: the least that OLD ÷ NEW may be.
BOUND = 0.97
#: How far the control may be from 1.
CONTROL = 0.015
#: Fewer pairs can't tell 3 %.
PAIRS_MIN = 60


class Pair(msgspec.Struct, frozen=True):
    """CPU seconds of three runs of one workload."""

    old: float
    new: float
    again: float


class Ratio(msgspec.Struct, frozen=True):
    """The median of the pairs' ratios, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Ratio:
        """Of one value or more."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        return cls(median(values), low, high)


class Result(msgspec.Struct, frozen=True):
    """What came of one workload: ``ratio`` is OLD ÷ NEW, ``control`` OLD ÷ OLD again; both by CPU time."""

    workload: str
    count: int
    pairs: list[Pair]
    ratio: Ratio
    control: Ratio

    @property
    def counts(self) -> bool:
        """Whether this run can tell a difference: enough pairs, and a control that is nearly 1."""
        return len(self.pairs) >= PAIRS_MIN and abs(self.control.median - 1) <= CONTROL

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if len(self.pairs) < PAIRS_MIN:
            return "too few pairs"
        if not self.counts:
            return "too noisy"
        return "within the bound" if self.ratio.median >= BOUND else "slower"


def result_of(workload: str, count: int, pairs: Sequence[Pair]) -> Result:
    """What pairs of runs say, of which there is at least one."""
    ratio = Ratio.of([pair.old / pair.new for pair in pairs])
    return Result(workload, count, list(pairs), ratio, Ratio.of([pair.old / pair.again for pair in pairs]))
