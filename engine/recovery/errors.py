"""What can go wrong while snapshots are taken in another process. Observers get it, and it stops nothing.

    StorageError
    └── SnapshotProcessFailed    the process could not be started, failed, or was killed

It keeps its values as fields and renders its text itself.
"""

from __future__ import annotations

from millstream.engine.errors import StorageError

__all__ = ["SnapshotProcessFailed"]


class SnapshotProcessFailed(StorageError):
    """Another process was to take snapshots of a log, and has not. What was there before is whole.

    ``exit_code`` is the process's: negative if a signal ended it, 0 if it has stored other parts, None if it was not
    started. ``problem`` is what it said, or the end of what it wrote.
    """

    def __init__(self, log: str, exit_code: int | None, problem: str) -> None:
        super().__init__(log, exit_code, problem)
        self.log = log
        self.exit_code = exit_code
        self.problem = problem

    def __str__(self) -> str:
        ended = {None: "was not started", 0: "did not do all of it"}.get(self.exit_code)
        ended = ended or f"ended with {self.exit_code}"
        return (
            f"the process that takes snapshots of log {self.log} {ended}: {self.problem or 'it said nothing'}; "
            "the snapshots before it are whole, and the next one is tried when it is due"
        )
