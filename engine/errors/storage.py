"""An operator must look at the store."""

from __future__ import annotations

from millstream.engine.errors.root import StorageError

__all__ = [
    "CommitFailed",
    "CommitsLost",
    "Fenced",
    "LogCorrupt",
    "LogLocked",
    "LogRefused",
    "OutcomeUnknown",
]


class CommitFailed(StorageError):
    """The store did not take the commit: none of its commands happened. ``__cause__`` holds the store's own error."""

    def __init__(self, commit: int, problem: str) -> None:
        super().__init__(commit, problem)
        self.commit = commit
        self.problem = problem

    def __str__(self) -> str:
        return f"commit {self.commit:,} was not written: {self.problem}; nothing of it happened, it is safe to retry"


class OutcomeUnknown(StorageError):
    """The store failed while writing, and failed again when asked whether the commit is there."""

    def __init__(self, commit: int, problem: str) -> None:
        super().__init__(commit, problem)
        self.commit = commit
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"it is not known whether commit {self.commit:,} was written: {self.problem}; "
            "open the log again and look before sending the command again"
        )


class LogCorrupt(StorageError):
    """What the store holds is not what was written. ``commit`` is the first one that can't be trusted."""

    def __init__(self, log: str, commit: int, problem: str) -> None:
        super().__init__(log, commit, problem)
        self.log = log
        self.commit = commit
        self.problem = problem

    def __str__(self) -> str:
        whole = f"commits 1 to {self.commit - 1:,} are whole" if self.commit > 1 else "no commit before it"
        return f"log {self.log} is damaged at commit {self.commit:,}: {self.problem}; {whole}: restore a backup"


class LogRefused(StorageError):
    """The store holds something else than this application's log in a format that we read."""

    def __init__(self, log: str, problem: str, next_step: str) -> None:
        super().__init__(log, problem, next_step)
        self.log = log
        self.problem = problem
        self.next_step = next_step

    def __str__(self) -> str:
        return f"log {self.log} is refused: {self.problem}; {self.next_step}"


class LogLocked(StorageError):
    """Another writer has the log open, in this process or in another."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log

    def __str__(self) -> str:
        return (
            f"log {self.log} is open in another writer, and there can be one only: close that one first, or wait for "
            "it with wait_for_lock_seconds; web workers share one writer, each with a Client or a Replica of its own"
        )


class Fenced(StorageError):
    """Another writer has taken the log over: this one is stale, and nothing that it decided since was written."""

    def __init__(self, log: str, commit: int, head: int) -> None:
        super().__init__(log, commit, head)
        self.log = log
        self.commit = commit
        self.head = head

    def __str__(self) -> str:
        if self.head < self.commit:
            return (
                f"log {self.log} has another writer, which has taken over at commit {self.head:,}: commit "
                f"{self.commit:,} is not written, this one has stopped"
            )
        return (
            f"log {self.log} has its head at commit {self.head:,}, so commit {self.commit:,} does not follow: "
            "another writer has taken over, this one has stopped"
        )


class CommitsLost(StorageError):
    """The store has lost commits that it had taken: the log ends at ``head``, and ``commit`` was durable.

    A database does so that fails over to a standby which did not have all of it yet. What was acknowledged is gone, and
    a writer that goes on from where the log ends writes another history.
    """

    def __init__(self, log: str, commit: int, head: int) -> None:
        super().__init__(log, commit, head)
        self.log = log
        self.commit = commit
        self.head = head

    def __str__(self) -> str:
        return (
            f"log {self.log} ends at commit {self.head:,}, and commit {self.commit:,} was durable: the store has lost "
            "what it had taken; bring that back before anybody writes, or open everything anew to go on without it"
        )
