"""What is known of one log from round to round: it is given what a round did, looks at the log, and says what is wrong.

Here: which judgement is made of what, and in which order. The judgements themselves are in `check` and `images`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from millstream.bench.proofs.files import copy_log, read_commits
from millstream.bench.proofs.torture.check import (
    Kind,
    Known,
    Problem,
    Told,
    broken_promises,
    forgotten,
    of_effects,
    read_on,
    told_by,
)
from millstream.bench.proofs.torture.effects import late_calls, sent_again, wrong_calls
from millstream.bench.proofs.torture.images import judge
from millstream.bench.proofs.torture.plan import Ending, Round
from millstream.bench.proofs.torture.reopening import drain, reopen
from millstream.bench.proofs.torture.reports import Ack, Refusal
from millstream.bench.proofs.torture.rounds import Played
from millstream.bench.proofs.torture.service import Call, calls_in, service_of
from millstream.bench.proofs.torture.work import has_id, unanswered

__all__ = ["Found", "Judgement"]

_AGAIN_ACKED = 40


class Found(NamedTuple):
    """What a round brought to light."""

    problems: list[Problem]
    #: Commands that were acknowledged for the first time, and receipts that said that they were there already.
    acknowledged: int = 0
    repeated: int = 0
    images_refused: int = 0
    #: Effects that were settled, and those that a process performed although one before it had.
    effects: int = 0
    effects_again: int = 0


class Judgement(msgspec.Struct):
    """One log, from its first round on."""

    log: Path
    callers: int
    #: How many there were.
    rounds: int = 0
    known: Known = Known()
    told: Told = Told({}, {})
    #: What the service has seen.
    calls: Sequence[Call] = ()
    #: Parts of the WAL may be in the main file already.
    checkpointed: bool = False
    #: What the next process may be given to send again.
    again: list[str] = []

    def next_round(self, plan: Round, played: Played, folder: Path, random: Random) -> Found:
        """Look at the log after a round.

        Args:
            plan: the round as it was meant.
            played: the round as it was.
            folder: the round's own; a copy of the log as the crash left it is kept there.
            random: makes garbage in torn images, and chooses commands that are sent again.
        """
        told, problems = told_by(played.reports, self.told)
        known, found = self._look(plan, folder)
        calls = calls_in(service_of(self.log))
        problems = [*played.problems, *problems, *found, *broken_promises(known, told)]
        problems += [] if problems else self._served(known, calls)
        refused = 0
        for image in () if problems else played.images:
            acked = max(self.told.commit, told_by(played.reports[: image.said])[0].commit)
            verdict = judge(image, acked, self.known, known.commits, random)
            problems += verdict.problems
            refused += verdict.refused
        new, repeated = len(told.acked) - len(self.told.acked), told.repeated - self.told.repeated
        closing = plan.ending in (Ending.CLOSING, Ending.TERMINATED)
        self.checkpointed = plan.on_copy and (self.checkpointed or plan.checkpoints or closing)
        effects = len(known.owing.settled) - len(self.known.owing.settled)
        again = sent_again(calls) - sent_again(self.calls)
        self.known, self.told, self.calls, self.rounds = known, told, calls, self.rounds + 1
        self.again = _again(played, self.callers, random)
        return Found(problems, new, repeated, refused, effects, again)

    def last(self, found: Found) -> Found:
        """After the last round of a log: let an engine do what is left to be done, and see that nothing is forgotten.

        Args:
            found: what the round brought to light.
        """
        left = drain(self.log)
        if isinstance(left, Exception):
            return found._replace(problems=[*found.problems, Problem(Kind.UNOPENED, f"to finish: {left!r}")])
        known, problems = read_on(self.known, read_commits(self.log))
        calls = calls_in(service_of(self.log))
        problems = [*found.problems, *problems, *broken_promises(known, self.told), *forgotten(known, left)]
        problems += self._served(known, calls)
        effects = found.effects + len(known.owing.settled) - len(self.known.owing.settled)
        again = found.effects_again + sent_again(calls) - sent_again(self.calls)
        self.known, self.calls = known, calls
        return found._replace(problems=problems, effects=effects, effects_again=again)

    def _served(self, known: Known, calls: Sequence[Call]) -> list[Problem]:
        """What is wrong between the log and the service."""
        before = self.calls
        if list(calls[: len(before)]) != list(before):
            return [Problem(Kind.PROCESS, "the service has not kept what it had seen")]
        wrong = wrong_calls(known.owing, calls, known.owing.settled)
        wrong += late_calls(calls[len(before) :], self.known.owing.settled)
        return of_effects("the service", wrong)

    def _look(self, plan: Round, folder: Path) -> tuple[Known, list[Problem]]:
        """Open the log with the engine, then read it without; in its place or, if so planned, as a copy."""
        copy_log(self.log, folder / "crashed")
        log = copy_log(self.log, folder / "opened") if plan.on_copy else self.log
        opened = reopen(log)
        if isinstance(opened, Exception):
            return self.known, [Problem(Kind.UNOPENED, repr(opened))]
        try:
            known, problems = read_on(self.known, read_commits(log))
        except sqlite3.DatabaseError as error:
            return self.known, [Problem(Kind.UNOPENED, f"by sqlite3: {error!r}")]
        if opened.commit != known.head.number:
            what = f"the engine found {opened.commit} commits, sqlite3 {known.head.number}"
            problems.append(Problem(Kind.BROKEN, what))
        return known, problems + opened.wrong(known.balances, known.on_agenda)


def _again(played: Played, callers: int, random: Random) -> list[str]:
    """Names to send again: all that may have been sent and not answered, and some that were acknowledged."""
    heard = [report.name for report in played.reports if isinstance(report, Ack | Refusal)]
    acked = [report.name for report in played.reports if isinstance(report, Ack) and has_id(report.name)]
    again = unanswered(heard, played.generation, callers) + random.sample(acked, min(_AGAIN_ACKED, len(acked)))
    return random.sample(again, len(again))
