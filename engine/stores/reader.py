"""From the log back to events: pages of commits, verified and decoded, one reader for recovery and catch-up.

Here: following the chain and saying what is wrong with it. Not here: what is done with the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from millstream.engine.application.app import App
from millstream.engine.commits.body import UNREADABLE, body_reader, mismatches
from millstream.engine.commits.chain import Chain, unreadable
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import EventsUnreadable, HandlerFailed, LogCorrupt
from millstream.engine.errors.unreadable import UnreadableEvent
from millstream.engine.loop.slices import Slicer
from millstream.engine.stores.port import Log

__all__ = ["PAGE_BYTES", "SLICE_MS", "Reader", "follow"]

#: About how much is read at once by those who read a log from one end to the other, beside its writer.
PAGE_BYTES = 1024 * 1024
#: How long they hold the loop before others run.
SLICE_MS = 5.0


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
        self._chain = Chain(log.name, head)

    @property
    def head(self) -> Head:
        """The last commit that was read."""
        return self._chain.head

    async def page(self) -> Iterator[DecodedCommit] | None:
        """The commits that follow, decoded one by one as they are taken; None when the end is reached.

        Raises:
            LogCorrupt: a commit is not what was written, by its number, position, digest or time.
            EventsUnreadable: the application can't read an event; names those of this commit only.
            LogRefused: a commit needs a newer millstream, or an event is nested too deeply to be read.
        """
        commits = await self._log.read(self.head.number, self._read_bytes_max)
        return self.decoded_commits(commits) if commits else None

    def decoded_commits(self, commits: Iterable[Commit]) -> Iterator[DecodedCommit]:
        """Commits that follow, however they were read, decoded one by one as they are taken.

        Raises (while they are taken):
            LogCorrupt, EventsUnreadable: as `page`.
        """
        return map(self._decode, commits)

    def _decode(self, commit: Commit) -> DecodedCommit:
        self._chain.check(commit)
        try:
            body = self._read_body(commit.body)
        except UNREADABLE as error:
            wrong = mismatches(commit.body, self._app.stored) if isinstance(error, msgspec.DecodeError) else ()
            if not wrong:
                raise unreadable(self._log.name, commit, error) from error
            raise self._unreadable(commit, wrong) from error
        try:
            events = self._app.upcast(body.events)
        except HandlerFailed as error:
            raise self._unreadable(commit, self._app.failed_upcasts(body.events)) from error
        decoded = DecodedCommit.of(commit, len(body.events), events, body)
        self._chain.head = decoded.head
        return decoded

    def _unreadable(self, commit: Commit, wrong: Iterable[tuple[int, str, bool, str]]) -> EventsUnreadable:
        found = [
            UnreadableEvent(name, 1, commit.number, commit.position + index, known, problem)
            for index, name, known, problem in wrong
        ]
        return EventsUnreadable(self._log.name, self._app.name, found)


async def follow(log: Log, head: Head, until: int, read_bytes_max: int, slicer: Slicer) -> Head:
    """Check the chain from a known head to commit ``until``, without decoding events; returns the head there.

    Raises:
        LogCorrupt: a commit is not what was written, or is missing.
    """
    chain = Chain(log.name, head)
    while chain.head.number < until:
        commits = await log.read(chain.head.number, read_bytes_max)
        if not commits:
            raise LogCorrupt(log.name, chain.head.number + 1, f"it is missing, and commit {until:,} was there")
        for commit in commits:
            if chain.take(commit).number == until:
                break
            if slicer.is_over:
                await slicer.rest()
    return chain.head
