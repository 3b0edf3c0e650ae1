"""One kind of stored event that the application can't read, as errors and `check_events` tell it."""

from __future__ import annotations

import msgspec

__all__ = ["UnreadableEvent"]


class UnreadableEvent(msgspec.Struct, frozen=True):
    """One kind of stored event that can't be read: how many there are, and the first of them.

    ``known`` tells whether the application has an event of this type, so that its content is what does not fit.
    """

    type: str
    count: int
    commit: int
    position: int
    known: bool
    problem: str

    def __str__(self) -> str:
        what = f"does not fit its class ({self.problem})" if self.known else "is not known"
        return f"{self.type!r} {what}: {self.count:,} of them, the first at position {self.position:,}"
