"""This run beside an earlier one: what became slower, or faster, beyond the noise.

How noise is judged: by the spread of the runs. A contender is slower only if even its best run now is worse than its
worst run then, and the medians are 5 % apart; so with three runs each, of the twenty ways in which six values of equal
quality can fall, one looks slower. With fewer than three runs nothing is judged. What another machine measured, or
another version of Python, is compared, and the report says that it is another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from millstream.bench.summary import FigureReport, Report, Row
from millstream.bench.wording import name_of, number

__all__ = ["Change", "Comparison", "compare", "is_rate"]

_RUNS_MIN = 3
_APART = 0.05

_Verdict = Literal["slower", "faster", "same", "unsure"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A contender that is not what it was."""

    figure: str
    contender: str
    is_limit: bool
    verdict: Literal["slower", "faster"]
    before: float
    after: float
    #: The whole in words.
    told: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison of two reports says."""

    #: When the earlier one was made.
    earlier_at: str
    #: What must be known before it is believed.
    remarks: list[str]
    changes: list[Change]
    #: How many contenders are as they were, can't be judged, and were not in the earlier run.
    same: int
    unsure: int
    new: int


def is_rate(unit: str) -> bool:
    """Whether more of it is better."""
    return unit.endswith("/s")


def compare(now: Report, earlier: Report) -> Comparison:
    """Compare what both reports have."""
    changes: list[Change] = []
    counts = {"same": 0, "unsure": 0, "new": 0}
    known = {(figure.name, name_of(row)): row for figure in earlier.figures for row in figure.rows}
    for figure in now.figures:
        for row in figure.rows:
            before = known.get((figure.name, name_of(row)))
            if before is None:
                counts["new"] += 1
                continue
            verdict = _verdict(row, before, rate=is_rate(figure.unit))
            if verdict == "same" or verdict == "unsure":
                counts[verdict] += 1
            else:
                changes.append(_change(figure, row, before, verdict))
    return Comparison(earlier_at=earlier.made_at, remarks=list(_remarks(now, earlier)), changes=changes, **counts)


def _verdict(now: Row, before: Row, *, rate: bool) -> _Verdict:
    if min(len(now.values), len(before.values)) < _RUNS_MIN:
        return "unsure"
    if abs(now.median - before.median) < _APART * before.median:
        return "same"
    if now.high < before.low:
        return "slower" if rate else "faster"
    if now.low > before.high:
        return "faster" if rate else "slower"
    return "same"


def _change(figure: FigureReport, row: Row, before: Row, verdict: Literal["slower", "faster"]) -> Change:
    told = (
        f"{figure.name}, {name_of(row)}: {number(row.median)} {figure.unit} ({number(row.low)} … {number(row.high)}), "
        f"then {number(before.median)} ({number(before.low)} … {number(before.high)})"
    )
    return Change(
        figure=figure.name,
        contender=name_of(row),
        is_limit=row.is_limit,
        verdict=verdict,
        before=before.median,
        after=row.median,
        told=told + ("; it is a limit, so it says something about the machine" if row.is_limit else ""),
    )


def _remarks(now: Report, earlier: Report) -> Iterator[str]:
    for field in ("cpu", "cores", "kernel", "filesystem", "python"):
        here, there = getattr(now.machine, field), getattr(earlier.machine, field)
        if here != there:
            yield f"The {field} is another: {here}, then {there}."
    for name, version in now.machine.versions.items():
        if earlier.machine.versions.get(name, version) != version:
            yield f"The version of {name} is another: {version}, then {earlier.machine.versions[name]}."
    if now.smoke or earlier.smoke:
        yield "At least one of them is a smoke run: sizes too small to compare."
