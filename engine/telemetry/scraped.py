"""Metrics that are figures of the moment: read from `stats` and `health` when they are asked for, and kept nowhere.

Here: which figure is which metric. Not here: what is counted as it happens (`metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millstream.engine.health import Observed, health_of
from millstream.engine.loop.clock import elapsed
from millstream.engine.stats import EffectStats, EngineStats, ReplicaStats, ViewStats, WriterStats
from millstream.engine.telemetry.names import METRICS

__all__ = ["Scraped"]

T = TypeVar("T")
#: A value and its labels.
_Sample = tuple[float, tuple[str, ...]]


class Scraped(Collector):
    """The figures of one engine or replica, as metrics."""

    def __init__(self) -> None:
        #: What is read; None: nothing.
        self.observed: Observed | None = None
        self._snapshots_at: float | None = None

    def snapshots_taken(self) -> None:
        """Snapshots were stored just now."""
        self._snapshots_at = elapsed()

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on what is open."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        if self.observed is None:
            return
        for name, samples in self._figures(self.observed).items():
            metric = METRICS[name]
            family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                name, metric.says, labels=metric.labels
            )
            for value, labels in samples:
                family.add_metric(labels, value)
            yield family

    def _figures(self, observed: Observed) -> dict[str, list[_Sample]]:
        stats, health = observed.stats(), health_of(observed)
        found: dict[str, list[_Sample]] = {
            "millstream_ready": [(health.ready, (health.role,))],
            "millstream_position": [(health.position, ())],
        }
        if self._snapshots_at is not None:
            found["millstream_snapshot_age_seconds"] = [(elapsed() - self._snapshots_at, ())]
        if isinstance(stats, EngineStats):
            found |= _writer(stats.writer) | _by_label(_effect, stats.effects)
            found["millstream_snapshot_position"] = [(stats.snapshot_position, ())]
        if isinstance(stats, ReplicaStats):
            found["millstream_replica_lag_seconds"] = [(stats.lag_seconds, ())]
        return found | _by_label(_view, stats.views)


def _writer(stats: WriterStats) -> dict[str, list[_Sample]]:
    return {
        "millstream_mailbox_commands": [(stats.mailbox_commands, ())],
        "millstream_mailbox_commands_max": [(stats.mailbox_commands_max, ())],
        "millstream_mailbox_entering": [(stats.mailbox_entering, ())],
        "millstream_commands_refused_total": [(stats.commands_refused, ())],
        "millstream_commands_failed_total": [(stats.commands_failed, ())],
        "millstream_clock_ahead_seconds": [(stats.seconds_ahead, ())],
    }


def _view(stats: ViewStats) -> dict[str, float]:
    return {
        "millstream_view_position": stats.position,
        "millstream_view_lag_events": stats.lag_events,
        "millstream_view_queued_commits": stats.queued_commits,
        "millstream_view_answers": stats.status not in ("opening", "faulted", "closed"),
        "millstream_view_parked_events": stats.parked,
        "millstream_view_detached_total": stats.detached,
        "millstream_view_watches": stats.watches,
    }


def _effect(stats: EffectStats) -> dict[str, float]:
    return {
        "millstream_effects_owed": stats.owed,
        "millstream_effects_running": stats.running,
        "millstream_effects_parked": stats.parked,
        "millstream_effects_paused": stats.is_paused,
    }


def _by_label(figures_of: Callable[[T], dict[str, float]], by_name: Mapping[str, T]) -> dict[str, list[_Sample]]:
    found: dict[str, list[_Sample]] = {}
    for name, stats in by_name.items():
        for metric, value in figures_of(stats).items():
            found.setdefault(metric, []).append((value, (name,)))
    return found
