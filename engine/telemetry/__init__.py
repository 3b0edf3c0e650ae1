"""Telemetry: metrics for Prometheus and spans for OpenTelemetry, as observers and middleware of an engine."""

from millstream.engine.telemetry.measured import Measured
from millstream.engine.telemetry.metrics import Metrics
from millstream.engine.telemetry.spans import Spans
from millstream.engine.telemetry.traced import Traced
from millstream.engine.telemetry.traces import with_trace

__all__ = ["Measured", "Metrics", "Spans", "Traced", "with_trace"]
