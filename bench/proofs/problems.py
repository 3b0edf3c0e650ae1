"""What a proof finds wrong, and what becomes of the evidence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import mkdtemp
from typing import Generic, TypeVar

import msgspec

__all__ = ["PROBLEMS_KEPT_MAX", "Problem", "Verdict", "evidence_of"]

PROBLEMS_KEPT_MAX = 50

K = TypeVar("K", bound=StrEnum)


class Problem(msgspec.Struct, Generic[K], frozen=True):
    """One thing that is wrong."""

    kind: K
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


class Verdict(msgspec.Struct, kw_only=True):
    """What every run reports at its end."""

    seed: int
    #: What is wrong and has no count of its own.
    otherwise: int = 0
    seconds: float = 0.0
    #: The first of what is wrong, in words.
    problems: list[str] = []
    #: The folder that is kept; None when nothing is wrong.
    evidence: str | None = None

    @property
    def wrong(self) -> int:
        """How many things are wrong."""
        return self.otherwise


@contextmanager
def evidence_of(verdict: Verdict, name: str, directory: str) -> Iterator[Path]:
    """A folder of the run's own, in ``directory``. It is kept if something is wrong, else removed."""
    base = Path(mkdtemp(prefix=f"{name}-", dir=directory)).resolve()
    try:
        yield base
    finally:
        if verdict.wrong:
            verdict.evidence = str(base)
        else:
            shutil.rmtree(base)
