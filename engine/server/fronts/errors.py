"""What can go wrong with front processes.

    AuthorError
    └── FrontFailed    a front process could not be started, or has ended by itself

    StorageError, TryAgainLater, CallerError: none

It keeps its values as fields and renders its text itself.
"""

from __future__ import annotations

from millstream.engine.errors import AuthorError

__all__ = ["FrontFailed"]


class FrontFailed(AuthorError):
    """A front process could not be started, has ended by itself, or something in it has failed.

    ``front`` is its number, from 1 on. ``exit_code`` is the process's: negative if a signal ended it, None if it was
    not started or runs on. ``problem`` is what it said.
    """

    def __init__(self, front: int, exit_code: int | None, problem: str) -> None:
        super().__init__(front, exit_code, problem)
        self.front = front
        self.exit_code = exit_code
        self.problem = problem

    def __str__(self) -> str:
        ended = "" if self.exit_code is None else f" has ended with {self.exit_code}"
        said = self.problem or "it said nothing; its standard error is that of this process"
        return f"front process {self.front}{ended}: {said}"
