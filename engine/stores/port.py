"""The port that every store implements: an append-only sequence of commits with one writer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from millstream.engine.commits.commit import Commit, Head
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["Log"]


class Log(Protocol):
    """A durable sequence of commits, numbered 1, 2, 3 … without a gap.

    The one rule: appending commit *n* succeeds if and only if the head is *n - 1*. Order, concurrency control and
    fencing all follow from it. `tests/engine/stores/conformance.py` is this contract as a suite for every store.
    """

    @property
    def name(self) -> str:
        """What errors and log lines call this log: a path or an address, never a secret."""
        ...

    @property
    def id(self) -> str | None:
        """The log's random id, given when it was made: two logs of one application have different ones, copies of one
        file the same. None before it is open or attached, and for a log of format 1 until it is opened for writing.
        """
        ...

    @property
    def snapshots(self) -> SnapshotStore:
        """Where snapshots of states that follow this log are kept: opened by itself, after it, and closed before it."""
        ...

    async def open(self, application: str) -> None:
        """Take the log for one writer, creating it if it is not there.

        Raises:
            LogLocked: another writer has it open; raised at once, without waiting.
            LogRefused: the store holds something else, a newer format, or another application's log.
            LogCorrupt: the store can't be read.
        """
        ...

    async def attach(self) -> str:
        """Open for reading beside the writer: no lock is taken, nothing is created or changed.

        Commits that are appended later are seen. `append` and `probe` raise.

        Returns:
            The name of the application whose log it is.

        Raises:
            LogRefused: there is no log here, the store holds something else, or a newer format.
            LogCorrupt: the store can't be read.
        """
        ...

    async def append(self, commit: Commit) -> None:
        """Make the commit durable. When this returns, the commit survives a crash of the process and of the machine.

        Called for one commit at a time. Being cancelled does not undo it.

        Raises:
            Fenced: the head is not ``commit.number - 1``; nothing was written.
            CommitFailed: it is certain that nothing was written: the store is full, locked, not open, gone.
            Exception: the outcome is not known; a `probe` that succeeds, and `head` after it, tell.
        """
        ...

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        """Commits with a number above ``after``, in order, without a gap: as many as fit in about ``bytes_max``.

        At least one if there is one; none means that ``after`` is the head. Commits being appended meanwhile appear
        whole or not at all. Safe to call while an append is under way.

        Raises:
            LogCorrupt: what the store holds can't be read; names the first commit that could not.
            OSError: the store can't be read now; it may later.
            LogRefused: the store that was attached to is not there any more.
        """
        ...

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        """Pages as `read` gives them, from the commits after ``after`` on; at the end of the log it waits for more.

        Nothing is left out and nothing comes twice, whichever writer appends: this handle, another one, another process
        or the next one when that has gone. What this handle appends is there at once, what others do within a few ms.
        What comes is durable: it survives a crash of the machine. A page is read when it is asked for and not before,
        so no task waits for a slow follower.

        It ends when this handle is closed. Cancelled or closed before, wherever it is, it leaves nothing behind. After
        an error it is over: follow again from the last commit that came.

        Raises (while iterating):
            LogCorrupt: what the store holds can't be read; names the first commit that could not.
            OSError: the store can't be read now; it may later.
            LogRefused: the store that was followed is not there any more, also where another one is in its place.
        """
        ...

    def look_now(self) -> None:
        """Something was appended, as the caller knows: followers are to look now, and not only in a few ms.

        Never raises, and does nothing where appends are signalled anyway.
        """
        ...

    async def head(self) -> Head:
        """The last durable commit; ``Head()`` when there is none.

        Raises:
            LogCorrupt: what the store holds can't be read.
            OSError: the store can't be read now; it may later.
            LogRefused: the store that was opened is not there any more.
        """
        ...

    async def probe(self) -> None:
        """Write something that changes nothing, durably: does the store take commits?

        When it returns, a commit whose append failed before it, and which `head` does not show, is certainly gone,
        also after a crash of the process or of the machine. Not to be called while an append is under way.

        Raises:
            LogRefused: the store that was opened is not there any more.
            Exception: the store takes nothing now.
        """
        ...

    async def close(self) -> None:
        """Close the store. What was appended is durable already. Closing twice is allowed."""
        ...
