"""What a simulation says when it can't go on, and what a check says when a promise was broken.

None of them is a `MillstreamError`: a scenario that handles what the engine raises must not swallow them.

    SimulationError              the simulation itself can't go on
    ├── Stuck                        a task waits for what never comes
    └── NotSimulated                 a thread, a socket or a subprocess was wanted
    StoreFault (OSError)         what a `FaultyLog` raises when the seed says so
    BrokenPromise (AssertionError)   a check found that something does not hold
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BrokenPromise", "NotSimulated", "SimulationError", "StoreFault", "Stuck"]


class SimulationError(Exception):
    """The simulation can't go on."""


class Stuck(SimulationError):
    """A task waits for what never comes. ``waiting`` says of each task that is left where it waits."""

    def __init__(self, problem: str, seconds: float, waiting: Sequence[str]) -> None:
        super().__init__(problem, seconds, waiting)
        self.problem = problem
        self.seconds = seconds
        self.waiting = tuple(waiting)

    def __str__(self) -> str:
        tasks = "".join(f"\n  {task}" for task in self.waiting) or " none"
        return f"the scenario is stuck after {self.seconds:,.6f} simulated seconds: {self.problem}; who waits:{tasks}"


class NotSimulated(SimulationError):
    """Something was used that a simulation can't have: it would not go the same way twice."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return (
            f"{self.what} is not simulated, so the run would not replay from its seed: "
            "keep the log in memory (world.log()), and files, networks and threads out of the scenario"
        )


class StoreFault(OSError):
    """What a `FaultyLog` raises: an error that millstream does not know, as a disk's or a driver's would be."""


class BrokenPromise(AssertionError):
    """A check found that something does not hold that millstream or the application promises."""
