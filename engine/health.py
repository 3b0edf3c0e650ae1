"""Is it alive, and is it of use: two questions, one for what restarts a process and one for what routes to it.

Here: the answer, from the figures of one moment. Not here: who asks (`server`, `web`), and the figures (`stats`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from millstream.engine.stats import EngineStats, Health, ViewStats

__all__ = ["Observed", "health_of"]

#: What a view is doing when it answers no query.
_ANSWERS_NONE = ("opening", "faulted", "closed")


class _Figures(Protocol):
    @property
    def views(self) -> Mapping[str, ViewStats]: ...


class Observed(Protocol):
    """What is looked at: an open engine or replica."""

    @property
    def status(self) -> str:
        """``open``, or what it is instead."""
        ...

    @property
    def role(self) -> Any:
        """``writer`` or ``replica``."""
        ...

    @property
    def not_ready(self) -> list[str]:
        """What keeps it from deciding commands, in words."""
        ...

    @property
    def position(self) -> int:
        """The last event that it knows to be durable."""
        ...

    def stats(self) -> _Figures:
        """Figures of this moment."""
        ...


def health_of(observed: Observed, *, names_views: bool = True) -> Health:
    """Of an engine or a replica, now.

    Args:
        observed: which.
        names_views: whether reasons name views. To one who has not authenticated they don't.
    """
    stats, reasons = observed.stats(), []
    if str(observed.status) != "open":
        reasons.append(f"it is {observed.status}")
    reasons += observed.not_ready
    reasons += [
        f"view {name} is {view.status}" if names_views else f"a view is {view.status}"
        for name, view in stats.views.items()
        if view.status in _ANSWERS_NONE
    ]
    lag = max((view.lag_events for view in stats.views.values()), default=0)
    ahead = stats.writer.seconds_ahead if isinstance(stats, EngineStats) else 0.0
    return Health(True, not reasons, observed.role, observed.position, lag, reasons, ahead)
