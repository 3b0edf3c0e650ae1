"""What a commit tells about its events, to whatever applies them and asks.

Here: from what a commit says of its commands to an `About` for each event. Not here: who asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from millstream.engine.application.about import About
from millstream.engine.commits.commit import Head, moment_of
from millstream.engine.commits.record import Body

__all__ = ["abouts"]


def abouts(body: Body[Any], start: int, head: Head) -> Iterator[About]:
    """What is known about each event that a commit holds, in order.

    Args:
        body: the commit's.
        start: the position before its first event.
        head: the log's head with it.
    """
    position, recorded_at, keys = start, moment_of(head), body.event_keys()
    for record in body.records():
        for _ in record.events:
            yield About(
                position=position + 1,
                recorded_at=recorded_at,
                command=record.type,
                key=keys[position - start],
                command_id=record.id,
                actor=record.actor,
                correlation=record.correlation,
                causation=record.causation if record.origin is None else record.origin.causation(start),
                trace=record.trace,
                extra=record.extra,
            )
            position += 1
