"""Where something stands in a distributed trace: W3C's text (https://www.w3.org/TR/trace-context/) and OpenTelemetry's
own context, each made from the other.

Here: only that. Not here: spans (`spans`, `traced`).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from millstream.engine.application.messages import Metadata

__all__ = ["context_of", "links_to", "text_of", "with_trace"]

_HEADER = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()


def context_of(text: str | None) -> Context | None:
    """OpenTelemetry's context of a ``traceparent``; None if there is none, or it can't be read."""
    if text is None:
        return None
    context = _PROPAGATOR.extract({_HEADER: text}, Context())
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def text_of(span: Span) -> str | None:
    """The ``traceparent`` of a span; None if it is none that anything could be a child of."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(_HEADER)


def links_to(texts: Iterable[str], links_max: int) -> list[Link]:
    """Links to the first of these that are sampled."""
    found: list[Link] = []
    for text in texts:
        if len(found) >= links_max:
            break
        if (context := context_of(text)) is not None:
            span_context = trace.get_current_span(context).get_span_context()
            if span_context.trace_flags.sampled:
                found.append(Link(span_context))
    return found


def with_trace(metadata: Metadata | None = None) -> Metadata | None:
    """The metadata with the current span of this task as its ``trace``; as they are if there is none, or they have one.

    For callers: ``await client.execute(command, metadata=with_trace())``. What the command leads to, on the other side
    of a socket, in reactions, timers and effects, then belongs to the caller's trace.
    """
    if (metadata is not None and metadata.trace is not None) or (text := text_of(trace.get_current_span())) is None:
        return metadata
    return Metadata(trace=text) if metadata is None else replace(metadata, trace=text)
