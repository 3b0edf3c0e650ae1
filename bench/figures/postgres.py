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
        title="commits of 30 kB, one after another, beside rows of a plain table",
        about="What the rule of the log and the fence cost, which are in the statement that appends.",
        unit="commits/s",
        subjects=(Entry("append", "postgres-appends", "appends", Goal(bound=0.85, of="plain INSERT")),),
        limits=limits("appends", plain_INSERT="postgres-inserts"),
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
