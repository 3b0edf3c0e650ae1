"""A whole run: round after round, each judged before the next one begins, until all is done or something is wrong.

Here: the order of things, and what is counted. Not here: how it looks (`show`).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec

from millstream.bench import loops
from millstream.bench.proofs.files import DATABASE
from millstream.bench.proofs.older import write_in_format_1
from millstream.bench.proofs.problems import PROBLEMS_KEPT_MAX, Verdict, evidence_of
from millstream.bench.proofs.torture.application import till
from millstream.bench.proofs.torture.check import Kind
from millstream.bench.proofs.torture.child import Order
from millstream.bench.proofs.torture.judgement import Found, Judgement
from millstream.bench.proofs.torture.plan import Round, round_of, shots
from millstream.bench.proofs.torture.process import PROGRAM
from millstream.bench.proofs.torture.rounds import play
from millstream.bench.proofs.torture.work import older
from millstream.engine.loop.clock import elapsed

__all__ = ["Tally", "Torture", "run"]

#: A log grows from round to round, and is opened again in each: after so many a new one keeps opening fast.
_ROUNDS_PER_LOG_MAX = 25


class Torture(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how hard."""

    kills: int
    images: int
    callers: int
    seed: int
    #: An existing folder in which the run makes its own.
    directory: str
    #: Each log is one of millstream 0.1, which its first process upgrades.
    begins_in_format_1: bool = False


class Tally(Verdict, kw_only=True):
    """What was done, and what was found; a report when the run is over."""

    rounds: int = 0
    #: Rounds whose process was ended by SIGKILL.
    kills: int = 0
    #: Copies that were taken of a running log; how many of them were torn, and how many of those were refused with a
    #: typed error, which is allowed where no crash leaves such files.
    images: int = 0
    images_torn: int = 0
    images_refused: int = 0
    #: Commands, each counted once.
    acknowledged: int = 0
    #: Receipts that said that the command was there already.
    repeated: int = 0
    #: Effects that were settled; how many a process performed although one before it had, which no log knew.
    effects: int = 0
    effects_again: int = 0
    lost: int = 0
    doubled: int = 0
    misplaced: int = 0

    @property
    def wrong(self) -> int:
        """How many things are wrong."""
        return self.lost + self.doubled + self.misplaced + self.otherwise

    def note(self, found: Found) -> None:
        """Count what a round brought to light."""
        self.acknowledged += found.acknowledged
        self.repeated += found.repeated
        self.images_refused += found.images_refused
        self.effects += found.effects
        self.effects_again += found.effects_again
        kinds = Counter(problem.kind for problem in found.problems)
        self.lost += kinds[Kind.LOST]
        self.doubled += kinds[Kind.DOUBLED]
        self.misplaced += kinds[Kind.MISPLACED]
        self.otherwise += sum(kinds.values()) - kinds[Kind.LOST] - kinds[Kind.DOUBLED] - kinds[Kind.MISPLACED]
        self.problems += [f"round {self.rounds}: {each}" for each in found.problems[:PROBLEMS_KEPT_MAX]]


def run(torture: Torture, tell: Callable[[Tally], None] = lambda _: None, program: Sequence[str] = PROGRAM) -> Tally:
    """Run until all is done, or until a round is wrong: then its evidence is kept.

    Args:
        torture: how long and how hard.
        tell: is called after each round.
        program: what to run as a process.
    """
    started, tally = elapsed(), Tally(seed=torture.seed)
    with evidence_of(tally, "torture", torture.directory) as base:
        for found in _rounds(torture, base, program, tally):
            tally.note(found)
            tally.rounds += 1
            tally.seconds = elapsed() - started
            tell(tally)
    return tally


def _rounds(torture: Torture, base: Path, program: Sequence[str], tally: Tally) -> Iterator[Found]:
    todo, judgement, goes_on = shots(torture.seed, torture.kills, torture.images), None, True
    while not tally.wrong and goes_on:
        plan = round_of(torture.seed, tally.rounds)
        judgement = _judgement(torture, plan, base, judgement)
        folder = judgement.log.parent / f"round {plan.number}"
        folder.mkdir(parents=True)
        played = play(
            plan,
            todo.get(plan.number, ()),
            _orders(torture, plan, judgement),
            folder,
            checkpointed=judgement.checkpointed,
            program=program,
        )
        tally.kills += played.killed
        tally.images += len(played.images)
        tally.images_torn += sum(image.tear is not None for image in played.images)
        found = judgement.next_round(plan, played, folder, Random(f"{torture.seed} garbage {plan.number}"))
        goes_on = plan.number + 1 < torture.kills or tally.kills < torture.kills
        if not found.problems and not (goes_on and _stays(judgement, round_of(torture.seed, plan.number + 1))):
            found = judgement.last(found)
        if not found.problems:
            shutil.rmtree(folder)
        yield found


def _judgement(torture: Torture, plan: Round, base: Path, before: Judgement | None) -> Judgement:
    """The log of this round: the one before, as long as it is not too long."""
    if before is not None:
        if _stays(before, plan):
            return before
        shutil.rmtree(before.log.parent)
    made = Judgement(base / f"log of round {plan.number}" / DATABASE, torture.callers)
    if torture.begins_in_format_1:
        write_in_format_1(made.log, till, older(2 * plan.number, torture.callers))
    return made


def _stays(judgement: Judgement, plan: Round) -> bool:
    """Whether the log is that of the next round, too."""
    return not plan.fresh and judgement.rounds < _ROUNDS_PER_LOG_MAX


def _orders(torture: Torture, plan: Round, judgement: Judgement) -> list[Order]:
    """The order of the process, and the order of its rival."""
    loop = plan.loop if plan.loop in loops.available() else "asyncio"
    return [
        Order(
            log=str(judgement.log),
            generation=2 * plan.number + rival,
            callers=torture.callers,
            loop=loop,
            checkpoints=plan.checkpoints,
            again=judgement.again if plan.again else [],
        )
        for rival in (0, 1)
    ]
