"""A report as a page of Markdown, for a repository: every figure as a table. Its plots are in the page of HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from millstream.bench.summary import FigureReport, Report, Row
from millstream.bench.wording import facts_of, headings_of, judged, kinds_of, name_of, number, reached, wanted

__all__ = ["markdown_of"]

_VERDICT = {True: "met", False: "**missed**", None: ""}


def markdown_of(report: Report) -> str:
    """The whole page."""
    parts = [
        "# millstream, measured",
        "",
        *_table(["", ""], ([name, _text(fact)] for name, fact in facts_of(report).items())),
    ]
    if report.smoke:
        parts += ["", "**Smoke: sizes too small to measure anything. It shows only that everything runs.**"]
    rows = judged(report)
    if rows:
        met = sum(bool(row.met) for _, row in rows)
        parts += ["", f"## Goals: {met} of {len(rows)} met", ""]
        told = [
            [figure.name, _text(name_of(row)), _text(reached(row)), _text(wanted(row.goal)), _VERDICT[row.met]]
            for figure, row in rows
        ]
        parts += _table(["figure", "contender", "reached", "goal", ""], told)
    for figure in report.figures:
        parts += ["", *_figure(figure)]
    return "\n".join(parts) + "\n"


def _figure(figure: FigureReport) -> Iterator[str]:
    yield f"## {figure.name}: {_text(figure.title)}"
    yield ""
    if figure.about:
        yield f"{_text(figure.about)}\n"
    limits, details = headings_of(figure)
    heads = ["contender", figure.unit, "lowest … highest", *(f"÷ {limit}" for limit in limits), "goal", *details]
    yield from _table(heads, (_cells(row, limits, details) for row in figure.rows))
    yield ""
    for labels, what, durability in kinds_of(figure):
        yield f"- {_text(labels)}: {_text(what)}; {_text(durability)}"
    for label, needed in figure.skipped.items():
        yield f"- {_text(label)}: skipped, because {_text(' and '.join(needed))} can't be found"


def _cells(row: Row, limits: Iterable[str], details: Iterable[str]) -> list[str]:
    return [
        _text(name_of(row)),
        number(row.median),
        f"{number(row.low)} … {number(row.high)}" if len(row.values) > 1 else "",
        *(f"{row.ratios[limit]:.2f}" if limit in row.ratios else "" for limit in limits),
        f"{_text(wanted(row.goal))} {_VERDICT[row.met]}".strip(),
        *(number(row.details[name]) if name in row.details else "" for name in details),
    ]


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table of headings that are text, and cells that are Markdown already."""
    heads = [_text(head) for head in heads]
    yield _line(heads)
    yield "|" + "---|" * len(heads)
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Text that stays text in Markdown."""
    return re.sub(r"([\\|*_<>\[\]`])", r"\\\1", text)
