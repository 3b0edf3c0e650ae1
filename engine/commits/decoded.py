"""A durable commit as those who follow the log get it: decoded, and what its events mean today."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from millstream.engine.application.about import About
from millstream.engine.application.app import App
from millstream.engine.application.messages import Event
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.commits.record import Body
from millstream.engine.commits.telling import abouts

__all__ = ["DecodedCommit"]


class DecodedCommit(msgspec.Struct):
    """A durable commit as those who follow the log get it: decoded, and shared by reference between all of them.

    ``head`` is what the log's head is with it, ``start`` the position before its first event, ``events`` what those
    that are stored mean today, ``types`` their types, ``size_bytes`` its encoded size. ``body`` is there when it was
    read from the log; else ``read`` gives what it would be. None of it is ever changed.
    """

    head: Head
    start: int
    events: Sequence[Event]
    types: frozenset[type[Event]]
    size_bytes: int
    body: Body[Any] | None = None
    read: Callable[[], Body[Any]] | None = None
    #: What is known about each of `events`, as soon as it was asked for.
    abouts: Sequence[About] | None = None
    #: The position of each of `events`, the same way.
    positions: Sequence[int] | None = None

    @classmethod
    def of(
        cls,
        commit: Commit,
        stored: int,
        events: Sequence[Event],
        body: Body[Any] | None = None,
        read: Callable[[], Body[Any]] | None = None,
    ) -> DecodedCommit:
        """The decoded form of a commit that holds so many events, which mean ``events`` today.

        One of ``body`` and ``read`` is given.
        """
        return cls(
            Head.after(commit, stored),
            commit.position - 1,
            events,
            frozenset(map(type, events)),
            len(commit.body),
            body,
            read,
        )

    def position(self, app: App, index: int) -> int:
        """The position of one of the events: of the stored one that it is, or that it came from."""
        if self.positions is None:
            first, stored = self.start + 1, () if self.body is None else self.body.events
            if app.retired.isdisjoint(map(type, stored)):
                self.positions = range(first, first + len(self.events))
            else:
                self.positions = [each for each, event in enumerate(stored, first) for _ in app.upcast([event])]
        return self.positions[index]

    def tell(self, app: App) -> Sequence[About]:
        """What is known about each of the events: what the log says of the stored one that it is, or that it came from.

        Raises:
            RuntimeError: the commit was made without its body: a defect of the engine.
        """
        if self.abouts is None:
            body = self.body
            if body is None:
                if self.read is None:
                    raise RuntimeError(f"commit {self.head.number:,} has nothing to tell about its events")
                body = self.read()
            told, first = list(abouts(body, self.start, self.head)), self.start + 1
            is_plain = len(told) == len(self.events) and app.retired.isdisjoint(map(type, body.events))
            self.abouts = (
                told if is_plain else [told[self.position(app, index) - first] for index in range(len(self.events))]
            )
        return self.abouts
