"""The plot: how late flights leave, by the hour for which they were scheduled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.flights.delays import HourDelay

__all__ = ["plot_delays"]

#: Fewer departures in an hour than this say nothing about the hour.
DEPARTED_MIN = 30

_NAMES = {"EWR": "Newark", "JFK": "Kennedy", "LGA": "LaGuardia"}
_COLOURS = {"EWR": "#c2571a", "JFK": "#2a6f97", "LGA": "#5b8c3e"}


def plot_delays(path: Path, everywhere: Sequence[HourDelay], airports: Mapping[str, Sequence[HourDelay]]) -> None:
    """Draw mean delays by hour: bars for all flights, a line for each airport. Written as PNG to ``path``."""
    figure = Figure(figsize=(10, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = _shown(everywhere)
    axes.bar([h.hour for h in shown], [h.delay.mean for h in shown], width=0.8, color="#d9dee3", label="all three")
    for airport, hours in airports.items():
        line = _shown(hours)
        axes.plot(
            [h.hour for h in line],
            [h.delay.mean for h in line],
            color=_COLOURS.get(airport),
            label=f"{_NAMES.get(airport, airport)} ({airport})",
            linewidth=2,
            marker="o",
            markersize=4,
        )
    departed = sum(h.delay.departed for h in everywhere)
    figure.suptitle("Delays build up through the day", x=0.01, ha="left", fontsize=15, fontweight="bold")
    axes.set_title(
        f"Mean delay of {departed:,} departures from New York in 2013, by scheduled hour", loc="left", fontsize=11
    )
    axes.set_xlabel("scheduled hour of departure, New York time")
    axes.set_ylabel("minutes late (early ones count as negative)")
    axes.set_xticks([h.hour for h in shown], [f"{h.hour:02}:00" for h in shown], rotation=45, fontsize=9)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e8e8e8")
    axes.set_axisbelow(True)
    if shown:
        axes.legend(frameon=False, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _shown(hours: Sequence[HourDelay]) -> list[HourDelay]:
    return [hour for hour in hours if hour.delay.departed >= DEPARTED_MIN]
