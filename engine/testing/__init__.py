"""Simulating an application: a virtual clock, a store that fails where the seed says, and checks of promises."""

from penstock.engine.testing.checks import (
    Entry,
    check_calls,
    check_history,
    check_log,
    check_replay,
    settled,
)
from penstock.engine.testing.errors import BrokenPromise, NotSimulated, SimulationError, StoreFault, Stuck
from penstock.engine.testing.faulty import Faults, FaultyLog
from penstock.engine.testing.history import Call, History
from penstock.engine.testing.simulation import Run, Simulation, simulate, torture

__all__ = [
    "BrokenPromise",
    "Call",
    "Entry",
    "Faults",
    "FaultyLog",
    "History",
    "NotSimulated",
    "Run",
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
