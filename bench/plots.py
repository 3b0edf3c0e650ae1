"""Plots of a report, each one SVG that can stand in a page. Needs matplotlib, the extra ``millstream[bench]``.

Text stays text, and its colour is that of the page around it, so that a page may be light or dark. Subjects have
colours, one for each event loop; limits are grey.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator

from millstream.bench.measure import LATENCY, MEMORY
from millstream.bench.summary import FigureReport, Row
from millstream.bench.wording import name_of, number

__all__ = ["plots_of"]

_COLOURS = {"asyncio": "#3b6fd4", "uvloop": "#d9822b", None: "#3b6fd4"}
_LIMIT = "#9a9a9a"
#: Stands for the page's own colour while matplotlib draws, which knows no such thing.
_INK = "#010203"
_WIDTH = 9.2
_LINES = ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "millstream",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "grid.color": "#8888884d",
}


def plots_of(figure: FigureReport) -> Iterator[str]:
    """The plots that a figure has: bars always, and curves where it has what they are made of."""
    with mpl.rc_context(_STYLE):
        yield _bars(figure)
        if any(LATENCY in row.series for row in figure.rows):
            yield _latencies(figure)
        if any("keys" in row.details for row in figure.rows):
            yield _sizes(figure)
        if any(MEMORY in row.series for row in figure.rows):
            yield _memory(figure)


def _bars(figure: FigureReport) -> str:
    rows = figure.rows[::-1]
    canvas = Canvas(figsize=(_WIDTH, 0.62 + 0.32 * len(rows)), layout="constrained")
    axes = canvas.add_subplot()
    places = range(len(rows))
    medians = [row.median for row in rows]
    axes.barh(places, medians, height=0.62, color=[_colour(row) for row in rows])
    spread = [[row.median - row.low for row in rows], [row.high - row.median for row in rows]]
    if any(map(any, spread)):
        axes.errorbar(medians, places, xerr=spread, fmt="none", ecolor=_INK, elinewidth=1, capsize=3)
    longest = max(row.high for row in rows)
    for place, row in zip(places, rows, strict=True):
        axes.text(max(row.high, row.median) + longest * 0.012, place, number(row.median), va="center")
    axes.set_yticks(places, [name_of(row) for row in rows])
    axes.set_xlim(0, longest * 1.12)
    _numbers(axes, "x")
    axes.set_xlabel(f"{figure.unit}, {'more' if figure.unit.endswith('/s') else 'less'} is better")
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return _svg(canvas, f"{figure.title}: {figure.unit} of each contender")


def _latencies(figure: FigureReport) -> str:
    canvas, axes = _axes()
    rows = [row for row in figure.rows if LATENCY in row.series]
    for row, line in _with_lines(rows):
        points = row.series[LATENCY]
        shares = [-math.log10(1 - share) for share, _ in points]
        axes.plot(shares, [ms for _, ms in points], line, color=_colour(row), label=name_of(row), linewidth=1.6)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    furthest = max(share for row in rows for share, _ in row.series[LATENCY])
    ticks = [share for share in (0.5, 0.9, 0.99, 0.999, 0.9999) if share <= furthest]
    axes.set_xticks([-math.log10(1 - share) for share in ticks], [f"{share * 100:g} %" for share in ticks])
    axes.set_xlabel("so many of all took no longer than that")
    axes.set_ylabel("milliseconds")
    _numbers(axes, "y")
    return _legend(canvas, axes, f"{figure.title}: latency by percentile")


def _sizes(figure: FigureReport) -> str:
    canvas, axes = _axes()
    for loop in dict.fromkeys(row.loop for row in figure.rows):
        rows = sorted((row for row in figure.rows if row.loop == loop), key=_size)
        sizes, costs = [row.details["events"] for row in rows], [row.median for row in rows]
        spread = [[row.median - row.low for row in rows], [row.high - row.median for row in rows]]
        axes.errorbar(
            sizes, costs, yerr=spread, fmt="o", color=_COLOURS[loop], label=loop or figure.unit, capsize=3, markersize=5
        )
        for row in rows:
            label = f"{number(row.details['keys'])} keys"
            axes.annotate(label, (row.details["events"], row.median), (6, 5), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("events in the log")
    axes.set_ylabel(figure.unit)
    _numbers(axes, "x")
    return _legend(canvas, axes, f"{figure.title}: cost against size")


def _size(row: Row) -> tuple[float, float]:
    return row.details["events"], row.details["keys"]


def _memory(figure: FigureReport) -> str:
    canvas, axes = _axes()
    for row, line in _with_lines([row for row in figure.rows if MEMORY in row.series]):
        points = row.series[MEMORY]
        axes.plot([at for at, _ in points], [mb for _, mb in points], line, color=_colour(row), label=name_of(row))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("memory of the process, MB")
    return _legend(canvas, axes, f"{figure.title}: memory over time")


def _axes() -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(_WIDTH, 3.6), layout="constrained")
    axes = canvas.add_subplot()
    axes.grid()
    axes.set_axisbelow(True)
    return canvas, axes


def _legend(canvas: Canvas, axes: Axes, title: str) -> str:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return _svg(canvas, title)


def _with_lines(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """Each with a line of its own, among those of its colour."""
    used: dict[str, int] = {}
    for row in rows:
        colour = _colour(row)
        number_of = used[colour] = used.get(colour, -1) + 1
        yield row, _LINES[number_of % len(_LINES)]


def _colour(row: Row) -> str:
    return _LIMIT if row.is_limit else _COLOURS.get(row.loop, _COLOURS[None])


def _numbers(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_formatter(lambda value, _: "")


def _svg(canvas: Canvas, title: str) -> str:
    """The drawing as an element of a page, with a name for those who can't see it."""
    file = io.StringIO()
    canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return text.replace("<svg", f'<svg role="img" aria-label="{_attribute(title)}"', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
