"""The same work by other software that keeps events, and by Redis."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["PEERS"]

PEERS = (
    Figure(
        name="peers",
        title="durable commands: 1,000 callers of each peer, or as many as it does best with",
        about=(
            "The same bank kept by other software that stores events, each set up as its documentation says, and each "
            "change on disk before it is acknowledged."
        ),
        unit="commands/s",
        subjects=(Entry("millstream", "engine-callers", "many-callers", Goal(bound=80, of="eventsourcing")),),
        limits=limits(
            "peers",
            eventsourcing="eventsourcing",
            umadb="umadb",
            NATS="nats",
            **{"py-event-sourcing": "py-event-sourcing", "py-event-sourcing*": "py-event-sourcing-as-it-comes"},
            **{"eventsource-py": "eventsource-py"},
        )
        + limits("peers-slow", DBOS="dbos"),
    ),
    Figure(
        name="peers-one-caller",
        title="durable commands: one caller of each peer",
        about="The same with no other caller: what one change costs each of them.",
        unit="commands/s",
        subjects=(Entry("millstream", "engine-callers", "one-caller"),),
        limits=limits(
            "peers-one-caller",
            eventsourcing="eventsourcing",
            umadb="umadb",
            NATS="nats",
            **{"py-event-sourcing": "py-event-sourcing", "eventsource-py": "eventsource-py"},
        )
        + limits("peers-slow-one-caller", DBOS="dbos")
        + limits("connections-1", **{"Redis SET": "redis-set"}),
    ),
    Figure(
        name="peers-redis",
        title="durable commands of 1,000 callers, beside SET over 50 connections, each with one request in flight",
        about=(
            "Redis keeps values, not events, and decides nothing: less work for each, but over a socket, while the "
            "engine's callers are in its own process. With sockets on both sides it is the figure socket-execute-50."
        ),
        unit="commands/s",
        subjects=(Entry("millstream", "engine-callers", "many-callers", Goal(bound=2.5, of="Redis SET")),),
        limits=limits("connections-50", **{"Redis SET": "redis-set"}),
    ),
)
