"""The one thing that is written: a commit, and the rule that makes a log of commits.

Here: the values and the pure functions that seal them. Not here: whether one follows another (`chain`), how they reach
a disk (`stores`).

The rule: commits are numbered 1, 2, 3 … without a gap; commit *n* can follow only commit *n - 1*. Positions number the
events the same way, across commits. The digest of a commit covers the digest before it, so one digest vouches for all.

The body is JSON, an array with one object per command, in the order in which they were decided:

    [{"type": "Deposit", "key": "ann", "events": [{"type": "Deposited", "account": "ann", "amount": 10}]}]

``id``, ``actor``, ``correlation`` and ``causation`` are there where the caller gave them, and beside an id ``payload``,
the digest of the command; ``offset`` says how many events of this commit come before the command's; ``keys`` names the
key of each event where one differs from the command's. Rejected commands are not in it: they changed nothing, and are
decided anew when they come again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from millstream.engine.application.validation import encode

__all__ = [
    "DIGEST_BYTES",
    "FORMAT",
    "GENESIS",
    "Commit",
    "Head",
    "Record",
    "digest_of",
    "events_in",
    "is_timestamp",
    "seal",
    "timestamp",
]

#: The version of all that this module describes. A log of a higher one is refused.
FORMAT = 1

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


class Record(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a commit's body holds for one command. ``events`` is a JSON array, encoded already."""

    type: str
    key: str | None = None
    id: str | None = None
    payload: str | None = None
    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    offset: int = 0
    keys: list[str | None] | None = None
    events: msgspec.Raw = msgspec.Raw()


class _Unread(msgspec.Struct, gc=False):
    """An event that is counted and not looked at."""


class _Counted(msgspec.Struct, gc=False):
    events: list[_Unread] = []


_read_counts = msgspec.json.Decoder(list[_Counted]).decode


def events_in(body: bytes) -> int:
    """How many events a body holds, whatever they are."""
    return sum([len(record.events) for record in _read_counts(body)])


def timestamp(moment: datetime) -> str:
    """A UTC time as logs hold it: fixed width, so that the order of the texts is the order of the times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


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


def seal(head: Head, recorded_at: str, records: Sequence[Record]) -> Commit:
    """The commit that follows ``head``."""
    body = encode(records)
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
