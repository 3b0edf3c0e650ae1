"""The figures, as data: which contenders stand beside each other, on which workload, and what the goal is.

Here: the table. A new question to the engine is a new `Figure`.
"""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits
from millstream.bench.socket.figures import CLIENT_FIGURES, FRONT_FIGURES

__all__ = ["FIGURES"]


def _over_sockets(
    shape: str, title: str, *, alone: Goal | None = None, execute_goal: Goal | None = None, ask_goal: Goal | None = None
) -> tuple[Figure, Figure]:
    """Commands and questions over a socket, beside Redis, by so many connections.

    Args:
        shape: the name of both workloads.
        title: in words.
        alone: a goal for commands where small commits are written on the loop's own thread, which is measured then.
        execute_goal: one for commands as they are by default.
        ask_goal: one for questions.
    """
    execute, ask = f"connections-{shape}", f"connections-{shape}-asking"
    return (
        Figure(
            name=f"socket-execute-{shape}",
            title=f"durable commands over a socket: {title}",
            unit="commands/s",
            subjects=(
                Entry("millstream", "socket-execute", execute, execute_goal),
                *((Entry("on the loop's thread", "socket-execute-alone", execute, alone),) if alone else ()),
            ),
            limits=limits(execute, Redis="redis-set", echo="socket-echo", **{"Redis*": "redis-set-by-load"}),
        ),
        Figure(
            name=f"socket-ask-{shape}",
            title=f"questions over a socket: {title}",
            unit="asks/s",
            subjects=(Entry("millstream", "socket-ask", ask, ask_goal),),
            limits=limits(ask, Redis="redis-get", echo="socket-echo", **{"Redis*": "redis-get-by-load"}),
        ),
    )


FIGURES = (
    Figure(
        name="many-callers",
        title="1,000 concurrent callers, each awaiting its receipt",
        about=(
            "Many parts of a program change something at the same time. Each waits until its change is on "
            "disk. The engine writes those that wait together in one go, which is why it can be faster "
            "than one write each."
        ),
        unit="commands/s",
        subjects=(Entry("millstream", "engine-callers", "many-callers", Goal(bound=0.5, of="minimum")),),
        limits=limits("many-callers", minimum="minimum-callers", bare_loop="bare-loop", raw_SQLite="sqlite-batches"),
    ),
    Figure(
        name="terms",
        title="1,000 callers who name an id, or a version, with each command",
        about=(
            "A caller may name its command, so that it happens once even if it is sent twice, or say "
            "which version of a record it has seen. Both cost something."
        ),
        unit="commands/s",
        subjects=(
            Entry("with ids", "engine-callers-with-ids", "own-accounts", Goal(bound=0.8, of="without")),
            Entry("with versions", "engine-callers-with-versions", "own-accounts", Goal(bound=0.9, of="without")),
        ),
        limits=limits("own-accounts", without="engine-callers"),
    ),
    Figure(
        name="aggregates",
        title="1,000 callers, 1,000 accounts: an instance for each, beside one model with a dict",
        about="What it costs to be given the state of the command's own key, instead of looking it up.",
        unit="commands/s",
        subjects=(Entry("aggregates", "engine-aggregates", "own-accounts"),),
        limits=limits("own-accounts", one_model="engine-callers"),
    ),
    Figure(
        name="timers",
        title="how late 1,000 timers a second are, beside 100 callers",
        about=(
            "A command that is due later is sent when its time comes, also while others write. This is the time from "
            "when it was due until a view saw what it led to, for 99 of 100."
        ),
        unit="ms",
        subjects=(Entry("millstream", "engine-timers", "timers", Goal(bound=50, at_most=True)),),
        limits=limits("timers", idle_loop="idle-timers"),
    ),
    Figure(
        name="timers-waiting",
        title="memory for each of 1,000,000 timers that wait",
        unit="bytes/timer",
        subjects=(Entry("millstream", "engine-timers-waiting", "timers-waiting"),),
        limits=limits("timers-waiting", one_dict="plain-timers"),
    ),
    Figure(
        name="effects",
        title="what an effect costs until it is settled, in commands of 1,000 callers",
        about="What the engine does for what is done outside, in the time of the loop's thread, until that is settled.",
        unit="commands/effect",
        subjects=(Entry("millstream", "engine-effects", "effects", Goal(bound=2, at_most=True)),),
        limits=limits("effects", a_task_each="bare-effects"),
    ),
    Figure(
        name="effects-owed",
        title="what a command costs beside 10,000 effects that are owed and not performed",
        unit="times a command",
        subjects=(Entry("millstream", "engine-effects-owed", "effects", Goal(bound=1.03, at_most=True)),),
        limits=limits("effects", none_owed="engine-effects-none"),
    ),
    Figure(
        name="watched",
        title="1,000 callers beside 10,000 watches of 10,000 accounts",
        unit="commands/s",
        subjects=(Entry("watched", "engine-callers-watched", "many-accounts", Goal(bound=0.5, of="unwatched")),),
        limits=limits("many-accounts", unwatched="engine-callers"),
    ),
    Figure(
        name="one-caller",
        title="one caller, awaiting each receipt",
        about=(
            "One part of a program makes one change after another, so nothing can be written together: "
            "each pays for a whole write to disk, and the thread that does it."
        ),
        unit="commands/s",
        subjects=(
            Entry("millstream", "engine-callers", "one-caller", Goal(bound=0.5, of="autocommit")),
            Entry("on the loop's thread", "engine-callers-alone", "one-caller", Goal(bound=0.65, of="autocommit")),
        ),
        limits=limits("one-caller", autocommit="sqlite-autocommit", fdatasync="fdatasync", minimum="minimum-callers"),
    ),
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
        limits=limits("growth-10k-events-1k-keys", **{"10 k events": "engine-grown"}),
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
            "A program that always has something to do: threads get Python's interpreter only when its loop lets go "
            "of it. With the log in memory no thread is needed, so what is left are turns of that loop."
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
        about="The same with nobody else there: what one change costs each of them.",
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
    *_over_sockets("1", "one connection"),
    *_over_sockets(
        "50",
        "50 connections, each with one request in flight",
        alone=Goal(bound=0.65, of="Redis*"),
        ask_goal=Goal(bound=0.8, of="Redis*"),
    ),
    *_over_sockets("1000", "1,000 connections, each with one request in flight"),
    *_over_sockets(
        "50x16",
        "50 connections, each with 16 requests in flight",
        execute_goal=Goal(bound=0.38, of="Redis*"),
        ask_goal=Goal(bound=0.58, of="Redis*"),
    ),
    *CLIENT_FIGURES,
    *FRONT_FIGURES,
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
