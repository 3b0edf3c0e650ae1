"""Which process is killed when, drawn from a seed. Pure: the same seed gives the same plan, always; not the same run.

Not here: doing it (`run`).
"""

from __future__ import annotations

from enum import StrEnum
from random import Random

import msgspec

__all__ = ["Crash", "Role", "Whom", "crashes", "role_of"]

_AT_ANSWER, _AGAIN, _STOPPED = 0.5, 0.25, 0.3
_AGAIN_MS_MAX, _DOWN_MS_MAX, _STOPPED_MS_MAX = 400.0, 150.0, 1_500.0


class Whom(StrEnum):
    """Who is killed."""

    WRITER = "the writer"
    REPLICA = "the replica"
    BOTH = "the writer and the replica"


_WEIGHTS = {Whom.WRITER: 5, Whom.REPLICA: 2, Whom.BOTH: 2}


class Role(StrEnum):
    """To whom a client talks."""

    WRITER = "commands and questions to the writer"
    SPLIT = "commands to the writer, questions to the replica"
    REPLICA = "commands and questions to the replica, which forwards the commands"


_ROLES = (Role.WRITER, Role.SPLIT, Role.REPLICA)


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """One SIGKILL, or one for each of two processes, and how it goes on."""

    whom: Whom
    #: After all processes answer.
    after_ms: float
    #: Half that time before they are stopped for so long, and go on; 0 for not. Clients without patience leave the
    #: silent connection and send again on another one, so that afterwards a server finds both.
    stopped_ms: float
    #: And then at the very moment at which some client has got an answer.
    at_answer: bool
    #: How long they stay down.
    down_ms: float
    #: Kill them once more, so long after they were begun anew; None for not.
    again_after_ms: float | None
    #: The event loop of the new processes, if the machine has it: asyncio or uvloop.
    loop: str


def crashes(seed: int, count: int, seconds: float, *, replica: bool) -> list[Crash]:
    """So many crashes, spread over so many seconds that there is time between them, more or less.

    Args:
        seed: of everything that is random.
        count: how many.
        seconds: how long clients are to work; restarts take their time beside that.
        replica: whether there is one.
    """
    random = Random(f"{seed} crashes")
    found: list[Crash] = []
    for _ in range(count):
        (whom,) = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        found.append(
            Crash(
                whom=whom if replica else Whom.WRITER,
                after_ms=random.uniform(0, 2e3 * seconds / (count + 1)),
                stopped_ms=random.uniform(0, _STOPPED_MS_MAX) if random.random() < _STOPPED else 0.0,
                at_answer=random.random() < _AT_ANSWER,
                down_ms=random.uniform(0, _DOWN_MS_MAX),
                again_after_ms=random.uniform(0, _AGAIN_MS_MAX) if random.random() < _AGAIN else None,
                loop=random.choice(["asyncio", "uvloop"]),
            )
        )
    return found


def role_of(client: int, *, replica: bool) -> Role:
    """To whom this client talks."""
    return _ROLES[client % len(_ROLES)] if replica else Role.WRITER
