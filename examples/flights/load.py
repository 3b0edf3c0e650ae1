"""Feeding a year of commands to an engine, while others ask.

Order matters: what is sent later must be decided later. `execute_many` keeps the order of its commands and lets others
in between, so one task sends one batch after another.

Questions come on a schedule that doesn't wait for answers (an open loop), and their latency counts from the moment
they were due: an engine that stalls for 100 ms answers all that were due meanwhile late, and that shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import cycle
from time import perf_counter
from typing import Any

import anyio
from msgspec import Struct, field

from examples.flights.aircraft import HistoryOf
from examples.flights.board import DeparturesAt
from examples.flights.data import START
from examples.flights.days import Batch, Days
from examples.flights.delays import DelayByHour, DelayOnRoute, WorstRoutes
from examples.flights.messages import DepartFlight
from examples.flights.punctuality import PunctualityByCarrier, PunctualityOf
from millstream.engine import Engine, Query, Receipt, Rejected

__all__ = ["Load", "load"]

#: How many are sent in one call. Between two calls the writer has nothing to do while the last commit is written: with
#: 2,000 that was after every fourth commit.
BATCH_COMMANDS = 5_000
#: How often a caller asks, and how often a caller asks that wants to see the latest write.
ASK_SECONDS = 0.004
ASK_AFTER_SECONDS = 0.020


class Load(Struct):
    """What became of the commands and questions so far."""

    commands: int = 0
    #: By type of command, and by type and the code of the rejection.
    accepted: Counter[str] = field(default_factory=Counter)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The flights whose departure was rejected.
    refused: set[str] = set()
    #: The moment that the commands have reached, and the last position that a receipt named.
    until: datetime = START
    position: int = 0
    #: Milliseconds from when a question was due to its answer; and of questions that wait for the latest write.
    asked: list[float] = []
    asked_after: list[float] = []
    seconds: float = 0.0
    done: bool = False

    def note(self, batch: Batch, outcomes: Sequence[object]) -> None:
        """Count what became of a batch. What is not a rejection is a failure, and raised."""
        accepted = Counter(map(type, batch.commands))
        for command, outcome in zip(batch.commands, outcomes, strict=True):
            if isinstance(outcome, Receipt):
                continue
            if not isinstance(outcome, Rejected):
                assert isinstance(outcome, BaseException)
                raise outcome
            accepted[type(command)] -= 1
            self.rejected[type(command).__name__, outcome.code] += 1
            if isinstance(command, DepartFlight):
                self.refused.add(command.flight)
        for kind, count in accepted.items():
            self.accepted[kind.__name__] += count
        receipts = (outcome for outcome in reversed(outcomes) if isinstance(outcome, Receipt))
        self.position = next((receipt.position for receipt in receipts), self.position)
        self.commands += len(batch.commands)
        self.until = max(self.until, batch.until)


async def load(engine: Engine, days: Days, report: Load) -> None:
    """Send everything, in order, while questions are asked; ``report`` tells how far it is."""
    started = perf_counter()
    async with anyio.create_task_group() as askers:
        askers.start_soon(_ask, engine, report, ASK_SECONDS, report.asked, lambda: None)
        askers.start_soon(_ask, engine, report, ASK_AFTER_SECONDS, report.asked_after, lambda: report.position)
        for batch in days.batches(BATCH_COMMANDS):
            report.note(batch, await engine.execute_many(batch.commands))
        report.seconds = perf_counter() - started
        report.done = True
        askers.cancel_scope.cancel()


async def _ask(
    engine: Engine, report: Load, every: float, latencies: list[float], after: Callable[[], int | None]
) -> None:
    """Ask on schedule, and see that answers never go back in time."""
    due, seen = perf_counter(), dict[str, int]()
    for ask in cycle(_QUESTIONS):
        due += every
        wait = due - perf_counter()
        if wait > 0:
            await anyio.sleep(wait)
        token = after()
        await engine.ask(ask(report.until), after=token)
        latencies.append((perf_counter() - due) * 1e3)
        for name, view in engine.stats().views.items():
            if view.position < seen.get(name, 0):
                raise AssertionError(f"view {name} went back from {seen[name]:,} to {view.position:,}")
            seen[name] = view.position


#: What is asked, again and again: everything the views can answer, about the moment that the load has reached.
_QUESTIONS: tuple[Callable[[datetime], Query[Any]], ...] = (
    lambda at: DeparturesAt("EWR", at),
    lambda _: PunctualityByCarrier(),
    lambda _: HistoryOf("N725MQ"),
    lambda at: DeparturesAt("JFK", at),
    lambda _: DelayOnRoute("LGA", "ATL"),
    lambda _: PunctualityOf("UA"),
    lambda at: DeparturesAt("LGA", at),
    lambda _: DelayByHour(),
    lambda _: WorstRoutes(),
)
