"""Runs figures: every contender in a process of its own, interleaved, and only if all did the same work.

Here: in which order what is run. Not here: what it means (`summary`), how it looks (`report`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from millstream.bench.figure import Entry, Figure
from millstream.bench.job import DifferentWork, Job, Result, WorkerFailed
from millstream.bench.programs import PROGRAMS
from millstream.bench.workload import WORKLOADS, Workload

__all__ = ["Contender", "Plan", "contenders", "measure", "run_apart", "run_worker"]

_WORKER_SECONDS_MAX = 900.0


class Contender(NamedTuple):
    """An entry of a figure on one event loop; None when it has none."""

    entry: Entry
    loop: str | None

    @property
    def name(self) -> str:
        return self.entry.label if self.loop is None else f"{self.entry.label} ({self.loop})"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How figures are to be measured."""

    loops: Sequence[str]
    #: Where directories are made, and removed again.
    directory: str
    runs: int = 3
    smoke: bool = False
    #: Sizes for minutes instead of hours, of the workloads that have one.
    quick: bool = False
    #: Contenders that run at the same time. More than one only where the time that they take means nothing.
    lanes: int = 1

    def workload(self, entry: Entry) -> Workload:
        sizes = WORKLOADS[entry.workload]
        if self.smoke:
            return sizes.smoke
        return sizes.quick if self.quick and sizes.quick else sizes.full


def contenders(figure: Figure, loops: Iterable[str]) -> list[Contender]:
    """All that are measured for a figure, in the order in which they take turns. What can't run here is left out."""
    loops = list(loops)
    return [
        Contender(entry, loop)
        for entry in (*figure.subjects, *figure.limits)
        if not PROGRAMS[entry.program].missing
        for loop in (loops if PROGRAMS[entry.program].on_loop else [None])
    ]


def run_apart(job: Job) -> Result:
    """Run a job in a fresh process.

    Raises:
        WorkerFailed: it took too long, ended badly, or printed something that is not a result.
    """
    return run_worker("millstream.bench.worker", job.program, msgspec.json.encode(job))


def run_worker(module: str, name: str, job: bytes) -> Result:
    """The result that a module prints, run as a program with a job as its argument.

    Raises:
        WorkerFailed: as with `run_apart`; it calls the program ``name``.
    """
    command = [sys.executable, "-m", module, job.decode()]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_WORKER_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise WorkerFailed(name, f"not done after {_WORKER_SECONDS_MAX:g} seconds") from error
    if done.returncode:
        raise WorkerFailed(name, f"exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
    try:
        return msgspec.json.decode(done.stdout, type=Result)
    except msgspec.DecodeError as error:
        raise WorkerFailed(name, f"it printed no result but {done.stdout!r:.200}") from error


def measure(
    figure: Figure,
    plan: Plan,
    *,
    run: Callable[[Job], Result] = run_apart,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[Contender, list[Result]]:
    """Measure a figure: ``plan.runs`` rounds, in each of which every contender has its turn.

    Args:
        figure: what is measured.
        plan: how.
        run: runs one job.
        tell: is called with what comes next, for a terminal.

    Returns:
        The results of each contender, one per round.

    Raises:
        WorkerFailed: a contender failed.
        DifferentWork: contenders that should have ended in the same state did not.
    """
    todo = contenders(figure, plan.loops)
    results: dict[Contender, list[Result]] = {contender: [] for contender in todo}
    states: dict[str, dict[str, str]] = {}
    with TemporaryDirectory(prefix=f"{figure.name}-", dir=plan.directory) as shared:

        def turn(contender: Contender) -> Result:
            tell(f"{figure.name}: {contender.name}")
            if figure.prepare is not None:
                return run(_job(contender, plan, shared))
            with TemporaryDirectory(prefix=f"{contender.entry.program}-", dir=shared) as own:
                return run(_job(contender, plan, own))

        if figure.prepare is not None:
            first = Contender(figure.prepare, plan.loops[0])
            _note(states, first, turn(first))
        with ThreadPoolExecutor(1 if figure.prepare is not None else plan.lanes) as lanes:
            for _ in range(plan.runs):
                for contender, result in zip(todo, lanes.map(turn, todo), strict=True):
                    _note(states, contender, result)
                    results[contender].append(result)
    for those in states.values():
        if len(set(those.values())) > 1:
            raise DifferentWork(figure.name, those)
    return results


def _job(contender: Contender, plan: Plan, directory: str) -> Job:
    return Job(
        program=contender.entry.program,
        workload=plan.workload(contender.entry),
        directory=str(Path(directory).resolve()),
        loop=contender.loop or "asyncio",
    )


def _note(states: dict[str, dict[str, str]], contender: Contender, result: Result) -> None:
    """Keep in which state a contender ended; only those with the same workload can be compared."""
    those = states.setdefault(contender.entry.workload, {})
    if result.state is not None and those.setdefault(contender.name, result.state) != result.state:
        those[f"{contender.name}, another run"] = result.state
