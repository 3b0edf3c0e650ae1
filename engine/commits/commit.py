"""The one thing that is written: a commit, and the rule that makes a log of commits.

Here: the values and the pure functions that seal them. Not here: whether one follows another (`chain`), how they reach
a disk (`stores`).

The rule: commits are numbered 1, 2, 3 … without a gap; commit *n* can follow only commit *n - 1*. Positions number the
events the same way, across commits. The digest of a commit covers the digest before it, so one digest vouches for all.

The body is JSON. What is in it: `columns`, and `rows` for what was written until 0.1. Rejected commands are not in it:
they changed nothing, and are decided anew when they come again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

__all__ = [
    "DIGEST_BYTES",
    "FORMAT",
    "GENESIS",
    "Commit",
    "Head",
    "digest_of",
    "is_timestamp",
    "moment_of",
    "seal",
    "timestamp",
]

#: The version of all that this module describes. A log of a higher one is refused.
FORMAT = 2

DIGEST_BYTES = 32
#: The digest before the first commit.
GENESIS = bytes(DIGEST_BYTES)


class Head(msgspec.Struct, frozen=True):
    """Where a log ends: the last commit's number, digest and time, and the position of the last event."""

    number: int = 0
    position: int = 0
    recorded_at: str = ""
    digest: bytes = GENESIS

    @staticmethod
    def after(commit: Commit, events: int) -> Head:
        """The head with a commit that holds so many events."""
        return Head(commit.number, commit.position - 1 + events, commit.recorded_at, commit.digest)


class Commit(msgspec.Struct, frozen=True):
    """One commit as it is stored. ``position`` is that of its first event, or what it would be had it one."""

    number: int
    position: int
    recorded_at: str
    body: bytes
    digest: bytes


def timestamp(moment: datetime) -> str:
    """A UTC time as logs hold it: fixed width, so that the order of the texts is the order of the times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment_of(head: Head) -> datetime:
    """When a log's last commit was recorded; before all times, if there is none."""
    return datetime.fromisoformat(head.recorded_at) if head.recorded_at else _BEFORE


def is_timestamp(text: str) -> bool:
    """Whether a text is what `timestamp` makes of some moment. 0.4 µs."""
    if len(text) != 27 or (text[4], text[7], text[10], text[13], text[16], text[19], text[26]) != _MARKS:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


#: What stands between the digits of a time.
_MARKS = ("-", "-", "T", ":", ":", ".", "Z")


def seal(head: Head, recorded_at: str, body: bytes) -> Commit:
    """The commit that follows ``head``, and has this body."""
    return Commit(
        number=head.number + 1,
        position=head.position + 1,
        recorded_at=recorded_at,
        body=body,
        digest=digest_of(head.digest, recorded_at, body),
    )


def digest_of(previous: bytes, recorded_at: str, body: bytes) -> bytes:
    """The digest of a commit, given that of the one before it."""
    digest = blake2b(previous, digest_size=DIGEST_BYTES)
    digest.update(recorded_at.encode())
    digest.update(body)
    return digest.digest()


_BEFORE = datetime.min.replace(tzinfo=UTC)
