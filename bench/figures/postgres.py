"""What a log on PostgreSQL costs beside one in a file, and how long it is until the next process writes."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["POSTGRES"]

POSTGRES = (
    Figure(
        name="postgres-callers",
        title="1,000 concurrent callers, with the log on a PostgreSQL server of the same machine",
        about=(
            "The same work as on SQLite. The server takes its part of the processor's cores, and each write "
            "takes a way through another process."
        ),
        unit="commands/s",
        subjects=(Entry("PostgreSQL", "postgres-callers", "many-callers", Goal(bound=0.8, of="SQLite")),),
        limits=limits("many-callers", SQLite="engine-callers"),
    ),
    Figure(
        name="postgres-one-caller",
        title="one caller, awaiting each receipt, with the log on PostgreSQL",
        unit="commands/s",
        subjects=(Entry("PostgreSQL", "postgres-callers", "one-caller", Goal(bound=0.6, of="SQLite")),),
        limits=limits("one-caller", SQLite="engine-callers"),
    ),
    Figure(
        name="postgres-appends",
        title="the time of a commit of 30 kB, beside that of a row of a plain table in turn",
        about=(
            "What the rule of the log and the fence cost, which are in the statement that appends, and that no "
            "cancellation reaches it."
        ),
        unit="times a row",
        subjects=(Entry("append", "postgres-appends", "appends", Goal(bound=1.18, at_most=True)),),
        limits=(),
    ),
    Figure(
        name="four-logs",
        title="four logs in one database, appended to at once, with one follower of each",
        about="Followers are notified beside the appends, as a notification within one waits for those of all others.",
        unit="commits/s",
        subjects=(Entry("followed", "four-logs-followed", "four-logs", Goal(bound=0.9, of="alone")),),
        limits=limits("four-logs", alone="four-logs"),
    ),
    Figure(
        name="hearing",
        title="from an append until a follower in another session has it, the longest",
        unit="ms",
        subjects=(
            Entry("by notification", "hearing-of-appends", "hearing", Goal(bound=20, at_most=True)),
            Entry("by looking", "hearing-by-looking", "hearing", Goal(bound=600, at_most=True)),
        ),
        limits=(),
    ),
    Figure(
        name="failovers-large",
        title="from the death of the process that writes to the next receipt, with a million keys, the longest",
        about="The standby has the state already, so its size does not matter.",
        unit="s",
        subjects=(Entry("PostgreSQL", "failovers", "failovers-large", Goal(bound=1, at_most=True)),),
        limits=(),
    ),
    Figure(
        name="failovers",
        title="from the death of the process that writes to the next receipt, the longest",
        about="A standby takes over when the process that writes is killed. A caller waits for so long.",
        unit="s",
        subjects=(Entry("PostgreSQL", "failovers", "failovers", Goal(bound=1, at_most=True)),),
        limits=limits("failovers", SQLite="failovers-on-sqlite"),
    ),
)
