"""The one append, and what became of it when the store can't say."""

from __future__ import annotations

from millstream.engine.commits.commit import Commit
from millstream.engine.errors import CommitFailed, Fenced, OutcomeUnknown
from millstream.engine.stores.port import Log

__all__ = ["settle", "write"]


async def write(log: Log, commit: Commit) -> None:
    """Append, and after an unclear failure ask the log whether the commit is there.

    Raises:
        Fenced: another writer has appended.
        CommitFailed: it is certain that nothing was written.
        OutcomeUnknown: the log could not be asked.
    """
    try:
        await log.append(commit)
    except (Fenced, CommitFailed):
        raise
    except Exception as error:  # noqa: BLE001 - what it means is asked
        await settle(log, commit, error)


async def settle(log: Log, commit: Commit, error: Exception) -> None:
    """After an append that failed with ``error``, which does not say whether the commit is there: ask the log.

    It is asked after a probe that it took: what the failed append left behind can't come back then, also not by a
    crash, and what is there is as durable as the probe.

    Raises:
        Fenced, CommitFailed, OutcomeUnknown: as `write`.
    """
    try:
        await log.probe()
        head = await log.head()
        there = await log.read(commit.number - 1, 1) if head.number > commit.number else ()
    except Exception as second:  # noqa: BLE001 - raised for the callers, beside the first
        raise OutcomeUnknown(commit.number, f"{error!r}, then {second!r}") from error
    if commit.digest in (head.digest, *(stored.digest for stored in there)):
        return
    if head.number >= commit.number:
        raise Fenced(log.name, commit.number, head.number) from error
    raise CommitFailed(commit.number, repr(error)) from error
