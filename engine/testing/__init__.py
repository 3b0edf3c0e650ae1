"""Simulating an application: a virtual clock, a store that fails where the seed says, and checks of promises."""

from millstream.engine.testing.checks import (
    Entry,
    check_calls,
    check_history,
    check_log,
    check_replay,
    settled,
)
from millstream.engine.testing.errors import BrokenPromise, NotSimulated, SimulationError, StoreFault, Stuck
from millstream.engine.testing.faulty import Faults, FaultyLog
from millstream.engine.testing.history import Call, History
from millstream.engine.testing.scenario import Scenario
from millstream.engine.testing.simulation import Run, Simulation, simulate, torture

__all__ = [
    "BrokenPromise",
    "Call",
    "Entry",
    "Faults",
    "FaultyLog",
    "History",
    "NotSimulated",
    "Run",
    "Scenario",
    "Simulation",
    "SimulationError",
    "StoreFault",
    "Stuck",
    "check_calls",
    "check_history",
    "check_log",
    "check_replay",
    "settled",
    "simulate",
    "torture",
]
