"""The events of a commit while they are applied one after another: which one it is just now, and what is known of it.

Here: what both sides know of that. Not here: the loop that applies them (`application.applying`).
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint

from millstream.engine.application.about import About, own_about
from millstream.engine.application.app import App
from millstream.engine.application.messages import Event
from millstream.engine.commits.decoded import DecodedCommit

__all__ = ["Applied"]


class Applied:
    """Some of a commit's events.

    Args:
        app: whose events they are.
        decoded: the commit.
        start: which is the first one.
        count: how many there are, if so many follow; by default, and from the first one on, all.
    """

    __slots__ = ("_app", "_decoded", "_end", "left")

    def __init__(self, app: App, decoded: DecodedCommit, start: int = 0, count: int | None = None) -> None:
        events = decoded.events if count is None else decoded.events[start : start + count]
        self._app = app
        self._decoded = decoded
        self._end = start + len(events)
        #: Those that were not taken yet: the applying side takes one after another.
        self.left: Iterator[Event] = iter(events)

    @property
    def index(self) -> int:
        """Which of the commit's events was taken last."""
        return self._end - length_hint(self.left) - 1

    @property
    def event(self) -> Event:
        """That event."""
        return self._decoded.events[self.index]

    @property
    def position(self) -> int:
        """The position of that event: of the stored one that it is, or that it came from."""
        return self._decoded.position(self._app, self.index)

    @property
    def about(self) -> About:
        """What is known about it, as the caller's own."""
        decoded = self._decoded
        return own_about((decoded.abouts or decoded.tell(self._app))[self._end - length_hint(self.left) - 1])
