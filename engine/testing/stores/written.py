"""Commits to be written, and reading them back: for the tests of stores, and for the programs that these run.

Without pytest, which takes such a program longer to import than what it does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import anyio
import msgspec

from millstream.engine.commits.commit import Commit, Head, seal
from millstream.engine.stores.port import Log

__all__ = ["APP", "READ_BYTES", "TEXT", "append_all", "commits", "head_of", "read_all", "sized_commit", "take"]

APP = "conformance"
READ_BYTES = 100_000
TEXT = 'ä \\u0000 " € 𝄞'


def commits(count: int, after: Head | None = None, events: int = 2) -> list[Commit]:
    """Commits that follow ``after``, each with so many events."""
    head, made = after or Head(), []
    for _ in range(count):
        done = [{"type": "Done", "key": "k", "text": TEXT}] * events
        body = msgspec.json.encode([{"type": "Do", "key": "k", "events": done}])
        commit = seal(head, f"2026-01-01T00:00:00.{head.number:06}Z", body)
        made.append(commit)
        head = head_of(commit, events)
    return made


def sized_commit(size: int) -> Commit:
    """The first commit, with two events and a body of so many bytes."""
    without = _two("")
    return seal(Head(), "2026-01-01T00:00:00.000000Z", _two("x" * (size - len(without))))


def _two(text: str) -> bytes:
    done = [{"type": "Done", "key": "k", "text": each} for each in (text, TEXT)]
    return msgspec.json.encode([{"type": "Do", "key": "k", "events": done}])


def head_of(commit: Commit, events: int = 2) -> Head:
    """A log's head with such a commit."""
    return Head(commit.number, commit.position - 1 + events, commit.recorded_at, commit.digest)


async def read_all(log: Log, after: int = 0, bytes_max: int = READ_BYTES) -> list[Commit]:
    """All commits after a number."""
    found: list[Commit] = []
    while page := await log.read(found[-1].number if found else after, bytes_max):
        found += page
    return found


async def append_all(log: Log, written: Sequence[Commit]) -> None:
    """Append one after another."""
    for commit in written:
        await log.append(commit)


async def take(pages: AsyncGenerator[Sequence[Commit], None], count: int) -> list[Commit]:
    """The next commits of those who follow, at least so many."""
    found: list[Commit] = []
    with anyio.fail_after(30):
        while len(found) < count:
            found += await anext(pages)
    return found
