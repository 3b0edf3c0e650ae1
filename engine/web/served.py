"""What is served over HTTP: an engine, a replica, or a client of one that runs elsewhere."""

from __future__ import annotations

from typing import TypeAlias

from millstream.engine.client.client import Client
from millstream.engine.server.backend import Backend

__all__ = ["Served"]

#: An open `Engine` or `Replica`, or a `Client`.
Served: TypeAlias = Backend | Client
