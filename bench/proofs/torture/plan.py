"""What is done in which round, drawn from a seed. Pure: the same seed gives the same plan, always.

Not here: doing it (`rounds`).
"""

from __future__ import annotations

from enum import StrEnum
from random import Random

import msgspec

from millstream.bench.proofs.torture.wal import Damage, Tear

__all__ = ["Ending", "Round", "Shot", "round_of", "shots"]

_CHECKPOINTS, _STOPPED, _RIVAL, _AGAIN, _COPIED, _WHOLE, _LATE = 0.3, 0.2, 0.12, 0.4, 0.5, 0.25, 0.6
_STALLED, _AT_ANSWER, _FRESH, _SNAPSHOTS_TOO, _AT_CALL = 0.3, 0.6, 0.1, 0.5, 0.4


class Ending(StrEnum):
    """How a round ends."""

    START = "killed so long after the process began"
    OPENING = "killed while it opens the log"
    LOAD = "killed under load"
    CLOSING = "asked to close under load, and killed while it does"
    TERMINATED = "asked to close at any moment, and left to end by itself"


_WEIGHTS = {Ending.START: 2, Ending.OPENING: 3, Ending.LOAD: 10, Ending.CLOSING: 3, Ending.TERMINATED: 1}

#: On a log that is made in this round: opening it is what is seldom seen.
_WEIGHTS_FRESH = {**_WEIGHTS, Ending.OPENING: 14}

#: How long a load lasts at most, counted in answers that each caller gets, so that it is as much work everywhere.
_ANSWERS_MAX = 120.0
_ANSWERS_BEFORE_IMAGE_MAX = 40.0

#: How long at most after the moment that the ending is about, in milliseconds.
_AFTER_MS_MAX = {
    Ending.START: 600.0,
    Ending.OPENING: 60.0,
    Ending.LOAD: 20.0,
    Ending.CLOSING: 30.0,
    Ending.TERMINATED: 900.0,
}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One process, from its begin to its end."""

    number: int
    #: Begin with a new log.
    fresh: bool
    ending: Ending
    #: When the signal comes, after the moment that the ending is about.
    after_ms: float
    #: How long the load lasts, in answers for each caller.
    answers: float
    #: How long it is stopped before the end; 0 for not at all.
    stopped_ms: float
    #: Let nothing be written any more, so long before the end; 0 for not at all.
    stalled_ms: float
    #: Kill it at the very moment at which it says something.
    at_answer: bool
    #: Kill it as soon as the service was called: it is performed, and not settled.
    at_call: bool
    #: Another process wants the same log, so long after the first; None for none.
    rival_after_ms: float | None
    #: Send again what may have been sent by the process before, and some of what was acknowledged.
    again: bool
    #: Checkpoint all the time.
    checkpoints: bool
    #: Look at a copy of the log, so that the next process finds it as the crash left it.
    on_copy: bool
    #: The event loop, if the machine has it: asyncio or uvloop.
    loop: str

    @property
    def under_load(self) -> bool:
        """Whether there is a while in which images can be taken."""
        return self.ending in (Ending.LOAD, Ending.CLOSING) and self.rival_after_ms is None


class Shot(msgspec.Struct, frozen=True):
    """An image that is to be taken, and how it is torn."""

    #: When, in answers for each caller since the load began or the last one was taken, and then in milliseconds.
    answers: float
    after_ms: float
    tear: Tear | None


def round_of(seed: int, number: int) -> Round:
    """The round of that number, from 0 on. The first is always one under load, and alone."""
    random = Random(f"{seed} round {number}")
    fresh = not number or random.random() < _FRESH
    weights = _WEIGHTS_FRESH if fresh else _WEIGHTS
    (ending,) = random.choices(list(weights), list(weights.values()))
    rival = random.uniform(0, 400) if random.random() < _RIVAL else None
    ending = Ending.LOAD if not number or rival is not None else ending
    return Round(
        number=number,
        fresh=fresh,
        ending=ending,
        after_ms=random.uniform(0, _AFTER_MS_MAX[ending]),
        answers=random.uniform(0, _ANSWERS_MAX),
        stopped_ms=random.uniform(0, 40) if random.random() < _STOPPED else 0.0,
        stalled_ms=random.uniform(2, 60) if random.random() < _STALLED else 0.0,
        at_answer=random.random() < _AT_ANSWER,
        rival_after_ms=rival if number else None,
        again=random.random() < _AGAIN,
        checkpoints=random.random() < _CHECKPOINTS,
        on_copy=random.random() < _COPIED,
        loop=random.choice(["asyncio", "uvloop"]),
        at_call=random.random() < _AT_CALL and ending is Ending.LOAD,
    )


def shots(seed: int, rounds: int, count: int) -> dict[int, list[Shot]]:
    """So many images, dealt to the rounds of the first ``rounds`` that have time for them; by the round's number."""
    random = Random(f"{seed} images")
    able = [number for number in range(rounds) if round_of(seed, number).under_load]
    dealt: dict[int, list[Shot]] = {number: [] for number in able}
    for index in range(count):
        tear = None
        if random.random() >= _WHOLE:
            damage, share = random.choice(list(Damage)), random.random()
            tear = Tear(damage, share, random.random() < _LATE, random.random() < _SNAPSHOTS_TOO)
        answers, after_ms = random.uniform(0, _ANSWERS_BEFORE_IMAGE_MAX), random.uniform(0, 5)
        dealt[able[index % len(able)]].append(Shot(answers, after_ms, tear))
    return dealt
