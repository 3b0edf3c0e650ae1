"""A durable commit as those who follow the log get it: decoded, and what its events mean today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from millstream.engine.application.messages import Event
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.commits.record import Body

__all__ = ["DecodedCommit"]


class DecodedCommit(msgspec.Struct, frozen=True):
    """A durable commit as those who follow the log get it: decoded, and shared by reference between all of them.

    ``head`` is what the log's head is with it, ``start`` the position before its first event, ``events`` what those
    that are stored mean today, ``types`` their types, ``size_bytes`` its encoded size. ``body`` is there when it was
    read from the log.
    """

    head: Head
    start: int
    events: Sequence[Event]
    types: frozenset[type[Event]]
    size_bytes: int
    body: Body[Any] | None = None

    @classmethod
    def of(cls, commit: Commit, stored: int, events: Sequence[Event], body: Body[Any] | None = None) -> DecodedCommit:
        """The decoded form of a commit that holds so many events, which mean ``events`` today."""
        return cls(
            Head.after(commit, stored),
            commit.position - 1,
            events,
            frozenset(map(type, events)),
            len(commit.body),
            body,
        )
