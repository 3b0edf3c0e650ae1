"""What the engine does for callers, and what each of its features costs them."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["FEATURES"]

FEATURES = (
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
        name="telemetry",
        title="1,000 callers, with metrics and spans",
        about=(
            "What it costs to see what happens: metrics and a span for each commit, which all of its commands share; "
            "and a span for each command besides, where every one is sampled. Spans are made and thrown away: what "
            "sending them costs is the exporter's."
        ),
        unit="commands/s",
        subjects=(
            Entry("a span per commit", "engine-callers-spanned", "many-callers", Goal(bound=0.97, of="without")),
            Entry("a span per command", "engine-callers-traced", "many-callers"),
        ),
        limits=limits("many-callers", without="engine-callers"),
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
)
