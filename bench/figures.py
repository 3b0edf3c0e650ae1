"""The figures, as data: which contenders stand beside each other, on which workload, and what the goal is.

Here: the table. A new question to the engine is a new `Figure`.
"""

from __future__ import annotations

import msgspec

__all__ = ["FIGURES", "Entry", "Figure", "Goal"]


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a value, or its ratio to a limit's, is meant to reach."""

    bound: float
    #: The goal is not to exceed it, instead of to reach it.
    at_most: bool = False
    #: The label of the limit, when the ratio is what counts.
    of: str | None = None

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


class Entry(msgspec.Struct, frozen=True):
    """One contender in a figure."""

    label: str
    #: In `penstock.bench.programs`.
    program: str
    #: In `penstock.bench.workload`.
    workload: str
    goal: Goal | None = None


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Subjects beside their limits, all measured in the same unit."""

    name: str
    title: str
    #: Of every value: a rate, or milliseconds.
    unit: str
    subjects: tuple[Entry, ...]
    limits: tuple[Entry, ...]
    #: Run once before all the others, and leaves its directory to them.
    prepare: Entry | None = None


def _limits(workload: str, **programs: str) -> tuple[Entry, ...]:
    return tuple(Entry(label.replace("_", " "), program, workload) for label, program in programs.items())


def _over_sockets(shape: str, title: str, goal: Goal | None = None) -> tuple[Figure, Figure]:
    """Commands and questions over a socket, beside Redis, by so many connections."""
    execute, ask = f"connections-{shape}", f"connections-{shape}-asking"
    return (
        Figure(
            name=f"socket-execute-{shape}",
            title=f"durable commands over a socket: {title}",
            unit="commands/s",
            subjects=(Entry("penstock", "socket-execute", execute, goal),),
            limits=_limits(execute, Redis="redis-set", echo="socket-echo", **{"Redis*": "redis-set-by-load"}),
        ),
        Figure(
            name=f"socket-ask-{shape}",
            title=f"questions over a socket: {title}",
            unit="asks/s",
            subjects=(Entry("penstock", "socket-ask", ask),),
            limits=_limits(ask, Redis="redis-get", echo="socket-echo", **{"Redis*": "redis-get-by-load"}),
        ),
    )


FIGURES = (
    Figure(
        name="many-callers",
        title="1,000 concurrent callers, each awaiting its receipt",
        unit="commands/s",
        subjects=(Entry("penstock", "engine-callers", "many-callers", Goal(bound=150_000)),),
        limits=_limits("many-callers", minimum="minimum-callers", bare_loop="bare-loop", raw_SQLite="sqlite-batches"),
    ),
    Figure(
        name="terms",
        title="1,000 callers who name an id, or a version, with each command",
        unit="commands/s",
        subjects=(
            Entry("with ids", "engine-callers-with-ids", "own-accounts", Goal(bound=0.9, of="without")),
            Entry("with versions", "engine-callers-with-versions", "own-accounts", Goal(bound=0.9, of="without")),
        ),
        limits=_limits("own-accounts", without="engine-callers"),
    ),
    Figure(
        name="watched",
        title="1,000 callers beside 10,000 watches of 10,000 accounts",
        unit="commands/s",
        subjects=(Entry("watched", "engine-callers-watched", "many-accounts", Goal(bound=0.5, of="unwatched")),),
        limits=_limits("many-accounts", unwatched="engine-callers"),
    ),
    Figure(
        name="one-caller",
        title="one caller, awaiting each receipt",
        unit="commands/s",
        subjects=(Entry("penstock", "engine-callers", "one-caller", Goal(bound=0.4, of="autocommit")),),
        limits=_limits("one-caller", autocommit="sqlite-autocommit", fdatasync="fdatasync", minimum="minimum-callers"),
    ),
    Figure(
        name="ask",
        title="questions that are satisfied, from one task",
        unit="asks/s",
        subjects=(Entry("penstock", "engine-asks", "asks", Goal(bound=500_000)),),
        limits=_limits("asks", dict_lookup="bare-asks"),
    ),
    Figure(
        name="replay",
        title="replay when the log is opened",
        unit="events/s",
        subjects=(Entry("penstock", "engine-replay", "history", Goal(bound=1_000_000)),),
        limits=_limits("history", plain_reader="bare-replay"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="open",
        title="opening after 1,000,000 events on 1,000 keys",
        unit="seconds",
        subjects=(Entry("with snapshots", "engine-open", "history"),),
        limits=_limits("history", without="engine-open-without"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="open-10-million",
        title="opening after 10,000,000 events on 1,000 keys",
        unit="seconds",
        subjects=(Entry("with snapshots", "engine-open", "history-of-10-million"),),
        limits=_limits("history-of-10-million", without="engine-open-without"),
        prepare=Entry("history", "engine-history", "history-of-10-million"),
    ),
    Figure(
        name="open-million-keys",
        title="opening with 1,000,000 keys, one event each",
        unit="seconds",
        subjects=(Entry("with snapshots", "engine-open", "million-accounts"),),
        limits=_limits("million-accounts", without="engine-open-without"),
        prepare=Entry("history", "engine-history", "million-accounts"),
    ),
    Figure(
        name="snapshot",
        title="the longest stall of the loop while a snapshot of 1,000,000 keys is taken",
        unit="ms",
        subjects=(Entry("penstock", "engine-snapshot", "million-accounts", Goal(bound=10, at_most=True)),),
        limits=_limits("million-accounts", idle_loop="idle-loop"),
        prepare=Entry("history", "engine-history", "million-accounts"),
    ),
    Figure(
        name="verify",
        title="verifying a log of 1,000,000 events",
        unit="MB/s",
        subjects=(Entry("penstock", "engine-verify", "history"),),
        limits=_limits("history", digests_alone="bare-verify"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="memory",
        title="memory for each of 1,000,000 keys, their balances in a write model and in a view",
        unit="bytes/key",
        subjects=(Entry("penstock", "engine-memory", "million-accounts"),),
        limits=_limits("million-accounts", one_dict="plain-memory"),
        prepare=Entry("history", "engine-history", "million-accounts"),
    ),
    Figure(
        name="collector",
        title="the longest pause of Python's garbage collector, with 1,000,000 Structs in the state",
        unit="ms",
        subjects=(
            Entry("gc=False", "collector-untracked", "million-structs"),
            Entry("freeze_gc", "collector-frozen", "million-structs"),
        ),
        limits=_limits("million-structs", as_by_default="collector-tracked"),
    ),
    Figure(
        name="ask-latency",
        title="questions every 2 ms from another task, while callers write",
        unit="p99 ms",
        subjects=(
            Entry(
                "1,000 callers",
                "engine-asks-beside-callers",
                "asks-beside-many-callers",
                Goal(bound=5, at_most=True),
            ),
            Entry(
                "1,000 callers, gc.freeze()",
                "engine-asks-beside-callers",
                "asks-beside-many-callers-frozen",
                Goal(bound=5, at_most=True),
            ),
            Entry("one caller", "engine-asks-beside-callers", "asks-beside-one-caller"),
        ),
        limits=_limits("asks-beside-many-callers", idle_loop="idle-asks"),
    ),
    Figure(
        name="execute-many",
        title="all commands in one call of execute_many",
        unit="commands/s",
        subjects=(Entry("penstock", "engine-one-call", "one-call"),),
        limits=_limits("one-call", minimum="minimum-one-call", bare_loop="bare-loop", raw_SQLite="sqlite-batches"),
    ),
    *_over_sockets("1", "one connection"),
    *_over_sockets("50", "50 connections, each with one request in flight", Goal(bound=1.0, of="Redis")),
    *_over_sockets("1000", "1,000 connections, each with one request in flight"),
    *_over_sockets("50x16", "50 connections, each with 16 requests in flight", Goal(bound=0.6, of="Redis")),
    Figure(
        name="replicas-answer",
        title="questions to replicas, each asked in its own process, all at once",
        unit="asks/s",
        subjects=(Entry("two replicas", "replicas-answer-2", "replicas-asked", Goal(bound=1.8, of="one replica")),),
        limits=_limits("replicas-asked", one_replica="replicas-answer-1", engine="engine-asks"),
    ),
    Figure(
        name="replicas-serve",
        title="questions to replicas over sockets: 50 connections to each, each with 16 requests in flight",
        unit="asks/s",
        subjects=(Entry("two replicas", "replicas-serve-2", "connections-50x16-asking"),),
        limits=_limits("connections-50x16-asking", one_replica="replicas-serve-1", writer="socket-ask"),
    ),
    Figure(
        name="replicas-follow",
        title="1,000 concurrent callers of an engine, while replicas follow its log",
        unit="commands/s",
        subjects=(
            Entry("one replica", "replicas-follow-1", "many-callers", Goal(bound=0.9, of="no replica")),
            Entry("two replicas", "replicas-follow-2", "many-callers", Goal(bound=0.9, of="no replica")),
        ),
        limits=_limits("many-callers", no_replica="engine-callers"),
    ),
    Figure(
        name="replica-delay",
        title="from a receipt to an answer that reflects it",
        unit="p99 ms",
        subjects=(Entry("replica", "replica-delay", "delay"),),
        limits=_limits("delay", writer="writer-delay"),
    ),
)
