"""The chain: by which rules a commit follows another, and what a log's head is with it. Every reader of a log uses it.

Here: the rules, once, and what is said of a commit that breaks one. Not here: what is done with commits.

A commit follows a head if its number and its position are the next ones, its digest is that of the head's digest, its
time and its body, and its time is one, in the form that logs have, and not before the head's. The head
with it is `Head.after`.
"""

from __future__ import annotations

from millstream.engine.commits.body import UNREADABLE, deepest_event, events_in
from millstream.engine.commits.columns import UnknownFeature
from millstream.engine.commits.commit import Commit, Head, digest_of, is_timestamp
from millstream.engine.errors import LogCorrupt, LogRefused

__all__ = ["Chain", "head_of", "unreadable"]


class Chain:
    """A log's commits, taken one after another.

    Args:
        log: what errors call the log.
        head: the last commit that is known already. `Head()` is before the first one.
    """

    __slots__ = ("head", "log")

    def __init__(self, log: str, head: Head = Head()) -> None:  # noqa: B008 - it is frozen
        self.log = log
        #: The last commit that was taken.
        self.head = head

    def check(self, commit: Commit) -> None:
        """That this commit follows the head, and holds what was sealed. The head stays.

        Raises:
            LogCorrupt: it does not; names the commit and what is wrong with it.
        """
        problem = _problem(self.head, commit)
        if problem:
            raise LogCorrupt(self.log, self.head.number + 1, problem)

    def take(self, commit: Commit) -> Head:
        """Check the next commit and count its events. Returns the head with it.

        Raises:
            LogCorrupt: it does not follow, or its body is none of a commit.
            LogRefused: it can't be read by this program, as `unreadable` says.
        """
        self.check(commit)
        self.head = head_of(self.log, commit)
        return self.head


def head_of(log: str, commit: Commit) -> Head:
    """The head of a log whose last commit this is.

    Raises:
        LogCorrupt: its body is none of a commit.
        LogRefused: it can't be read by this program, as `unreadable` says.
    """
    try:
        return Head.after(commit, events_in(commit.body))
    except UNREADABLE as error:
        raise unreadable(log, commit, error) from error


def unreadable(log: str, commit: Commit, error: Exception) -> LogCorrupt | LogRefused:
    """What is raised for a body that is not what a commit's is; or that is whole, and that this program can't read.

    The latter is one that needs a newer millstream, or one that is nested too deeply. No writer of today takes in such
    a one. Until 0.1 one did, where it could just be written.
    """
    if isinstance(error, UnknownFeature):
        return LogRefused(
            log,
            f"commit {commit.number:,} needs what this millstream does not know: {error}",
            "it is whole: update millstream to read it",
        )
    if isinstance(error, RecursionError):
        index, tag, depth = deepest_event(commit.body)
        return LogRefused(
            log,
            f"the event {tag!r} at position {commit.position + index:,}, in commit {commit.number:,}, holds arrays and "
            f"objects nested {depth:,} deep, deeper than this program can read",
            f"it is whole: let the program read deeper, with sys.setrecursionlimit({depth * 2 + 1000}) before it opens",
        )
    return LogCorrupt(log, commit.number, f"its body is not that of a commit: {error}")


def _problem(head: Head, commit: Commit) -> str | None:
    if commit.number != head.number + 1:
        return f"commit {commit.number:,} stands where {head.number + 1:,} should"
    if commit.position != head.position + 1:
        return f"its first event has position {commit.position:,}, but should have {head.position + 1:,}"
    if commit.digest != digest_of(head.digest, commit.recorded_at, commit.body):
        return "its digest does not match its content and the commit before it"
    if not is_timestamp(commit.recorded_at):
        return f"its time is {commit.recorded_at[:40]!r}, and not one like 2026-01-31T12:00:00.000000Z"
    if commit.recorded_at < head.recorded_at:
        return f"its time {commit.recorded_at} is before {head.recorded_at}"
    return None
