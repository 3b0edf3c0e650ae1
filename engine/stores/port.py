"""The port that every store implements: an append-only sequence of commits with one writer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from millstream.engine.commits.commit import Commit, Head
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["Log"]


class Log(Protocol):
    """A durable sequence of commits, numbered 1, 2, 3 … without a gap.

    The one rule: appending commit *n* succeeds if and only if the head is *n - 1*. Order, concurrency control and
    fencing all follow from it. `engine/testing/stores` is this contract as a suite for every store.
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
    def snapshots(self) -> SnapshotStore | None:
        """Where snapshots of states that follow this log are kept: opened by itself, after it, and closed before it.
        None: this store keeps none, so that each opening replays the log.
        """
        ...

    async def open(self, application: str, address: str | None = None) -> Leadership:
        """Take the log for one writer, creating it if it is not there.

        Args:
            application: whose log it is.
            address: where the writer can be reached, for `leader`.

        Returns:
            What tells when the log is lost to another writer.

        Raises:
            LogLocked: another writer has it open; raised at once, without waiting.
            LogRefused: the store holds something else, a newer format, or another application's log.
            LogCorrupt: the store can't be read.
        """
        ...

    async def wait_for_turn(self) -> None:
        """Wait until `open` may find no other writer. It may be too early, and is at most 0.2 s late.

        The handle is not open for writing; it may be attached. Cancelled, it leaves nothing behind. A store that can't
        be asked is waited for, too.
        """
        ...

    async def leader(self) -> str | None:
        """The address that the last writer gave when it opened the log; it may have gone since. None: it gave none,
        there was none, or it has closed the log. The handle is open, or attached.

        Raises:
            OSError: the store can't be read now; it may later.
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

        Called for one commit at a time. Being cancelled does not undo it: the store goes on with it, and `close` waits
        for that.

        Raises:
            Fenced: the head is not ``commit.number - 1``, or another writer has taken over; nothing was written.
            CommitFailed: it is certain that nothing was written: the store is full, locked, not open, gone.
            Exception: the outcome is not known; `settle` tells.
        """
        ...

    async def settle(self, commit: Commit) -> bool:
        """What became of an append whose outcome is not known. Not to be called while one is under way.

        When it returns that is certain, also after a crash of the process or of the machine.

        Returns:
            True: the commit is durable. False: it never will be.

        Raises:
            Fenced: another writer's commit has its number, or another writer has taken over and it never will be.
            CommitsLost: the log ends before the commit before it.
            Exception: the store can't tell now.
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
            Fenced: another writer has taken over.
            LogRefused: the store that was opened is not there any more.
            Exception: the store takes nothing now.
        """
        ...

    async def close(self) -> None:
        """Close the store, once an append that is under way has ended. Closing twice is allowed.

        What was appended is durable already.
        """
        ...
