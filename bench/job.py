"""What goes to a contender's process and what comes back: plain values, JSON on the way.

Here also: the errors of the harness.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from millstream.bench.workload import Workload

__all__ = ["BenchError", "DifferentWork", "Job", "Result", "WorkerFailed"]


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One contender, once."""

    #: Its name in `millstream.bench.programs`.
    program: str
    workload: Workload
    #: An empty directory of its own, or the one that holds what was prepared for it.
    directory: str
    #: The event loop: asyncio or uvloop. Programs without one ignore it.
    loop: str = "asyncio"


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of it."""

    #: The figure, in the unit that the `Figure` names.
    value: float
    #: What else is worth knowing, by name and unit.
    details: dict[str, float] = {}
    #: Curves, by what is drawn: latencies by percentile, memory over time.
    series: dict[str, list[tuple[float, float]]] = {}
    #: The fingerprint of the state it ended with; None when it has none that could be compared.
    state: str | None = None


class BenchError(Exception):
    """A run that says nothing: no figure of it may be believed."""


class WorkerFailed(BenchError):
    """A contender's process did not return a result."""

    def __init__(self, program: str, problem: str) -> None:
        super().__init__(program, problem)
        self.program = program
        self.problem = problem

    def __str__(self) -> str:
        return f"contender {self.program!r} failed: {self.problem}"


class DifferentWork(BenchError):
    """Two that should have ended with the same balances did not."""

    def __init__(self, where: str, states: Mapping[str, str]) -> None:
        super().__init__(where, states)
        self.where = where
        self.states = dict(states)

    def __str__(self) -> str:
        found = ", ".join(f"{name}: {state}" for name, state in self.states.items())
        return f"{self.where}: not the same work was done, so there is nothing to compare ({found})"
