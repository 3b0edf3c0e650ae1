"""Telemetry as the options of ``serve`` and ``replica`` want it.

Here: what observes an engine or replica, and what is put around it. Not here: the options (`serving`), and anything of
the extra `telemetry`, which is imported only where it is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from millstream.engine.edge import Edge, Middleware
from millstream.engine.observers import Observer
from millstream.engine.server.backend import Backend

if TYPE_CHECKING:
    from millstream.engine.telemetry import Metrics

__all__ = ["Watching"]


class Watching(NamedTuple):
    """The metrics, if they are wanted, the observers, and the middleware; nothing of it by default."""

    metrics: Metrics | None = None
    observers: Sequence[Observer] = ()
    middleware: Sequence[Middleware] = ()

    def around(self, backend: Backend) -> Backend:
        """An open engine or replica as it is served."""
        if self.metrics is not None:
            self.metrics.watch(backend)
        return Edge(backend, self.middleware) if self.middleware else backend
