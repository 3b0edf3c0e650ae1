"""How large a commit may be that a store takes."""

from __future__ import annotations

from millstream.engine.commits.commit import Commit
from millstream.engine.errors import CommitFailed

__all__ = ["require_size"]


def require_size(commit: Commit, body_bytes_max: int | None) -> None:
    """See that a commit has no more bytes than its store takes.

    Raises:
        CommitFailed: it has more.
    """
    size = len(commit.body)
    if body_bytes_max is not None and size > body_bytes_max:
        raise CommitFailed(commit.number, f"it has {size:,} bytes, and the store takes {body_bytes_max:,} at most")
