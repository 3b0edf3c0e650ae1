"""What processes answer that follow the log, and what they cost the one that writes it."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["REPLICAS"]

REPLICAS = (
    Figure(
        name="replicas-answer",
        title="questions to replicas, each asked in its own process, all at once",
        unit="asks/s",
        subjects=(Entry("two replicas", "replicas-answer-2", "replicas-asked", Goal(bound=1.8, of="one replica")),),
        limits=limits("replicas-asked", one_replica="replicas-answer-1", engine="engine-asks"),
    ),
    Figure(
        name="replicas-serve",
        title="questions to replicas over sockets: 50 connections to each, each with 16 requests in flight",
        unit="asks/s",
        subjects=(Entry("two replicas", "replicas-serve-2", "connections-50x16-asking"),),
        limits=limits("connections-50x16-asking", one_replica="replicas-serve-1", writer="socket-ask"),
    ),
    Figure(
        name="replicas-follow",
        title="1,000 concurrent callers of an engine, while replicas follow its log",
        unit="commands/s",
        subjects=(
            Entry("one replica", "replicas-follow-1", "many-callers", Goal(bound=0.9, of="no replica")),
            Entry("two replicas", "replicas-follow-2", "many-callers", Goal(bound=0.9, of="no replica")),
        ),
        limits=limits("many-callers", no_replica="engine-callers"),
    ),
    Figure(
        name="replica-delay",
        title="from a receipt to an answer that reflects it",
        unit="p99 ms",
        subjects=(Entry("replica", "replica-delay", "delay"),),
        limits=limits("delay", writer="writer-delay"),
    ),
)
