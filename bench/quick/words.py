"""The answers in words: what millstream did, and what that is beside something else. Plain functions and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from millstream.bench.quick.questions import Question
from millstream.bench.summary import FigureReport, Row
from millstream.bench.wording import number

__all__ = ["Answer", "Line", "answer_of", "beside_words", "not_there", "spread_words"]

#: Ratios between these are none that a reader should remember.
_ALIKE_MIN, _ALIKE_MAX = 0.9, 1.1
#: Runs further apart than that are explained.
_SPREAD_TOLD = 0.2


class Line(msgspec.Struct, frozen=True):
    """What stands beside millstream."""

    words: str
    value: str
    #: What millstream does beside it.
    ratio: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A question's part of the table."""

    done: str
    unit: str
    value: str
    beside: Sequence[Line]


def answer_of(question: Question, figure: FigureReport) -> Answer:
    """What a question came to."""
    (mine,) = (row for row in figure.rows if not row.is_limit)
    words = {each.label: each.words for each in question.beside}
    is_rate = question.unit.endswith("a second")
    beside = [
        Line(words[row.label], number(row.median), beside_words(mine.ratios[row.label], is_rate=is_rate))
        for row in figure.rows
        if row.is_limit
    ]
    return Answer(done=question.done, unit=question.unit, value=number(mine.median), beside=beside)


def beside_words(ratio: float, *, is_rate: bool) -> str:
    """A ratio of millstream to something else: of rates, which are better the higher they are, or of times."""
    noun = "as many" if is_rate else "as long"
    if _ALIKE_MIN <= ratio <= _ALIKE_MAX:
        return f"about {noun}"
    if ratio < 1:
        return f"{_percent(ratio)} {noun}"
    return f"{ratio:.1f} times {noun}" if ratio < 10 else f"{ratio:,.0f} times {noun}"


def spread_words(figures: Iterable[FigureReport]) -> str:
    """How far the runs of one contender were apart at most; a reader believes ratios accordingly."""
    rows = [(figure, row) for figure in figures for row in figure.rows]
    figure, widest = max(rows, key=lambda each: _spread(each[1]))
    if len(widest.values) == 1:
        return "One run of each: chance alone may make a quarter of difference."
    told = f"Runs of one and the same differed by up to {_percent(_spread(widest))}"
    if _spread(widest) <= _SPREAD_TOLD:
        return f"{told}."
    return f"{told} ({widest.label}, {figure.title}): something else was busy, too. Believe no smaller difference."


def not_there(figures: Iterable[FigureReport]) -> list[str]:
    """What would stand beside millstream if it were installed."""
    return list(dict.fromkeys(label for figure in figures for label in figure.skipped))


def _spread(row: Row) -> float:
    return (row.high - row.low) / row.median


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.01 else f"{share * 100:.1g} %"
