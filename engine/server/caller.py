"""Who calls, as far as a server knows: the role of its token, and where the call stands in a distributed trace.

Here: two variables of the context. They are set where a task is made for a request, and read at the `edge` and by
telemetry.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["calling_as", "role_of_caller", "trace_of_caller"]

_role: ContextVar[str | None] = ContextVar("millstream_role", default=None)
_trace: ContextVar[str | None] = ContextVar("millstream_trace", default=None)


def role_of_caller() -> str | None:
    """The role; None in process, where there is none."""
    return _role.get()


def trace_of_caller() -> str | None:
    """The ``traceparent`` of a request over HTTP; None elsewhere. A command has its own, as metadata."""
    return _trace.get()


@contextmanager
def calling_as(role: str | None, trace: str | None = None) -> Iterator[None]:
    """In this block, a caller of this role is served, who stands there in a trace."""
    tokens = _role.set(role), _trace.set(trace)
    try:
        yield
    finally:
        _role.reset(tokens[0])
        _trace.reset(tokens[1])
