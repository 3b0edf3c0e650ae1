"""The same engine under other loads: other callers, keys, sizes, schedules, more views, more history."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["LOADS"]

LOADS = (
    Figure(
        name="ask-latency",
        title="questions every 2 ms from another task, while callers write",
        about=(
            "How long a question takes while others write as fast as they can. Questions come on a "
            "schedule, so that a moment in which nothing is answered counts for all that came in it."
        ),
        unit="p99 ms",
        subjects=(
            Entry(
                "1,000 callers",
                "engine-asks-beside-callers",
                "asks-beside-many-callers",
                Goal(bound=2, at_most=True),
            ),
            Entry(
                "1,000 callers, gc.freeze()",
                "engine-asks-beside-callers",
                "asks-beside-many-callers-frozen",
                Goal(bound=2, at_most=True),
            ),
            Entry("one caller", "engine-asks-beside-callers", "asks-beside-one-caller"),
        ),
        limits=limits("asks-beside-many-callers", idle_loop="idle-asks"),
    ),
    Figure(
        name="execute-many",
        title="all commands in one call of execute_many",
        about="All changes are handed over in one call, as an import does.",
        unit="commands/s",
        subjects=(Entry("millstream", "engine-one-call", "one-call", Goal(bound=0.6, of="minimum")),),
        limits=limits("one-call", minimum="minimum-one-call", bare_loop="bare-loop", raw_SQLite="sqlite-batches"),
    ),
    Figure(
        name="keys",
        title="1,000 callers, by how the keys of their commands are drawn",
        about=(
            "Whether it matters which records are changed: all alike, a few far more often than others, "
            "so many that they fit into no cache, or a single one."
        ),
        unit="commands/s",
        subjects=(
            Entry("transfers, uniform", "engine-callers", "transfers"),
            Entry("transfers, Zipf", "engine-callers", "transfers-zipf"),
            Entry("transfers, 200,000 keys", "engine-callers", "transfers-many-keys"),
            Entry("deposits, one hot key", "engine-callers", "hot-key"),
        ),
        limits=limits("transfers", minimum="minimum-callers")
        + limits("hot-key", **{"minimum, one hot key": "minimum-callers"}),
    ),
    Figure(
        name="payload",
        title="1,000 callers, by the length of a text in each command and its event",
        about="What larger changes cost. Past some kilobytes the disk and its writes are what is measured.",
        unit="commands/s",
        subjects=tuple(
            Entry(label, "engine-callers", f"memo-{size}")
            for label, size in (("no text", 0), ("500 B", 500), ("2 kB", 2_000), ("10 kB", 10_000))
        ),
        limits=limits("memo-0", **{"minimum, no text": "minimum-callers"})
        + limits("memo-10000", **{"minimum, 10 kB": "minimum-callers"}),
    ),
    Figure(
        name="flood",
        title="20,000 callers at once, twice as many as the mailbox holds",
        about=("More callers than there is room for: the others wait outside until there is room, and none is lost."),
        unit="commands/s",
        subjects=(Entry("millstream", "engine-callers", "flood"),),
        limits=limits("flood", minimum="minimum-callers"),
    ),
    Figure(
        name="mixed-95",
        title="1,000 callers: 95 % of what they do is to ask, 5 % to write",
        about="Most programs read more than they write.",
        unit="operations/s",
        subjects=(Entry("millstream", "engine-mixed", "mixed-95"),),
        limits=limits("mixed-95", minimum="minimum-mixed"),
    ),
    Figure(
        name="mixed-50",
        title="1,000 callers: half of what they do is to ask, half to write",
        unit="operations/s",
        subjects=(Entry("millstream", "engine-mixed", "mixed-50"),),
        limits=limits("mixed-50", minimum="minimum-mixed"),
    ),
    Figure(
        name="views",
        title="1,000 callers, by the number of views beside that of the balances",
        about=(
            "A view is a table in memory that answers one kind of question. Each is offered every change; "
            "those that have no use for it should cost next to nothing."
        ),
        unit="commands/s",
        subjects=(
            Entry("8 that ignore it", "engine-8-views-more", "small"),
            Entry("64 that ignore it", "engine-64-views-more", "small", Goal(bound=0.9, of="none")),
            Entry("8 that apply it", "engine-8-views-applying", "small"),
        ),
        limits=limits("small", none="engine-callers"),
    ),
    Figure(
        name="growth",
        title="what a command costs 1,000 callers, by the size of the log and the number of keys",
        about="Whether a change costs more when there is much already. It should not: flat is good.",
        unit="µs/command",
        subjects=(
            Entry("100 k events, 10 k keys", "engine-grown", "growth-100k-events-10k-keys"),
            Entry("1 M events, 1 k keys", "engine-grown", "growth-1M-events-1k-keys"),
            Entry("1 M events, 100 k keys", "engine-grown", "growth-1M-events-100k-keys"),
            Entry(
                "10 M events, 1 M keys",
                "engine-grown",
                "growth-10M-events-1M-keys",
                Goal(bound=3.5, at_most=True, above="10 k events"),
            ),
        ),
        limits=limits("growth-10k-events-1k-keys", **{"10 k events": "engine-grown"})
        + limits("growth-10M-events-1M-keys", **{"three bare dicts of 1 M keys": "bare-dicts"}),
    ),
    Figure(
        name="execute-latency",
        title="durable commands on a schedule, at a share of the rate that 1,000 callers reach",
        about=(
            "How long a change takes when changes arrive on a schedule, at a quarter up to nine tenths of "
            "what the engine can do. A closed loop would hide a stall, because those who wait send "
            "nothing; here everything that should have been sent meanwhile counts."
        ),
        unit="p99 ms",
        subjects=tuple(Entry(f"at {share} %", "engine-arriving", f"arrivals-{share}") for share in (25, 50, 75, 90)),
        limits=limits("arrivals-50", **{"minimum at 50 %": "minimum-arriving", "idle loop": "idle-arriving"}),
    ),
    Figure(
        name="stall",
        title="the longest stall of the loop while 1,000 callers write to a state of 1,000,000 keys",
        about=(
            "Everything in the program shares one thread with the engine. This is the longest time for "
            "which it kept that thread to itself, with a large state, and Python's garbage collector at "
            "work."
        ),
        unit="ms",
        subjects=(
            Entry("millstream", "engine-stall", "million-accounts-busy", Goal(bound=20, at_most=True)),
            Entry("freeze_gc", "engine-stall-frozen", "million-accounts-busy", Goal(bound=20, at_most=True)),
        ),
        limits=limits("million-accounts", idle_loop="idle-loop"),
        prepare=Entry("history", "engine-history", "million-accounts"),
    ),
    Figure(
        name="busy-loop",
        title="one caller's command beside callbacks of a millisecond that never end",
        about=(
            "A program that always has something to do: threads get Python's interpreter only when its loop gives "
            "it up. With the log in memory no thread is needed, so what is left are turns of that loop."
        ),
        unit="p50 ms",
        subjects=(Entry("millstream", "engine-beside-work", "beside-work"),),
        limits=limits("beside-work", in_memory="memory-beside-work"),
    ),
    Figure(
        name="rebuild",
        title="one view made anew from a log of 1,000,000 events when it is opened",
        about=(
            "A view that is new, or whose code has changed, is made from the log while everything else is "
            "there already."
        ),
        unit="events/s",
        subjects=(Entry("millstream", "engine-rebuild", "history", Goal(bound=0.6, of="plain reader")),),
        limits=limits("history", plain_reader="bare-replay"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="memory-of-events",
        title="memory for each of 1,000,000 events that a view keeps",
        unit="bytes/event",
        subjects=(Entry("millstream", "engine-held", "history"),),
        limits=limits("history", plain_list="plain-held"),
        prepare=Entry("history", "engine-history", "history"),
    ),
    Figure(
        name="long-run",
        title="memory after 5,000,000 operations of 1,000 callers, a tenth of them questions",
        about="Whether memory grows with work. It should not: flat is good.",
        unit="of that after a fifth",
        subjects=(Entry("millstream", "engine-long-run", "long-run", Goal(bound=1.1, at_most=True)),),
        limits=limits("long-run", minimum="minimum-long-run"),
    ),
)
