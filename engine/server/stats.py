"""Figures of a server, of one moment."""

from __future__ import annotations

import msgspec

__all__ = ["ServerStats"]


class ServerStats(msgspec.Struct, frozen=True):
    """What `stats` tells beside the figures of the engine or the replica. Counts are since the server was started."""

    connections: int
    connections_max: int
    #: Requests that were taken up and not answered yet, and watches.
    in_flight: int
    watches: int
    #: Connections that were taken in, ever; and those that the server ended, by reason.
    accepted: int
    dropped: dict[str, int]
    #: Front processes that take connections now, and how often one has ended by itself.
    fronts: int = 0
    fronts_lost: int = 0
