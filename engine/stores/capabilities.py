"""What some stores can do and others can't. A log has a capability if it has the methods; nothing else is looked at.

Here: the protocols. Not here: what is done where a log lacks one (`upkeep`, `cli`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol, runtime_checkable

from millstream.engine.commits.commit import Commit
from millstream.engine.errors import LogRefused
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = [
    "Bounded",
    "Copyable",
    "Inspectable",
    "Launching",
    "MadeBySql",
    "Needing",
    "Reachable",
    "Sized",
    "Upgrading",
    "snapshots_of",
]


@runtime_checkable
class Bounded(Protocol):
    """A log whose store does not take a commit of any size."""

    @property
    def body_bytes_max(self) -> int | None:
        """How many bytes a body may have; None for as many as one likes. With more, `Log.append` raises `CommitFailed`.

        It is the same before and after opening.
        """
        ...


@runtime_checkable
class Sized(Protocol):
    """A log whose size is known without reading it."""

    def size_bytes(self) -> int:
        """About how many bytes its commits have where they are kept; 0 where there is no log yet.

        Raises:
            OSError: it can't be looked at.
        """
        ...


@runtime_checkable
class Reachable(Protocol):
    """A log that other processes of this machine can open, beside its writer."""

    @property
    def address(self) -> str:
        """What `stores.address` makes another handle from, whatever folder that process is in."""
        ...


def snapshots_of(log: Log) -> SnapshotStore:
    """Where a log keeps its snapshots.

    Raises:
        LogRefused: its store keeps none.
    """
    if log.snapshots is None:
        raise LogRefused(log.name, "its store keeps no snapshots", "name a log of another store, or do without")
    return log.snapshots


@runtime_checkable
class MadeBySql(Protocol):
    """A log in a database, whose tables an administrator may have to make."""

    def schema_sql(self) -> str:
        """The statements that make an empty log there."""
        ...


@runtime_checkable
class Needing(Protocol):
    """A log that knows without being read what a reader of it must understand."""

    @property
    def needs(self) -> Collection[str]:
        """The features that its commits name, once it is open."""
        ...


@runtime_checkable
class Launching(Protocol):
    """A log that needs no task to append in."""

    def launch(self, commit: Commit, landed: Callable[[Exception | None], None], *, alone: bool) -> None:
        """Begin to make a commit durable, as `Log.append` does.

        Args:
            commit: the next one. There is one at a time.
            landed: is called on the loop, once: with None once the commit is durable, else with what `Log.append` would
                have raised.
            alone: no other task needs the loop now. ``landed`` may be called before this returns.

        Raises:
            CommitFailed: nothing is written, and ``landed`` is not called.
        """
        ...


@runtime_checkable
class Inspectable(Protocol):
    """A log in something that has a structure of its own, with damage that no commit shows."""

    def unchecked(self) -> Log:
        """Another handle to the same log, which looks at no structure when it is attached: it shows what is left."""
        ...

    async def check_rows(self) -> None:
        """That the store holds nothing that readers pass over. What can't be read at all, they come to themselves.

        Raises:
            LogCorrupt: it does.
            Exception: the store failed.
        """
        ...

    async def check_structure(self, commits: int) -> None:
        """That the structure is whole, and the one that the store made.

        Args:
            commits: how many commits were found to be whole; for the error.

        Raises:
            LogCorrupt: it is not.
            Exception: the store failed.
        """
        ...


@runtime_checkable
class Copyable(Protocol):
    """A log in a file that can be copied while it is written."""

    @property
    def path(self) -> Path:
        """The file, whose permissions a copy gets."""
        ...

    async def copy_to(self, target: Path) -> Log:
        """Copy all that is durable into an empty file, durably, as it is at one moment. The writer goes on meanwhile.

        Returns:
            The copy, not opened.

        Raises:
            LogRefused, LogCorrupt: as attaching the log does.
            OSError: one can't be read, or the other not be written.
        """
        ...


@runtime_checkable
class Upgrading(Protocol):
    """A log that opening for writing brings to the format of today."""

    @property
    def upgraded_from(self) -> int | None:
        """The format that it had before this handle opened it; None if that was today's."""
        ...
