"""What is asked, as data: in words, beside what, and how many seconds each is expected to take.

Here: the table. Every contender is one of a full figure, so nothing is measured in another way.
"""

from __future__ import annotations

import msgspec

from millstream.bench.figure import Entry, Figure
from millstream.bench.figures import FIGURES
from millstream.bench.programs import PROGRAMS
from millstream.bench.quick.estimate import Turn

__all__ = ["QUESTIONS", "Beside", "Question", "expected_turns"]


class Beside(msgspec.Struct, frozen=True):
    """One contender."""

    #: The full figure that it is of, and its label there.
    figure: str
    label: str
    #: What it is, for a reader who knows nothing of the project.
    words: str
    #: What a run of it took on the machine of README's figures, with two seconds to start its process and to make its
    #: commands. It is believed until the first run here is over: see `Estimate`.
    seconds: float

    @property
    def entry(self) -> Entry:
        (figure,) = (figure for figure in FIGURES if figure.name == self.figure)
        (entry,) = (entry for entry in (*figure.subjects, *figure.limits) if entry.label == self.label)
        return msgspec.structs.replace(entry, goal=None)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One question, the engine's answer, and others'."""

    #: What is done.
    done: str
    #: What is counted.
    unit: str
    millstream: Beside
    beside: tuple[Beside, ...]
    #: What it takes to prepare, where something must be prepared.
    prepare_seconds: float | None = None

    @property
    def figure(self) -> Figure:
        """What the harness measures; its name is not that of the full figure, which has another size."""
        (full,) = (figure for figure in FIGURES if figure.name == self.millstream.figure)
        return msgspec.structs.replace(
            full,
            name=f"quick-{full.name}",
            title=self.done,
            subjects=(self.millstream.entry,),
            limits=tuple(each.entry for each in self.beside),
        )


_MINIMUM = "a minimum written by hand, without features"

QUESTIONS = (
    Question(
        done="1,000 callers at once; each waits until its change is on disk",
        unit="changes a second",
        millstream=Beside("many-callers", "millstream", "millstream", 4.5),
        beside=(
            Beside("many-callers", "minimum", _MINIMUM, 2.5),
            Beside("many-callers", "raw SQLite", "SQLite alone, rows of many changes, made beforehand", 2.5),
            Beside("peers", "eventsourcing", "the library eventsourcing", 3.5),
            Beside("peers", "eventsource-py", "the library eventsource-py", 7.5),
        ),
    ),
    Question(
        done="one caller; each change is on disk before it makes the next",
        unit="changes a second",
        millstream=Beside("one-caller", "millstream", "millstream", 3.5),
        beside=(
            Beside("one-caller", "autocommit", "SQLite alone, a transaction each", 2.5),
            Beside("one-caller", "fdatasync", "the disk alone: 4 KiB and a sync each", 2.5),
            Beside("peers-one-caller", "eventsourcing", "the library eventsourcing", 3),
        ),
    ),
    Question(
        done="many changes in one call, as an import makes them",
        unit="changes a second",
        millstream=Beside("execute-many", "millstream", "millstream", 5.5),
        beside=(Beside("execute-many", "minimum", _MINIMUM, 3.5),),
    ),
    Question(
        done="questions, one after another, answered from memory",
        unit="questions a second",
        millstream=Beside("ask", "millstream", "millstream", 2.5),
        beside=(Beside("ask", "dict lookup", "an async function that looks into a dict", 2.5),),
    ),
    Question(
        done="a question while 1,000 callers write: 99 of 100 are answered within",
        unit="ms",
        millstream=Beside("ask-latency", "1,000 callers", "millstream", 6.5),
        beside=(Beside("ask-latency", "idle loop", "an event loop with nothing else to do", 5.5),),
    ),
    Question(
        done="a restart: the state is made from all events in the log",
        unit="events a second",
        millstream=Beside("replay", "millstream", "millstream", 2.5),
        beside=(Beside("replay", "plain reader", "SQLite, JSON and a dict; nothing is checked", 2.5),),
        prepare_seconds=5.5,
    ),
)


def expected_turns(question: Question, runs: int) -> list[Turn]:
    """The turns of a question, in order; only of those that can run here."""
    here = [
        Turn(each.label, each.seconds)
        for each in (question.millstream, *question.beside)
        if not PROGRAMS[each.entry.program].missing
    ]
    return (
        [] if question.prepare_seconds is None else [Turn("what is prepared", question.prepare_seconds)]
    ) + here * runs
