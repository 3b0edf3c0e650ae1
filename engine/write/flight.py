"""What the writer keeps of a commit on its way, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from millstream.engine.commits.commit import Commit
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.record import Body
from millstream.engine.loop.clock import elapsed
from millstream.engine.observers import Observer, has_hook
from millstream.engine.write.batch import Draft

__all__ = ["Counts", "Flight", "Tellers"]


class Counts(msgspec.Struct):
    """What became of commands since the engine was opened."""

    commits: int = 0
    commands: int = 0
    refused: int = 0
    failed: int = 0
    batch_last: int = 0
    batch_max: int = 0
    #: Timers that were to be called off, and were not there.
    not_timed: int = 0
    #: How long commits took, all together.
    seconds: float = 0.0

    def committed(self, commands: int, seconds: float) -> None:
        """One more commit, of so many commands, which took so long."""
        self.commits += 1
        self.seconds += seconds
        self.commands += commands
        self.batch_last = commands
        self.batch_max = max(self.batch_max, commands)

    def told(self, draft: Draft) -> None:
        """The outcomes of a draft's callers stand."""
        self.refused += draft.refused
        self.not_timed += len(draft.not_timed)


class Tellers:
    """Those who want to be called at each commit: asked once, so that without them a commit pays for two looks at None.

    Args:
        observer: whom.
        slow_ms: a commit that takes longer has a line of its own.
    """

    __slots__ = ("_committed", "_slow_commit", "_slow_ms", "_traced")

    def __init__(self, observer: Observer, slow_ms: float) -> None:
        self._slow_commit, self._slow_ms = observer.slow_commit, slow_ms
        self._committed = observer.committed if has_hook(observer, "committed") else None
        self._traced = observer.traced if has_hook(observer, "traced") else None

    def committed(self, draft: Draft, decoded: DecodedCommit, seconds: float) -> None:
        """A commit is durable."""
        head, events = decoded.head, decoded.head.position - decoded.start
        if self._committed is not None:
            self._committed(
                commit=head.number,
                position=head.position,
                commands=draft.accepted,
                events=events,
                size_bytes=decoded.size_bytes,
                seconds=seconds,
            )
        if self._traced is not None:
            self._traced(
                commit=head.number,
                position=head.position,
                commands=draft.accepted,
                events=events,
                seconds=seconds,
                traces=draft.sheet.traces,
            )
        if (ms := seconds * 1e3) > self._slow_ms:
            self._slow_commit(commit=head.number, ms=round(ms), bytes=decoded.size_bytes)


class Flight:
    """A commit that is being written.

    Args:
        draft: what it holds, and who waits for it.
        commit: as it is written.
    """

    __slots__ = ("commit", "draft", "error", "since", "task")

    def __init__(self, draft: Draft, commit: Commit) -> None:
        self.draft = draft
        self.commit = commit
        self.since = elapsed()
        #: What it failed with.
        self.error: BaseException | None = None
        #: What waits for the store, where that is needed.
        self.task: asyncio.Task[None] | None = None

    def wait_for(
        self, writing: Coroutine[Any, Any, None], arrived: Callable[[Flight, BaseException | None], None]
    ) -> None:
        """Wait for the store in a task; ``arrived`` gets what the commit ended with."""

        async def until_done() -> None:
            try:
                await writing
            except Exception as error:  # noqa: BLE001 - it is what the commit ended with
                arrived(self, error)
            else:
                arrived(self, None)

        self.task = asyncio.create_task(until_done(), name=f"millstream-commit-{self.commit.number}")

    def decoded(self, read: Callable[[bytes], Body[Any]]) -> DecodedCommit:
        """The commit for those who follow the log. Its body is read, as it is written, if one of them asks for more."""
        draft, commit = self.draft, self.commit
        return DecodedCommit.of(commit, draft.position - draft.start, draft.events, read=lambda: read(commit.body))
