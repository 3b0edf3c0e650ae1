"""From the log back to events: pages of commits, verified and decoded, one reader for recovery and catch-up.

Here: following the chain and saying what is wrong with it. Not here: what is done with the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from millstream.engine.app import App
from millstream.engine.clock import elapsed
from millstream.engine.commit import Commit, Head, Stored, body_reader, events_in, mismatches, verify
from millstream.engine.errors import EventsUnreadable, HandlerFailed, LogCorrupt
from millstream.engine.log import Log
from millstream.engine.messages import Event, UnreadableEvent

__all__ = ["PAGE_BYTES", "SLICE_MS", "Chapter", "Reader", "Slicer", "follow"]

#: About how much is read at once by those who read a log from one end to the other, beside whoever writes it.
PAGE_BYTES = 1024 * 1024
#: How long they hold the loop before others run.
SLICE_MS = 5.0


class Chapter(msgspec.Struct, frozen=True):
    """A durable commit as those who follow the log get it: decoded, and shared by reference between all of them.

    ``head`` is what the log's head is with it, ``start`` the position before its first event, ``events`` what those
    that are stored mean today, ``types`` their types, ``size_bytes`` its encoded size. ``records`` is there when it was
    read from the log.
    """

    head: Head
    start: int
    events: Sequence[Event]
    types: frozenset[type[Event]]
    size_bytes: int
    records: Sequence[Stored[Any]] = ()

    @classmethod
    def of(cls, commit: Commit, stored: int, events: Sequence[Event], records: Sequence[Stored[Any]] = ()) -> Chapter:
        """The chapter of a commit that holds so many events, which mean ``events`` today."""
        start = commit.position - 1
        head = Head(commit.number, start + stored, commit.recorded_at, commit.digest)
        return cls(head, start, events, frozenset(map(type, events)), len(commit.body), records)


class Reader:
    """Follows a log from a known head, page by page.

    Args:
        log: an open log.
        app: whose events the log holds.
        head: the last commit that is known already. `Head()` is before the first one.
        read_bytes_max: about how much is read at once.
    """

    def __init__(self, log: Log, app: App, head: Head, read_bytes_max: int) -> None:
        self._log = log
        self._app = app
        self._read_bytes_max = read_bytes_max
        self._read_body = body_reader(app.stored)
        #: The last commit that was read.
        self.head = head

    async def page(self) -> Iterator[Chapter] | None:
        """The commits that follow, decoded one by one as they are taken; None when the end is reached.

        Raises:
            LogCorrupt: a commit is not what was written, by its number, position or digest.
            EventsUnreadable: the application can't read an event; names those of this commit only.
        """
        commits = await self._log.read(self.head.number, self._read_bytes_max)
        return self.chapters(commits) if commits else None

    def chapters(self, commits: Iterable[Commit]) -> Iterator[Chapter]:
        """Commits that follow, whoever read them, decoded one by one as they are taken.

        Raises (while they are taken):
            LogCorrupt, EventsUnreadable: as `page`.
        """
        return map(self._decode, commits)

    def _decode(self, commit: Commit) -> Chapter:
        verify(self._log.name, self.head, commit)
        try:
            records = self._read_body(commit.body)
        except msgspec.DecodeError as error:
            wrong = mismatches(commit.body, self._app.stored)
            if not wrong:
                problem = f"its body is not an array of commands: {error}"
                raise LogCorrupt(self._log.name, commit.number, problem) from error
            raise self._unreadable(commit, wrong) from error
        stored = [event for record in records for event in record.events]
        try:
            events = self._app.upcast(stored)
        except HandlerFailed as error:
            raise self._unreadable(commit, self._app.failed_upcasts(stored)) from error
        chapter = Chapter.of(commit, len(stored), events, records)
        self.head = chapter.head
        return chapter

    def _unreadable(self, commit: Commit, wrong: Iterable[tuple[int, str, bool, str]]) -> EventsUnreadable:
        found = [
            UnreadableEvent(name, 1, commit.number, commit.position + index, known, problem)
            for index, name, known, problem in wrong
        ]
        return EventsUnreadable(self._log.name, self._app.name, found)


class Slicer:
    """Gives the loop to others whenever work has held it for a slice.

    Args:
        slice_ms_max: how long work may hold the loop.
        rest_ms: how long it then rests. 0: only until everyone else has run once.
    """

    def __init__(self, slice_ms_max: float, rest_ms: float = 0.0) -> None:
        self._slice_seconds = slice_ms_max / 1e3
        self._rest_seconds = rest_ms / 1e3
        self.begin()

    def begin(self) -> None:
        """A slice begins now."""
        self._until = elapsed() + self._slice_seconds

    @property
    def is_over(self) -> bool:
        return elapsed() > self._until

    async def rest(self) -> None:
        """Let everyone else run."""
        if self._rest_seconds:
            await anyio.sleep(self._rest_seconds)
        else:
            await anyio.lowlevel.checkpoint()
        self.begin()


async def follow(log: Log, head: Head, until: int, read_bytes_max: int, slicer: Slicer) -> Head:
    """Check the chain from a known head to commit ``until``, without decoding events; returns the head there.

    Raises:
        LogCorrupt: a commit is not what was written, or is missing.
    """
    while head.number < until:
        commits = await log.read(head.number, read_bytes_max)
        if not commits:
            raise LogCorrupt(log.name, head.number + 1, f"it is missing, and commit {until:,} was there")
        for commit in commits:
            verify(log.name, head, commit)
            head = Head(commit.number, commit.position - 1 + events_in(commit.body), commit.recorded_at, commit.digest)
            if head.number == until:
                return head
            if slicer.is_over:
                await slicer.rest()
    return head
