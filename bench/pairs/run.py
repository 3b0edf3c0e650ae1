"""Pairs of runs, one process at a time, in an order that turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from millstream.bench.job import BenchError
from millstream.bench.pairs import work
from millstream.bench.pairs.ratios import Pair
from millstream.bench.pairs.tree import place

__all__ = ["Contender", "measure"]

_PROGRAM = str(Path(work.__file__).resolve())
_ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (1, 0, 2), (0, 2, 1))


class _Said(msgspec.Struct):
    seconds: float
    engine: str


class Contender:
    """One of the two: a version, and the limits that it runs with.

    Args:
        version: a folder with a checkout, or a commit.
        site: where it is put.
        limits: of the engine, by name.

    Raises:
        BenchError: it can't be put there.
    """

    def __init__(self, version: str, site: Path, limits: Mapping[str, float]) -> None:
        self.version = version
        self._site = site
        self._limits = json.dumps(dict(limits))
        self._engine = place(version, site)

    def seconds(self, workload: str, count: int, loop: str) -> float:
        """The CPU time of the loop's thread for one run.

        Raises:
            BenchError: it failed, or what ran was another engine.
        """
        command = [sys.executable, _PROGRAM, workload, str(count), loop, self._limits]
        environment = {**os.environ, "PYTHONPATH": str(self._site), "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, env=environment, cwd=self._site, check=False)
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise BenchError(f"{self.version} failed at {workload}: {why[-1]}")
        said = msgspec.json.decode(done.stdout, type=_Said)
        if Path(said.engine) != self._engine:
            raise BenchError(f"{self.version} was to run, and {said.engine} did")
        return said.seconds


def measure(
    old: Contender,
    new: Contender,
    workload: str,
    *,
    count: int,
    pairs: int,
    loop: str,
    tell: Callable[[int], None] = lambda _: None,
) -> list[Pair]:
    """So many pairs of one workload.

    Args:
        old, new: what is compared.
        workload: of `work.WORKLOADS`.
        count: how often it is done in a run.
        pairs: how many.
        loop: ``asyncio`` or ``uvloop``.
        tell: is called after each pair with how many there are.

    Raises:
        BenchError: a run failed.
    """
    found: list[Pair] = []
    contenders = (old, new, old)
    for number in range(pairs):
        seconds = [0.0, 0.0, 0.0]
        for index in _ORDERS[number % len(_ORDERS)]:
            seconds[index] = contenders[index].seconds(workload, count, loop)
        found.append(Pair(*seconds))
        tell(len(found))
    return found
