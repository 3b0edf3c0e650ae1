"""The metrics, as one table: what each is called, what kind it is, its labels, and what it says.

Here: names and words. Not here: who counts (`metrics`, `measured`), and what figures are read (`scraped`).

Names are Prometheus' own: a unit last, ``_total`` for what only grows. The one of HTTP is that of OpenTelemetry's
semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-metrics/), as Prometheus writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

__all__ = ["METRICS", "Metric"]


class Metric(NamedTuple):
    """One metric: its kind, its labels, and what it says. A histogram has buckets, in its unit."""

    kind: Literal["counter", "gauge", "histogram"]
    says: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


#: In seconds, from a tenth of a millisecond to ten seconds: a commit on a good disk is 0.2 ms, a slow one a second.
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_COMMANDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0)

#: By name.
METRICS: Mapping[str, Metric] = {
    # Counted as it happens.
    "millstream_commits_total": Metric("counter", "commits that are durable"),
    "millstream_commands_total": Metric("counter", "commands that are durable"),
    "millstream_events_total": Metric("counter", "events that are durable"),
    "millstream_log_bytes_total": Metric("counter", "bytes of the bodies of commits"),
    "millstream_commit_duration_seconds": Metric(
        "histogram", "from handing a commit to the store until it was durable, fsync included", (), _SECONDS
    ),
    "millstream_commit_commands": Metric("histogram", "commands in a commit", (), _COMMANDS),
    "millstream_commits_failed_total": Metric("counter", "commits that the store did not take, or could not vouch for"),
    "millstream_application_failures_total": Metric(
        "counter", "times that a handler, an applier, an answer or an effect raised", ("place",)
    ),
    "millstream_effect_duration_seconds": Metric(
        "histogram", "how long an attempt at an effect took", ("effect", "outcome"), _SECONDS
    ),
    "millstream_snapshots_total": Metric("counter", "times that snapshots of everything were stored"),
    "millstream_snapshot_failures_total": Metric("counter", "parts that could not be stored", ("part",)),
    # Read from `stats` and `health` when metrics are asked for.
    "millstream_ready": Metric("gauge", "1 if it does what it is for, else 0; see /health/ready", ("role",)),
    "millstream_position": Metric("gauge", "position of the last event that is durable"),
    "millstream_mailbox_commands": Metric("gauge", "commands that wait in the mailbox"),
    "millstream_mailbox_commands_max": Metric("gauge", "how many may wait there"),
    "millstream_mailbox_entering": Metric("gauge", "callers that wait for room in the mailbox"),
    "millstream_commands_refused_total": Metric("counter", "commands that a handler or a check refused"),
    "millstream_commands_failed_total": Metric("counter", "commands that failed because the store did"),
    "millstream_clock_ahead_seconds": Metric("gauge", "how far the log is ahead of the clock: timers wait for it"),
    "millstream_view_position": Metric("gauge", "position up to which a view has applied the log", ("view",)),
    "millstream_view_lag_events": Metric("gauge", "published events that a view has not applied", ("view",)),
    "millstream_view_queued_commits": Metric("gauge", "commits that wait for a view", ("view",)),
    "millstream_view_answers": Metric(
        "gauge", "1 if a view answers, 0 while it opens, is faulted or closed", ("view",)
    ),
    "millstream_view_parked_events": Metric("gauge", "events that a view could not apply and keeps", ("view",)),
    "millstream_view_detached_total": Metric("counter", "times that a view's queue was full", ("view",)),
    "millstream_view_watches": Metric("gauge", "open watches of a view", ("view",)),
    "millstream_effects_owed": Metric(
        "gauge", "effects that are owed, those that are being performed included", ("effect",)
    ),
    "millstream_effects_running": Metric("gauge", "effects that are being performed", ("effect",)),
    "millstream_effects_parked": Metric("gauge", "effects that are parked", ("effect",)),
    "millstream_effects_paused": Metric("gauge", "1 if an operator has paused them, else 0", ("effect",)),
    "millstream_snapshot_position": Metric("gauge", "position up to which states are in snapshots"),
    "millstream_snapshot_age_seconds": Metric("gauge", "seconds since snapshots were stored by this process"),
    "millstream_replica_lag_seconds": Metric("gauge", "how long ago the first event was recorded that a replica lacks"),
    # Counted at the edge, by `Measured`.
    "millstream_command_duration_seconds": Metric(
        "histogram", "how long a caller waited for a command", ("command", "outcome"), _SECONDS
    ),
    "millstream_query_duration_seconds": Metric(
        "histogram", "how long a caller waited for an answer", ("query", "outcome"), _SECONDS
    ),
    # Counted by a `WebApp`.
    "http_server_request_duration_seconds": Metric(
        "histogram",
        "how long a request over HTTP took; of a stream until it ended",
        ("http_request_method", "http_route", "http_response_status_code"),
        _SECONDS,
    ),
}
