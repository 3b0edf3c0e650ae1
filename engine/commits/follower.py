"""The port of whatever follows the log beside the writer: a view, the snapshotter."""

from __future__ import annotations

from typing import Protocol

from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit

__all__ = ["Follower"]


class Follower(Protocol):
    """An actor that is offered each durable commit, in order.

    An engine holds its followers in one list, and does each of these steps in the order of that list: it starts them,
    runs each in a task, offers commits, stops them, waits until all have ended, and closes them.
    """

    @property
    def task_name(self) -> str:
        """What the task that runs it is called."""
        ...

    def start(self, head: Head) -> None:
        """The states are those of the log at ``head``; the next commit that is offered follows that one."""
        ...

    def offer(self, decoded: DecodedCommit) -> None:
        """Take the next durable commit. Never waits, never raises."""
        ...

    def resync(self, head: Head) -> None:
        """The log has commits up to ``head`` that were not offered: the next one that is follows ``head``."""
        ...

    def recede(self, head: Head) -> None:
        """What was being written after ``head`` is not in the log, and will not be: don't wait for it."""
        ...

    async def run(self) -> None:
        """Its life, until `stop`.

        Raises:
            Exception: a defect. Closing the engine raises it.
        """
        ...

    def stop(self) -> None:
        """Let `run` end. No commit is offered after this."""
        ...

    async def close(self) -> None:
        """Finish what can be finished when nothing moves any more: every `run` has ended. Never raises."""
        ...
