"""Is it alive, and is it of use: two questions, one for what restarts a process and one for what routes to it."""

from __future__ import annotations

import msgspec

from millstream.engine.read.actor import ViewStatus
from millstream.engine.server.backend import Backend
from millstream.engine.stats import EngineStats

__all__ = ["Health", "health_of"]


class Health(msgspec.Struct, frozen=True):
    """``live``: the process answers at all; restart it if it does not. ``ready``: it does what it is for; ``reasons``
    say what is missing. ``role`` is ``writer`` or ``replica``. ``position`` is that of the last event that it knows to
    be durable, ``lag_events`` how many of those its slowest view has not applied. ``seconds_ahead`` is how far the
    writer's log is ahead of the clock, where that is worth a word: timers wait for the clock, all else is done.
    """

    live: bool
    ready: bool
    role: str
    position: int
    lag_events: int
    reasons: list[str]
    seconds_ahead: float = 0.0


def health_of(backend: Backend, *, names_views: bool = True) -> Health:
    """Of an engine or a replica, now.

    Args:
        backend: which.
        names_views: whether reasons name views. To one who has not authenticated they don't.
    """
    stats, reasons = backend.stats(), []
    if str(backend.status) != "open":
        reasons.append(f"it is {backend.status}")
    reasons += backend.not_ready
    reasons += [
        f"view {name} is {view.status}" if names_views else f"a view is {view.status}"
        for name, view in stats.views.items()
        if view.status in (ViewStatus.OPENING, ViewStatus.FAULTED, ViewStatus.CLOSED)
    ]
    lag = max((view.lag_events for view in stats.views.values()), default=0)
    ahead = stats.writer.seconds_ahead if isinstance(stats, EngineStats) else 0.0
    return Health(True, not reasons, backend.role, backend.position, lag, reasons, ahead)
