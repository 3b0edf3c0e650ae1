"""Where a view keeps its state, if that is not in memory: the port that such a storage implements.

Here: the contract, and what may go wrong. Not here: who calls it, and when (`stored_actor`).

Its methods block, and are called in threads; those that write by one task at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from millstream.engine.commits.commit import Head

__all__ = [
    "Asked",
    "StorageAway",
    "StorageMoved",
    "StorageUnknown",
    "StoredAs",
    "TransactionControl",
    "TransactionEnded",
    "ViewStorage",
]


class StorageAway(Exception):
    """The storage can't be used now: it is locked, full, or out of reach. It may be later."""


class StorageMoved(Exception):
    """Another process has written to the storage: its head is another one."""


class StorageUnknown(Exception):
    """The storage is at a commit that the log does not have: it followed another history."""


class TransactionControl(Exception):
    """A statement was not executed, since it would begin or end a transaction. Its event can never be applied."""


class TransactionEnded(Exception):
    """A statement has ended the transaction that it was part of. Nothing was written, and nothing goes on in it."""


class StoredAs(msgspec.Struct, frozen=True):
    """One of a view's databases: its name, which code made it, how far it is, and whether it is in use by this code.

    ``position`` is None where it has no head any more: another one has taken its place, or it was not finished.
    """

    view: str
    name: str
    is_current: bool
    is_of_this_code: bool
    position: int | None


class Asked(Protocol):
    """One question, which may be interrupted."""

    def run(self) -> tuple[Any, int]:
        """The answer, and the position of the storage's head in the same transaction.

        Raises:
            StorageAway: it can't be asked now.
            Exception: what answering raised.
        """
        ...

    def interrupt(self) -> None:
        """End it soon, from another thread. Never raises."""
        ...


class ViewStorage(Protocol):
    """A state in a database, with its head: the last commit that is in it, and notes about what was left out.

    A page of commits is one transaction with the head that follows from it. The head is compared and swapped: of two
    processes that write to one storage, one succeeds.
    """

    def open(self) -> tuple[Head, bytes]:
        """Make what is not there yet; the head, and the notes. Also to look again, when another process has written.

        Raises:
            StorageAway: not now.
            Exception: it can't be used.
        """
        ...

    def write(self, statements: Sequence[Any], before: Head, after: Head, notes: bytes) -> None:
        """Execute statements in one transaction, and move the head.

        Raises:
            StorageAway: nothing was written.
            StorageMoved: the head is not ``before``; nothing was written.
            Exception: a statement failed; nothing was written.
        """
        ...

    def begin(self, before: Head) -> None:
        """Begin a transaction for `try_these`, which ends with `commit` or `rollback`.

        Raises:
            StorageAway: not now.
            StorageMoved: the head is not ``before``.
        """
        ...

    def try_these(self, statements: Sequence[Any]) -> None:
        """Execute the statements of one event; where one fails, none of them was executed.

        Raises:
            StorageAway: the transaction is over.
            TransactionEnded: the same, and one of these statements has ended it.
            TransactionControl: one of them would have.
            Exception: a statement failed.
        """
        ...

    def commit(self, before: Head, after: Head, notes: bytes) -> None:
        """End the transaction, and move the head.

        Raises:
            StorageAway: nothing was written.
        """
        ...

    def rollback(self) -> None:
        """End the transaction without a trace. Never raises."""
        ...

    def question(self, answer: Callable[[Any, Any], Any], query: Any) -> Asked:
        """A question that is to be asked: ``answer`` is called with what it may look at, and the query."""
        ...

    def beside(self) -> ViewStorage:
        """A new one for the same view, which is empty, and not current.

        Raises:
            StorageAway: not now.
        """
        ...

    def differing(self, other: Any, most: int) -> tuple[int, list[tuple[Any, Any, Any]]]:
        """What another one of the same view has otherwise: how many rows, and the first ones: key, row here,
        row there.

        Raises:
            StorageAway: not now.
        """
        ...

    def take_place(self, before: Any, head: Head, notes: bytes) -> None:
        """Be current instead of another one, at this head, in one transaction. Those that use the other one move on.

        Raises:
            StorageAway: not now: the other one is current still.
        """
        ...

    def databases(self) -> list[StoredAs]:
        """All that there are of this view, also of other code.

        Raises:
            StorageAway: not now.
        """
        ...

    def drop(self, name: str | None = None) -> None:
        """Remove one of `databases` that is not current; itself by default, when it was closed.

        Raises:
            StorageAway: not now.
            LookupError: there is none of that name.
            ValueError: it is current.
        """
        ...

    def close(self, seconds: float = 0.0) -> None:
        """Close all connections. Questions that are under way are interrupted, after that time. Never raises."""
        ...
