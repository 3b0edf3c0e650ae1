"""Settling a doubt by a probe: for stores where what was written last hides what failed before it.

Here: what became of a commit, by the log's head. Not here: how a store makes sure that nothing comes later.
"""

from __future__ import annotations

from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import CommitsLost, Fenced
from millstream.engine.stores.port import Log

__all__ = ["is_durable", "settled_by_probe"]


async def settled_by_probe(log: Log, commit: Commit) -> bool:
    """What `Log.settle` promises, for a store of which `probe` promises that what failed before it can't come back.

    What is there is as durable as the probe.
    """
    await log.probe()
    head = await log.head()
    there = await log.read(commit.number - 1, 1) if head.number >= commit.number else ()
    return is_durable(log.name, commit, head, there[0].digest if there else None)


def is_durable(log: str, commit: Commit, head: Head, digest: bytes | None) -> bool:
    """Whether a log holds a commit, where nothing else can come any more.

    Args:
        log: what errors call it.
        commit: the one whose append is in doubt.
        head: the log's.
        digest: that of the log's commit with the same number, if there is one.

    Raises:
        Fenced: another commit has its number.
        CommitsLost: the log ends before the commit before it.
    """
    if digest == commit.digest:
        return True
    if head.number >= commit.number:
        raise Fenced(log, commit.number, head.number)
    if head.number < commit.number - 1:
        raise CommitsLost(log, commit.number - 1, head.number)
    return False
