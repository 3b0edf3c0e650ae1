"""A page of the log, newest first: what happened, by type, key, and who asked for it.

Here: looking back from a position until a page is full. Not here: reading forward, for which a log is made (`follow`).

The log has no index by key, so looking for what is rare reads much of it: in windows that grow, each read forward, and
at most so many events for one request. Invariant: a page says how far it has looked, so the next one goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import msgspec

from millstream.engine.application.about import About
from millstream.engine.application.happened import Following, Happened
from millstream.engine.application.messages import Event
from millstream.engine.client.client import Client
from millstream.engine.web.served import Served

__all__ = ["PAGE_EVENTS", "PAGE_EVENTS_MAX", "LogPage", "history"]

#: Events of a page, by default; and at most.
PAGE_EVENTS = 100
PAGE_EVENTS_MAX = 500
_WINDOW_EVENTS = 500
_WINDOW_GROWTH = 4


class LogPage(msgspec.Struct, frozen=True):
    """Some of what happened, newest first. ``before`` is where the page of what was earlier begins, None if there is
    nothing earlier; ``searched`` how many events were looked at; ``position`` the last one of the log.
    """

    happened: list[Happened[Event]]
    before: int | None
    searched: int
    position: int


async def history(
    backend: Served,
    types: Iterable[type[Event]],
    keys: Iterable[str] | None,
    keeps: Callable[[About], bool],
    *,
    before: int | None,
    limit: int,
    events_max: int,
) -> LogPage:
    """The newest events before a position that are wanted.

    Args:
        backend: whose log it is.
        types: only these.
        keys: only with one of these; None: all.
        keeps: whether one is wanted.
        before: the position that all of them are before; None: the end of the log.
        limit: how many. Where one retired event means several today, all of them are given.
        events_max: how many are looked at.

    Raises:
        as `Engine.follow`.
    """
    end = (await backend.health()).position if isinstance(backend, Client) else backend.position
    upper = end if before is None else min(end, before - 1)
    found: list[Happened[Event]] = []
    searched, window = 0, _WINDOW_EVENTS
    while upper > 0 and len(found) < limit and searched < events_max:
        lower = max(0, upper - min(window, events_max - searched))
        following: Following[Any] = backend.follow(types=list(types), after=lower, keys=keys)
        found = [each for each in await _until(following, upper) if keeps(each.about)] + found
        searched, upper, window = searched + upper - lower, lower, window * _WINDOW_GROWTH
    first = max(0, len(found) - limit)
    while first and found[first - 1].about.position == found[first].about.position:
        first -= 1
    if first:
        earlier: int | None = found[first].about.position
    else:
        earlier = upper + 1 if upper > 0 else None
    return LogPage(found[first:][::-1], earlier, searched, end)


async def _until(following: Following[Any], upper: int) -> list[Happened[Event]]:
    """What is up to a position."""
    found: list[Happened[Event]] = []
    async with aclosing(following):
        async for page in following.pages():
            found += [each for each in page.happened if each.about.position <= upper]
            if page.position >= upper:
                break
    return found
