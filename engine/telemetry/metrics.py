"""Metrics for Prometheus: an observer that counts what an engine or a replica does, and says it when it is asked.

Here: counting, and the text that Prometheus reads. Not here: what the metrics are (`names`), what is read from figures
of the moment (`scraped`), and what callers wait for (`measured`).

Invariant: nothing here is called for a command; a commit costs six additions.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from millstream.engine.health import Observed
from millstream.engine.observers import Observer
from millstream.engine.telemetry.names import METRICS
from millstream.engine.telemetry.scraped import Scraped

__all__ = ["Metrics"]

_KINDS: dict[str, type[Counter] | type[Gauge]] = {"counter": Counter, "gauge": Gauge}


class Metrics(Observer):
    """What an engine or a replica does, for Prometheus: ``Engine(app, log="bank.db", observers=[metrics])``.

    One belongs to one engine or replica. Give it to `watch` when that is open, as lags, mailbox and effects are read
    from there; and to a `WebApp`, which has ``/metrics`` then.

    Args:
        registry: where the metrics are registered; by default one of its own, with those of the process
            (``process_resident_memory_bytes`` and others).
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        if registry is None:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
        self._scraped = Scraped()
        self.registry.register(self._scraped)
        self._commits = self._made("millstream_commits_total")
        self._commands = self._made("millstream_commands_total")
        self._events = self._made("millstream_events_total")
        self._bytes = self._made("millstream_log_bytes_total")
        self._commit_seconds = self._made("millstream_commit_duration_seconds")
        self._commit_commands = self._made("millstream_commit_commands")
        self._commits_failed = self._made("millstream_commits_failed_total")
        self._failures = self._made("millstream_application_failures_total")
        self._effect_seconds = self._made("millstream_effect_duration_seconds")
        self._snapshots = self._made("millstream_snapshots_total")
        self._snapshot_failures = self._made("millstream_snapshot_failures_total")
        #: For `Measured`, and for a `WebApp`.
        self.command_seconds = self._made("millstream_command_duration_seconds")
        self.query_seconds = self._made("millstream_query_duration_seconds")
        self._http_seconds = self._made("http_server_request_duration_seconds")

    def watch(self, observed: Observed | None) -> None:
        """Read the figures of this engine, replica or edge from now on, at each time that metrics are asked for."""
        self._scraped.observed = observed

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The text for Prometheus, and its content type, by what the ``Accept`` of a request says."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request over HTTP was answered, or its stream has ended."""
        self._http_seconds.labels(method, route, str(status)).observe(seconds)

    # As an observer.

    def committed(
        self, *, commit: int, position: int, commands: int, events: int, size_bytes: int, seconds: float
    ) -> None:
        """One more commit."""
        self._commits.inc()
        self._commands.inc(commands)
        self._events.inc(events)
        self._bytes.inc(size_bytes)
        self._commit_seconds.observe(seconds)
        self._commit_commands.observe(commands)

    def commit_failed(self, *, log: str, commit: int, error: BaseException, cause: BaseException | None) -> None:
        """One that was not taken."""
        self._commits_failed.inc()

    def application_failed(
        self, *, place: str, message: str, error: BaseException, left_out: int, correlation: str | None
    ) -> None:
        """The application's code has raised; so many times more since the last time."""
        self._failures.labels(place).inc(1 + left_out)

    def attempted(
        self,
        *,
        effect: str,
        key: str | None,
        position: int,
        number: int,
        seconds: float,
        error: BaseException | None,
        trace: str | None,
    ) -> None:
        """An attempt at an effect."""
        self._effect_seconds.labels(effect, "failed" if error else "done").observe(seconds)

    def snapshots_taken(self, *, position: int, parts: int, seconds: float) -> None:
        """Everything is in snapshots."""
        self._snapshots.inc()
        self._scraped.snapshots_taken()

    def snapshot_failed(self, *, part: str, error: BaseException) -> None:
        """A part is not."""
        self._snapshot_failures.labels(part).inc()

    def _made(self, name: str) -> Any:
        metric = METRICS[name]
        if metric.kind == "histogram":
            return Histogram(name, metric.says, metric.labels, registry=self.registry, buckets=metric.buckets)
        return _KINDS[metric.kind](name, metric.says, metric.labels, registry=self.registry)
