"""Settling a doubt by a probe: for stores where what was written last hides what failed before it.

Here: what became of a commit, by the log's head. Not here: how a store makes sure that nothing comes later.
"""

from __future__ import annotations

from millstream.engine.commits.commit import Commit
from millstream.engine.errors import CommitsLost, Fenced
from millstream.engine.stores.port import Log

__all__ = ["is_there", "settled_by_probe"]


async def settled_by_probe(log: Log, commit: Commit) -> bool:
    """What `Log.settle` promises, for a store of which `probe` promises that what failed before it can't come back.

    What is there is as durable as the probe.
    """
    await log.probe()
    return await is_there(log, commit)


async def is_there(log: Log, commit: Commit) -> bool:
    """Whether the log holds the commit, where nothing else can come any more.

    Raises:
        Fenced: another commit has its number.
        CommitsLost: the log ends before the commit before it.
        Exception: the store can't be asked.
    """
    head = await log.head()
    there = await log.read(commit.number - 1, 1) if head.number > commit.number else ()
    if commit.digest in (head.digest, *(stored.digest for stored in there)):
        return True
    if head.number >= commit.number:
        raise Fenced(log.name, commit.number, head.number)
    if head.number < commit.number - 1:
        raise CommitsLost(log.name, commit.number - 1, head.number)
    return False
