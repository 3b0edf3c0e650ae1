"""What can go wrong while a log is looked after. Each is a kind of an error that `millstream.engine.errors` has.

    LogCorrupt
    ├── DigestMissing            no commit of the log has the digest that was noted earlier
    └── ExportDamaged            an export's commits are not what was exported
    LogRefused
    ├── BackupFailed             the copy could not be written; nothing is left of it
    ├── ExportRefused            not an export, of a newer format, or not of the log that it is imported into
    └── TargetRefused            a file can't be made: there is one already, or no folder for it

So a program that handles those handles these. Each keeps its values as fields and renders its text itself.
"""

from __future__ import annotations

from millstream.engine.errors import LogCorrupt, LogRefused

__all__ = ["BackupFailed", "DigestMissing", "ExportDamaged", "ExportRefused", "TargetRefused"]


class DigestMissing(LogCorrupt):
    """The log is whole by itself, and yet not the one whose digest was noted: cut off at its end, or written anew.

    ``commits`` is how many it has, ``expected`` the digest that none of them has.
    """

    def __init__(self, log: str, commits: int, expected: bytes) -> None:
        super().__init__(log, commits + 1, f"no commit has the digest {expected.hex()}")
        self.commits = commits
        self.expected = expected

    def __str__(self) -> str:
        return (
            f"log {self.log} has {self.commits:,} commits, each following the one before, but none with the digest "
            f"{self.expected.hex()}: it was cut off at its end, or written anew; restore a backup that has it"
        )


class ExportDamaged(LogCorrupt):
    """A line of an export holds something else than the commit that was exported. ``line`` counts from 1."""

    def __init__(self, source: str, line: int, problem: str) -> None:
        super().__init__(source, max(1, line - 1), problem)
        self.source = source
        self.line = line

    def __str__(self) -> str:
        before = f"the {self.line - 2:,} commits before it are whole" if self.line > 2 else "no commit before it"
        return (
            f"export {self.source} is damaged at line {self.line:,}: {self.problem}; {before}: "
            "export the log again, or go on with another copy"
        )


class ExportRefused(LogRefused):
    """An export is not one, is of a newer format, or does not go with the log. ``line`` counts from 1."""

    def __init__(self, source: str, line: int, problem: str, next_step: str) -> None:
        super().__init__(source, problem, next_step)
        self.source = source
        self.line = line

    def __str__(self) -> str:
        return f"export {self.source} is refused at line {self.line:,}: {self.problem}; {self.next_step}"


class BackupFailed(LogRefused):
    """The copy could not be made whole. ``target`` is not there; ``__cause__`` holds the store's own error."""

    def __init__(self, log: str, target: str, problem: str) -> None:
        super().__init__(log, problem, "see that there is room and that the folder can be written")
        self.target = target

    def __str__(self) -> str:
        return f"log {self.log} was not copied to {self.target}: {self.problem}; {self.next_step}"


class TargetRefused(LogRefused):
    """A new file can't be made where it should be. Nothing was written."""

    def __init__(self, target: str, problem: str, next_step: str) -> None:
        super().__init__(target, problem, next_step)
        self.target = target

    def __str__(self) -> str:
        return f"file {self.target} can't be made: {self.problem}; {self.next_step}"
