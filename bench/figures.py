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
)
