"""Finding a commit of a log by what commits say, as they lie in an order: by halving."""

from __future__ import annotations

from collections.abc import Callable

from millstream.engine.commits.commit import Commit
from millstream.engine.stores.port import Log

__all__ = ["commit_at", "commit_of", "last_commit"]


async def last_commit(log: Log, last: int, is_not_later: Callable[[Commit], bool]) -> Commit | None:
    """The last commit of which that is true; None if it is of none.

    Args:
        log: open, or attached.
        last: the number of the log's last commit.
        is_not_later: true of all commits up to one, and of none after it.
    """
    low, high = 0, last + 1
    found: Commit | None = None
    while high - low > 1:
        middle = (low + high) // 2
        (commit, *_) = await log.read(middle - 1, 1)
        if is_not_later(commit):
            low, found = middle, commit
        else:
            high = middle
    return found


async def commit_of(log: Log, last: int, position: int) -> int:
    """The number of the commit that holds the event at a position, or of the last one before that; 0 for none.

    Args:
        log: open, or attached.
        last: the number of the log's last commit.
        position: that of the event; 0 is before the first one.
    """
    found = await last_commit(log, last, lambda commit: commit.position <= position) if position > 0 else None
    return found.number if found else 0


async def commit_at(log: Log, number: int) -> Commit | None:
    """The commit with that number, unverified; None if the log has none."""
    found = await log.read(number - 1, 1) if number > 0 else ()
    return found[0] if found and found[0].number == number else None
