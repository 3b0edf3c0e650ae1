"""What an applying method is given about an event, if it asks: where it is, when it was recorded, who, and why.

Here: the value. Not here: where it is read from, which is a commit (`commits.telling`) or one in the making
(`write.telling`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import msgspec

__all__ = ["About", "own_about"]


class About(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the log says about an event beside the event itself: the second parameter of an ``@applies`` method.

    ``position`` is the event's number in the log, ``recorded_at`` the UTC time at which its commit was decided, ``key``
    its key as of then, None for none. ``command`` is the type of the command that it came from, ``command_id`` that
    command's id, if its caller gave one. ``actor``, ``correlation``, ``causation``, ``trace`` and ``extra`` are what
    that caller gave as `Metadata`: they are carried on to whatever follows, except that ``causation`` then names what
    it follows from: ``event:812``, ``timer:hold/o7``, ``effect:812/Payments.charge``. An event that a retired one means
    today has all this of the retired one.

    It is the same whenever the event is applied: when it happens, at a replay, on a replica, and when it had been
    parked for a week. A log of 0.1 knows no ``trace`` and no ``extra``.
    """

    position: int
    recorded_at: datetime
    command: str
    key: str | None = None
    command_id: str | None = None
    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    trace: str | None = None
    extra: dict[str, str] | None = None


def own_about(about: About) -> About:
    """The same for one who may keep it, and change what of it can change: a state is stored only if nothing in it is
    another's, too.
    """
    extra, told = about.extra, cast(Any, about)  # no type checker knows that a Struct can copy itself
    own: About = told.__copy__() if extra is None else msgspec.structs.replace(about, extra=dict(extra))
    return own
