"""The one append, and what became of it when the store can't say."""

from __future__ import annotations

import anyio

from millstream.engine.commits.commit import Commit
from millstream.engine.errors import CommitFailed, CommitsLost, Fenced, OutcomeUnknown
from millstream.engine.stores.port import Log
from millstream.engine.write.patience import Patience

__all__ = ["meaning_of", "settle", "write"]


async def write(log: Log, commit: Commit, patience: Patience) -> None:
    """Append, and after an unclear failure ask the log whether the commit is there.

    Raises:
        Fenced: another writer has appended.
        CommitFailed: it is certain that nothing was written.
        CommitsLost: the log ends before the commit before it.
        OutcomeUnknown: the log could not be asked, for as long as ``patience`` has.
    """
    try:
        await log.append(commit)
    except (Fenced, CommitFailed):
        raise
    except Exception as error:  # noqa: BLE001 - what it means is asked
        await settle(log, commit, error, patience)


async def settle(log: Log, commit: Commit, error: Exception, patience: Patience) -> None:
    """After an append that failed with ``error``, which does not say whether the commit is there: ask the log.

    Raises:
        Fenced, CommitFailed, CommitsLost, OutcomeUnknown: as `write`.
    """
    patience.begin()
    while True:
        try:
            is_durable = await log.settle(commit)
            break
        except (Fenced, CommitsLost) as told:
            raise told from error
        except Exception as second:  # noqa: BLE001 - raised for the callers, beside the first
            if patience.is_over:
                raise OutcomeUnknown(commit.number, f"{error!r}, then {second!r}") from error
        await anyio.sleep(patience.pause())
    patience.end()
    if not is_durable:
        raise CommitFailed(commit.number, repr(error)) from error


def meaning_of(error: BaseException) -> BaseException:
    """What an append ended with, where the log's head says more: a log that ends before our last commit has lost it."""
    if isinstance(error, Fenced) and error.head < error.commit - 1:
        lost = CommitsLost(error.log, error.commit - 1, error.head)
        lost.__cause__ = error
        return lost
    return error
