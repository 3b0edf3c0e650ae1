"""From the log back to events: pages of commits, verified and decoded, one reader for opening, rollback and catch-up.

Here: following the chain and saying what is wrong with it. Not here: what is done with the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import anyio.lowlevel
import msgspec

from penstock.engine.app import App
from penstock.engine.clock import elapsed
from penstock.engine.commit import Commit, Head, describe_mismatch, verify
from penstock.engine.errors import InvalidMessage, LogCorrupt, UnknownMessage
from penstock.engine.log import Log
from penstock.engine.messages import Event

__all__ = ["Chapter", "Reader", "Slicer"]


class Chapter(msgspec.Struct, frozen=True):
    """A durable commit as views get it: decoded, and shared by reference between all of them.

    ``head`` is what the log's head is with it, ``types`` are those of its events, ``size_bytes`` its encoded size.
    """

    head: Head
    events: Sequence[Event]
    types: frozenset[type[Event]]
    size_bytes: int

    @classmethod
    def of(cls, commit: Commit, events: Sequence[Event]) -> Chapter:
        """The chapter of a commit whose events are decoded already."""
        head = Head(commit.number, commit.position - 1 + len(events), commit.recorded_at, commit.digest)
        return cls(head, events, frozenset(map(type, events)), len(commit.body))


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
        #: The last commit that was read.
        self.head = head

    async def page(self) -> Iterator[Chapter] | None:
        """The commits that follow, decoded one by one as they are taken; None when the end is reached.

        Raises:
            LogCorrupt: a commit is not what was written, by its number, position or digest.
            UnknownMessage: the application has no such event.
            InvalidMessage: an event is not what its class declares.
        """
        commits = await self._log.read(self.head.number, self._read_bytes_max)
        return map(self._decode, commits) if commits else None

    def _decode(self, commit: Commit) -> Chapter:
        verify(self._log.name, self.head, commit)
        try:
            events = self._app.read_body(commit.body)
        except msgspec.DecodeError as error:
            raise self._explain(commit) from error
        chapter = Chapter.of(commit, events)
        self.head = chapter.head
        return chapter

    def _explain(self, commit: Commit) -> Exception:
        try:
            index, unknown, problem = describe_mismatch(commit.body, tuple(self._app.events))
        except msgspec.DecodeError as error:
            return LogCorrupt(self._log.name, commit.number, f"its body is not an array of commands: {error}")
        place = f"log {self._log.name}, commit {commit.number:,}, position {commit.position + index:,}"
        if unknown is not None:
            known = tuple(entry.tag for entry in self._app.events.values())
            return UnknownMessage("event", unknown, self._app.name, known, place)
        return InvalidMessage("event", f"{problem}, in {place}")


class Slicer:
    """Gives the loop to others whenever work has held it for a slice."""

    def __init__(self, slice_ms_max: float) -> None:
        self._slice_seconds = slice_ms_max / 1e3
        self._until = elapsed() + self._slice_seconds

    @property
    def is_over(self) -> bool:
        return elapsed() > self._until

    async def rest(self) -> None:
        """Let everyone else run once."""
        await anyio.lowlevel.checkpoint()
        self._until = elapsed() + self._slice_seconds
