"""Questions to a state, and what it costs to open it, to put it aside, and to hold it."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["STATES"]

STATES = (
    Figure(
        name="ask",
        title="questions that are satisfied, from one task",
        about=("Questions are answered from memory. This is what one costs when nothing has to be waited for."),
        unit="asks/s",
        subjects=(Entry("millstream", "engine-asks", "asks", Goal(bound=1_300_000)),),
        limits=limits("asks", dict_lookup="bare-asks"),
    ),
    Figure(
        name="replay",
        title="replay when the log is opened",
        about=(
            "The state of an application is what its events add up to. When it starts without snapshots "
            "it reads all of them."
        ),
        unit="events/s",
        subjects=(Entry("millstream", "engine-replay", "history", Goal(bound=0.6, of="plain reader")),),
        limits=limits("history", plain_reader="bare-replay"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="open",
        title="opening after 1,000,000 events on 1,000 keys",
        unit="seconds",
        subjects=(Entry("with snapshots", "engine-open", "history"),),
        limits=limits("history", without="engine-open-without"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="open-10-million",
        title="opening after 10,000,000 events on 1,000 keys",
        unit="seconds",
        subjects=(Entry("with snapshots", "engine-open", "history-of-10-million"),),
        limits=limits("history-of-10-million", without="engine-open-without"),
        prepare=Entry("history", "engine-history", "history-of-10-million"),
    ),
    Figure(
        name="open-million-keys",
        title="opening with 1,000,000 keys, one event each",
        unit="seconds",
        subjects=(Entry("with snapshots", "engine-open", "million-accounts"),),
        limits=limits("million-accounts", without="engine-open-without"),
        prepare=Entry("history", "engine-history", "million-accounts"),
    ),
    Figure(
        name="snapshot",
        title="the longest stall of the loop while a snapshot of 1,000,000 keys is taken",
        unit="ms",
        subjects=(
            Entry("in the loop", "engine-snapshot", "million-accounts"),
            Entry("by a process", "engine-snapshot-process", "million-accounts", Goal(bound=5, at_most=True)),
        ),
        limits=limits("million-accounts", idle_loop="idle-loop"),
        prepare=Entry("history", "engine-history", "million-accounts"),
    ),
    Figure(
        name="verify",
        title="verifying a log of 1,000,000 events",
        unit="MB/s",
        subjects=(Entry("millstream", "engine-verify", "history"),),
        limits=limits("history", digests_alone="bare-verify"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="memory",
        title="memory for each of 1,000,000 keys, their balances in a write model and in a view",
        unit="bytes/key",
        subjects=(
            Entry("millstream", "engine-memory", "million-accounts"),
            Entry("by aggregates", "engine-memory-aggregates", "million-accounts"),
        ),
        limits=limits("million-accounts", one_dict="plain-memory"),
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
        limits=limits("million-structs", as_by_default="collector-tracked"),
    ),
    Figure(
        name="ask-beside-past",
        title="questions every 2 ms, while earlier states of 1,000,000 events are made for `at`",
        about=(
            "A caller that asks what a view said yesterday has that state made again, beside the live ones. This is "
            "what those who ask of today feel of it."
        ),
        unit="p99 ms",
        subjects=(Entry("beside", "asks-beside-past", "past", Goal(bound=2, of="alone", at_most=True)),),
        limits=limits("past", alone="asks-alone"),
        prepare=Entry("history", "engine-history", "past"),
    ),
    Figure(
        name="sql-catch-up",
        title="from a log of 500,000 events into a new database of a view in SQL",
        about="Beside it a loop by hand that reads the same log, and gives the same rows to executemany, page by page.",
        unit="events/s",
        subjects=(Entry("SqlView", "sql-view", "sql", Goal(bound=0.7, of="by hand")),),
        limits=limits("sql", by_hand="sql-by-hand"),
        prepare=Entry("history", "engine-history", "sql"),
    ),
    Figure(
        name="sql-catch-up-postgres",
        title="from a log of 50,000 events into a new database of a view in PostgreSQL",
        about="Beside it a loop by hand that gives the same rows to executemany of psycopg, page by page.",
        unit="events/s",
        subjects=(Entry("SqlView", "sql-view-postgres", "sql-postgres", Goal(bound=0.7, of="by hand")),),
        limits=limits("sql-postgres", by_hand="sql-by-hand-postgres"),
        prepare=Entry("history", "engine-history", "sql-postgres"),
    ),
    Figure(
        name="table-lookup",
        title="a row of 1,000,000 in a TableView, by its key",
        about="A view that keeps rows, with indexes over them; and the same rows in SQLite, and in dicts by hand.",
        unit="p99 µs",
        subjects=(Entry("TableView", "table-lookups", "table", Goal(bound=20, at_most=True)),),
        limits=limits("table", SQLite_in_memory="sqlite-memory-lookups", dicts_by_hand="dicts-lookups"),
    ),
    Figure(
        name="table-page",
        title="a page of 50 of 1,000,000 rows, in the order of a field",
        unit="p99 ms",
        subjects=(Entry("TableView", "table-pages", "table", Goal(bound=1, at_most=True)),),
        limits=limits("table", SQLite_in_memory="sqlite-memory-pages", dicts_by_hand="dicts-pages"),
    ),
    Figure(
        name="table-insert",
        title="the longest of 100,000 inserts into 1,000,000 rows with two indexes",
        unit="ms",
        subjects=(Entry("TableView", "table-inserts", "table", Goal(bound=10, at_most=True)),),
        limits=limits("table", SQLite_in_memory="sqlite-memory-inserts", dicts_by_hand="dicts-inserts"),
    ),
)
