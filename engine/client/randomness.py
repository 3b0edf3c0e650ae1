"""The one room of the client where something is random: waits that do not fall together, and unique ids.

Nothing that is decided or applied depends on it: a command's id is given by its caller, which the client is here.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from itertools import count

__all__ = ["command_ids", "delays"]

_PREFIX_BYTES = 12


def command_ids() -> Iterator[str]:
    """Ids for commands without end: one random prefix, of 96 bits, and a number."""
    prefix = secrets.token_hex(_PREFIX_BYTES)
    return (f"{prefix}-{number}" for number in count(1))


def delays(first: float, most: float, chance: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each new attempt, without end: twice as long each time, up to ``most``.

    Each is shortened by up to a half, so that clients which lost the same server do not come back all at once.

    Args:
        first: seconds, before it is shortened.
        most: seconds.
        chance: gives numbers from 0 up to 1.
    """
    delay = first
    while True:
        yield delay * (1 - chance() / 2)
        delay = min(delay * 2, most)
