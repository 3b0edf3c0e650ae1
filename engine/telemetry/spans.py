"""Spans of what an engine does by itself: one for each commit, with links, and one for each attempt at an effect.

Here: an observer. Not here: spans of what callers ask for (`traced`).

A commit is shared by all whose commands lie in it, so it belongs to none of their traces: its span begins a trace of
its own, and has links to those that are sampled. A view's work has no span: the metrics show how far behind it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider

from millstream.engine.loop.clock import Clock, utc_now
from millstream.engine.observers import Observer
from millstream.engine.telemetry.traces import context_of, links_to

__all__ = ["Spans"]

_NAME = "millstream"
_NANOSECONDS = 1_000_000_000


class Spans(Observer):
    """A span for each commit and each attempt at an effect: ``Engine(app, log="bank.db", observers=[Spans()])``.

    Args:
        provider: whose spans they are, and who samples; by default the one that the process has set, without which
            nothing is recorded.
        links_max: how many links the span of a commit has at most.
        clock: the time of day.
    """

    def __init__(self, provider: TracerProvider | None = None, *, links_max: int = 100, clock: Clock = utc_now) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=provider)
        self._links_max = links_max
        self._clock = clock

    def traced(
        self, *, commit: int, position: int, commands: int, events: int, seconds: float, traces: Sequence[str]
    ) -> None:
        """A commit is durable."""
        ended = self._now()
        span = self._tracer.start_span(
            "millstream commit",
            Context(),
            kind=SpanKind.INTERNAL,
            attributes={
                "millstream.commit": commit,
                "millstream.position": position,
                "millstream.commands": commands,
                "millstream.events": events,
            },
            links=links_to(traces, self._links_max),
            start_time=ended - round(seconds * _NANOSECONDS),
        )
        span.end(ended)

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
        """An attempt at an effect has ended: a child of what led to it, if that says where it stands in a trace."""
        ended = self._now()
        span = self._tracer.start_span(
            f"effect {effect}",
            context_of(trace) or Context(),
            kind=SpanKind.CLIENT,
            attributes={
                "millstream.effect": effect,
                "millstream.position": position,
                "millstream.attempt": number,
                **({} if key is None else {"millstream.key": key}),
            },
            start_time=ended - round(seconds * _NANOSECONDS),
        )
        if error is not None:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR, type(error).__name__)
        span.end(ended)

    def _now(self) -> int:
        return round(self._clock().timestamp() * _NANOSECONDS)
