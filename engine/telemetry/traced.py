"""Spans of what callers ask for: a middleware with a span around each command and each question.

Here: the span, and handing its place in the trace on with the command. Not here: sampling; that is the provider's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from millstream.engine.application.messages import Answered, Metadata, Receipt
from millstream.engine.edge import Ask, Asking, Execute, Executing, Middleware
from millstream.engine.errors import MillstreamError
from millstream.engine.server.caller import trace_of_caller
from millstream.engine.telemetry.traces import context_of, text_of

__all__ = ["Traced"]


class Traced(Middleware):
    """A span around each command and each question of a caller: ``Edge(engine, [Traced()])``.

    It is a child of where the caller says that it stands (``traceparent`` over HTTP, `Metadata.trace` elsewhere), else
    of the current span of the task. A command carries the place of its span on, to its reactions, timers and effects;
    where the provider does not sample it, what the caller has said goes on as it is.

    Args:
        provider: whose spans they are, and who samples; by default the one that the process has set.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("millstream", tracer_provider=provider)

    async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
        """A span ``execute Deposit``."""
        metadata = asked.metadata
        parent = context_of(None if metadata is None else metadata.trace)
        with self._span(f"execute {type(asked.command).__name__}", parent) as span:
            if span.is_recording():
                if asked.command_id is not None:
                    span.set_attribute("millstream.command_id", asked.command_id)
                asked = replace(asked, metadata=replace(metadata or Metadata(), trace=text_of(span)))
            receipt = await proceed(asked)
            span.set_attributes({"millstream.commit": receipt.commit, "millstream.position": receipt.position})
            return receipt

    async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
        """A span ``ask BalanceOf``; of a watch around its beginning."""
        name, parent = f"{'watch' if asked.is_watch else 'ask'} {type(asked.query).__name__}", trace_of_caller()
        with self._span(name, context_of(parent)) as span:
            answered = await proceed(asked)
            span.set_attribute("millstream.position", answered.position)
            return answered

    @contextmanager
    def _span(self, name: str, parent: Context | None) -> Iterator[Span]:
        with self._tracer.start_as_current_span(
            name, parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                # What a rule refuses is an outcome, and no error of the server.
                kind = type(error).__name__
                span.set_attribute("error.type", kind)
                if not isinstance(error, MillstreamError):
                    span.record_exception(error)
                    span.set_status(StatusCode.ERROR, kind)
                raise
