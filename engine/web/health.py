"""Health over HTTP: alive, and of use, as two addresses for what restarts a process and what routes to it.

Here: the same answer from an engine, a replica, or the server that a client reaches. Not here: what it means
(`engine.health`).
"""

from __future__ import annotations

import msgspec

from millstream.engine.client.client import Client
from millstream.engine.health import health_of
from millstream.engine.stats import Health
from millstream.engine.web.served import Served

__all__ = ["health"]


async def health(backend: Served, *, names_views: bool) -> Health:
    """Of what is served, now.

    Args:
        backend: which.
        names_views: whether reasons may name views.

    Raises:
        ConnectionLost: it runs elsewhere, and can't be reached.
    """
    if isinstance(backend, Client):
        told = await backend.health()
        return told if names_views else msgspec.structs.replace(told, reasons=["it is not ready"] * bool(told.reasons))
    return health_of(backend, names_views=names_views)
