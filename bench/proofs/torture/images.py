"""Images of a log: copies of its files as a crash could have left them, and what must be in each when it is opened.

An image is taken while the process is stopped, so it holds whatever the process had written by then, and everything
that it had acknowledged. A part of the WAL's copy may then be torn: the first commits of the log must be left, all that
lay wholly before the tear among them. The WAL of the snapshots is torn with it, or left as it is, and then they may be
ahead of the log. Nothing may follow from either: whatever is wrong with a snapshot, the log makes it good.

The bank then goes on from there, until nothing is left to be done: what this log owes is performed, for a service that
has seen what it had seen when the image was taken. It knows of effects that a tear took out of the log; their ids are
never given again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from millstream.bench.proofs.files import copy_log, read_commits, snapshots_of, wal_of
from millstream.bench.proofs.torture.check import (
    Kind,
    Known,
    Problem,
    agenda_after,
    balances_after,
    forgotten,
    not_a_prefix,
    of_effects,
    read_on,
)
from millstream.bench.proofs.torture.effects import Owing, late_calls, owing_after, wrong_calls
from millstream.bench.proofs.torture.reopening import drain, reopen
from millstream.bench.proofs.torture.service import Call, calls_in, keep, service_of
from millstream.bench.proofs.torture.wal import Tear, lost_transactions, torn, transactions
from millstream.engine import LogCorrupt, LogRefused
from millstream.engine.commits.commit import Commit
from millstream.engine.stores.sqlite.log import CHECKPOINT_PAGES

__all__ = ["Image", "Verdict", "judge"]

#: A WAL is checkpointed from so many bytes on, or later.
_CHECKPOINTED_FROM_BYTES = CHECKPOINT_PAGES * 4_096


class Image(NamedTuple):
    """A copy of a log's files, and what is known of the moment when it was taken."""

    log: Path
    tear: Tear | None
    #: How many reports the process had made.
    said: int
    #: Parts of its WAL may be in the main file already, whatever the WAL's size.
    checkpointed: bool
    #: What the service had seen.
    calls: Sequence[Call] = ()


class Verdict(NamedTuple):
    """What came of opening an image."""

    problems: list[Problem]
    #: It was torn where no crash tears, and refused with a typed error.
    refused: bool = False


def judge(image: Image, acked: int, before: Known, final: Sequence[Commit], random: Random) -> Verdict:
    """Open copies of an image, whole and torn, and compare them with the log that it was taken of.

    Args:
        image: what was taken.
        acked: the last commit that a caller had been given by then.
        before: what was known of the log before the process began.
        final: the log's rows, read after the process had ended, and found to be right.
        random: makes garbage.
    """
    folder = image.log.parent
    try:
        whole = read_commits(copy_log(image.log, folder / "read"))
    except sqlite3.DatabaseError as error:
        return Verdict([Problem(Kind.UNOPENED, f"an image, by sqlite3: {error!r}")])
    problems = _compared("an image", whole, acked, final)
    problems += of_effects("an image", wrong_calls(_owing(whole, before), image.calls, ()))
    copy = copy_log(image.log, folder / "opened")
    lost, size, how = _tear(wal_of(copy), image.tear, random)
    if image.tear is not None and image.tear.snapshots_too:
        _tear(wal_of(snapshots_of(copy)), image.tear, random)
    opened = reopen(copy)
    if isinstance(opened, Exception):
        checkpointed = image.checkpointed or size >= _CHECKPOINTED_FROM_BYTES
        if lost and checkpointed and isinstance(opened, LogCorrupt | LogRefused):
            return Verdict(problems, refused=True)
        return Verdict([*problems, Problem(Kind.UNOPENED, f"an image, {how}: {opened!r}")])
    rows = read_commits(copy)
    problems += _compared(f"an image, {how}", rows, len(whole) - lost, final)
    problems += opened.wrong(balances_after(rows, before), agenda_after(rows, before))
    return Verdict(problems or _gone_on(copy, rows, image.calls, before))


def _gone_on(log: Path, rows: Sequence[Commit], calls: Sequence[Call], before: Known) -> list[Problem]:
    """Let the bank go on from an image, and see what becomes of all that it owes."""
    keep(service_of(log), calls)
    left = drain(log)
    if isinstance(left, Exception):
        return [Problem(Kind.UNOPENED, f"an image, to go on from there: {left!r}")]
    known, problems = read_on(before if len(before.commits) <= len(rows) else Known(), read_commits(log))
    restored, made = _owing(rows, before), calls_in(service_of(log))[len(calls) :]
    lost = {call.id for call in calls} - restored.known.keys()
    wrong = [f"the id {each} was given a second time" for each in lost & known.owing.known.keys()]
    wrong += wrong_calls(known.owing, made, known.owing.settled.keys() - restored.settled.keys(), len(calls))
    wrong += late_calls(made, restored.settled)
    return [*problems, *of_effects("an image, gone on", wrong), *forgotten(known, left)]


def _owing(rows: Sequence[Commit], before: Known) -> Owing:
    """What these rows of a log say of effects; on from what is known, if that is no more."""
    start = len(before.commits) if len(before.commits) <= len(rows) else 0
    return owing_after(rows[start:], before.owing if start else Owing.nothing())


def _compared(what: str, rows: Sequence[Commit], at_least: int, final: Sequence[Commit]) -> list[Problem]:
    problems = not_a_prefix(rows, final)
    if len(rows) < at_least:
        problems.append(Problem(Kind.LOST, f"{what}, has {len(rows)} commits, and must have {at_least}"))
    return problems


def _tear(wal: Path, tear: Tear | None, random: Random) -> tuple[int, int, str]:
    """Tear the file. Returns how many transactions are hit at most, how long the file was, and all this in words."""
    content = wal.read_bytes() if wal.exists() else b""
    if tear is None or not content:
        return 0, len(content), "whole"
    ends = transactions(content)
    place = tear.place(ends, len(content))
    lost = lost_transactions(ends, place)
    wal.write_bytes(torn(content, place, tear.damage, random))
    words = (
        f"its WAL of {len(content)} bytes {tear.damage} from byte {place} on, {lost} of {len(ends)} transactions hit"
    )
    return lost, len(content), words
