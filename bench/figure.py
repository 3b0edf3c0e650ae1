"""What a figure is: contenders beside each other, their limits, and a goal. Not here: which there are (`figures`)."""

from __future__ import annotations

import msgspec

__all__ = ["Entry", "Figure", "Goal", "limits"]


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a value, its ratio to a limit's, or its distance from that, is meant to reach."""

    bound: float
    #: The goal is not to exceed it, instead of to reach it.
    at_most: bool = False
    #: The label of the limit, when the ratio is what counts.
    of: str | None = None
    #: The label of the limit, when what counts is by how much the value is above it.
    above: str | None = None

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


class Entry(msgspec.Struct, frozen=True):
    """One contender in a figure."""

    label: str
    #: In `millstream.bench.programs`.
    program: str
    #: In `millstream.bench.workload`.
    workload: str
    goal: Goal | None = None


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Subjects beside their limits, all measured in the same unit."""

    name: str
    title: str
    #: Of every value: a rate, which is the better the higher it is, or something else, the better the lower.
    unit: str
    subjects: tuple[Entry, ...]
    limits: tuple[Entry, ...]
    #: Run once before all the others, and leaves its directory to them.
    prepare: Entry | None = None
    #: What is measured, and why, for a reader who knows nothing of it.
    about: str = ""


def limits(workload: str, **programs: str) -> tuple[Entry, ...]:
    """Programs on one workload, by label, in which an underscore stands for a space."""
    return tuple(Entry(label.replace("_", " "), program, workload) for label, program in programs.items())
