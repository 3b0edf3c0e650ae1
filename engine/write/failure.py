"""When a commit fails: which caller gets which error, and how the writer comes back to a state that the log has.

Here: failing a draft, failing those who wait, and the way back. Not here: when any of it is done (`writer`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio

from millstream.engine.application.messages import Receipt
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import (
    CommitFailed,
    CommitsLost,
    Fenced,
    LogCorrupt,
    MillstreamError,
    OutcomeUnknown,
)
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.observers import Observer
from millstream.engine.stores.port import Log
from millstream.engine.write.batch import Draft
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.patience import Patience
from millstream.engine.write.state import WriteState

__all__ = ["NotYet", "Rebuilt", "Repair", "fail_draft", "fail_queue"]


#: How long a commit for which no caller waits rests after it has failed twice; and how long at most, later.
_AGAIN_SECONDS = 0.025
_AGAIN_SECONDS_MAX = 1.0


class Rebuilt(NamedTuple):
    """The write side's state as the log has it."""

    state: WriteState
    head: Head
    #: How many events had to be replayed.
    replayed: int


class NotYet(Exception):
    """The store failed on the way back; ``str()`` says at what. The cause is what it raised."""


class Repair:
    """The way back after a failure.

    Args:
        log: the writer's.
        rebuild: makes the state anew, as the log has it.
        patience: for how long it is tried before callers get an error.
        observer: is called with how it goes.
    """

    def __init__(
        self, log: Log, rebuild: Callable[[Slicer], Awaitable[Rebuilt]], patience: Patience, observer: Observer
    ) -> None:
        self._log = log
        self._rebuild = rebuild
        self._patience = patience
        self._observer = observer
        #: The store has failed, and has not taken anything since.
        self._is_store_down = False
        self._in_doubt: Commit | None = None
        #: The number of the last commit that failed, and how often in a row one with it did for which no caller waits.
        self._number = self._again = 0

    def store_is_down(self) -> None:
        """Nothing is rebuilt until the store has taken something."""
        self._is_store_down = True

    def failed(self, commit: Commit, error: CommitFailed | OutcomeUnknown, *, alone: bool) -> None:
        """A commit failed, or is in doubt.

        Args:
            commit: it.
            error: with what.
            alone: no caller waits for it: it is decided again by itself, from what is owed or due.
        """
        self.store_is_down()
        is_again = alone and commit.number == self._number
        self._number, self._again = commit.number, self._again + 1 if is_again else 0
        if isinstance(error, OutcomeUnknown):
            self._in_doubt = commit
        self._observer.commit_failed(log=self._log.name, commit=error.commit, error=error, cause=error.__cause__)

    async def attempt(self, head: Head, slicer: Slicer) -> Rebuilt:
        """The state from snapshots and log. Its head is ``head``, or the commit in doubt, which was written after all.

        Args:
            head: the last commit that is known to be durable.
            slicer: says when to rest.

        Raises:
            NotYet: the store failed; try again later.
            Fenced: the log has a commit that is not ours.
            CommitsLost: the log ends before ``head``.
            MillstreamError: the log can't be believed.
        """
        if self._again:  # else a store that works, and refuses just this, would be given it without a rest
            await anyio.sleep(min(_AGAIN_SECONDS * 2.0 ** min(self._again, 30), _AGAIN_SECONDS_MAX))
        started = elapsed()
        self._patience.begin()
        try:
            if self._is_store_down:
                await self._log.probe()
                self._is_store_down = False
                self._observer.store_recovered(log=self._log.name, commit=head.number)
        except (CommitsLost, Fenced, LogCorrupt):
            raise
        except Exception as error:
            raise NotYet(f"the store takes no commits: {error}") from error
        try:
            rebuilt = await self._rebuild(slicer)
        except MillstreamError:
            raise
        except Exception as error:
            raise NotYet(f"after a failure the log can't be read: {error!r}") from error
        self._require_ours(head, rebuilt.head)
        self._patience.end()
        seconds = elapsed() - started
        self._observer.state_rebuilt(
            log=self._log.name, events=rebuilt.head.position, replayed=rebuilt.replayed, seconds=seconds
        )
        return rebuilt

    def _require_ours(self, head: Head, found: Head) -> None:
        """See that the log ends where we left it, or with the commit whose outcome was not known."""
        doubt, self._in_doubt = self._in_doubt, None
        if found.digest == head.digest:
            return
        if found.number < head.number:
            raise CommitsLost(self._log.name, head.number, found.number)
        if doubt is None or found.digest != doubt.digest:
            raise Fenced(self._log.name, head.number + 1, found.number)
        self._observer.commit_found(log=self._log.name, commit=found.number)


def fail_draft(
    draft: Draft,
    durable: int,
    error: Callable[[], MillstreamError],
    cause: BaseException | None = None,
    before: Callable[[], MillstreamError] | None = None,
) -> int:
    """Fail everyone in a draft, except callers that wait only for what is durable. Returns how many that were.

    Args:
        draft: what does not become durable.
        durable: the number of the last commit that is.
        error: makes the error, one for each.
        cause: the error's cause.
        before: makes the error of those callers, about what is in the commit ahead of the draft's: what became of
            that one. ``error`` by default.
    """
    failed = 0
    for promise, outcome in zip(draft.promises, draft.outcomes, strict=True):
        told_of = outcome.commit if isinstance(outcome, Receipt) and _wrote_nothing(outcome) else None
        if told_of is not None and told_of <= durable:
            if not promise.done():
                promise.set_result(outcome)
            continue
        failed += 1
        if not promise.done():
            is_before = told_of is not None and told_of < draft.number
            refused = before() if is_before and before is not None else error()
            refused.__cause__ = cause
            promise.set_exception(refused)
    return failed


def _wrote_nothing(receipt: Receipt) -> bool:
    """Whether a receipt is no promise of its own commit: it tells of what was there before."""
    return receipt.repeated or (receipt.events == 0 and receipt.command_id is None)


def fail_queue(queue: deque[Envelope], error: Callable[[], MillstreamError], cause: BaseException | None = None) -> int:
    """Fail everyone who waits. Returns how many had not given up."""
    failed = 0
    while queue:
        promise = queue.popleft()[0]
        if not promise.done():
            refused = error()
            refused.__cause__ = cause
            promise.set_exception(refused)
            failed += 1
    return failed
