"""Events as they are appended, from a log or from a server, for a terminal or as lines of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from millstream.engine.cli.output import printable, show_json, show_row
from millstream.engine.client import Link
from millstream.engine.client.subscriptions import Policy
from millstream.engine.stores.events import event_pages
from millstream.engine.upkeep import StoredEvent, attached

__all__ = ["TOLD", "Show", "Wanted", "event_row", "tail_lines", "tail_log", "tail_server", "without_told"]

#: Events that are shown of those that are there already.
_LAST = 10

#: The cell of `event_row` for what the caller of the command gave with it.
TOLD = 6
_read_events = msgspec.json.Decoder(list[StoredEvent]).decode


class Wanted(NamedTuple):
    """Which events: from where on, how many, with which key and of which type; None for any."""

    after: int | None = None
    limit: int | None = None
    key: str | None = None
    tag: str | None = None

    def begin(self, end: int) -> int:
        """The position to begin after, in a log that ends at ``end``."""
        return max(0, end - _LAST) if self.after is None else self.after


#: What shows one event.
Show = Callable[[StoredEvent], None]


def tail_lines(*, json: bool) -> Show:
    """What shows an event: a line of JSON, or of a table."""
    if json:
        return lambda event: show_json(event, flush=True)
    return lambda event: show_row(without_told(event_row(event)))


def without_told(row: tuple[str, ...]) -> tuple[str, ...]:
    """A row without the cell for what its caller gave with it, if that is nothing."""
    return row if row[TOLD] else (*row[:TOLD], *row[TOLD + 1 :])


def event_row(event: StoredEvent) -> tuple[str, ...]:
    """An event for people: position, commit, time, type, key, command id, what its caller gave with it, content."""
    return (
        str(event.position),
        str(event.commit),
        printable(event.recorded_at),
        printable(event.type),
        printable(event.key),
        printable(event.command_id),
        printable(" ".join(f"{name}={value}" for name, value in _told(event).items())),
        printable(bytes(event.data).decode("utf-8", "replace")),
    )


def _told(event: StoredEvent) -> dict[str, str]:
    """What the command's caller gave with it, by name."""
    named = {name: getattr(event, name) for name in ("actor", "correlation", "causation", "trace")}
    told = {name: value for name, value in named.items() if value is not None}
    return told | {f"extra.{name}": value for name, value in (event.extra or {}).items()}


async def tail_log(address: str, wanted: Wanted, show: Show) -> None:
    """Show the events of a log and go on until the limit.

    Raises:
        LogRefused, LogCorrupt: it can't be read.
    """
    keys = None if wanted.key is None else frozenset((wanted.key,))
    tags = None if wanted.tag is None else frozenset((wanted.tag,))
    left = wanted.limit
    async with attached(address) as (log, _):
        after = wanted.begin((await log.head()).position)
        async for events in event_pages(log, after=after, keys=keys, tags=tags, endless=True):
            left = _shown(events, left, show)
            if left == 0:
                return


async def tail_server(link: Link, wanted: Wanted, show: Show) -> None:
    """The same from a server.

    Raises:
        MillstreamError: what the server says.
    """
    after = wanted.begin(msgspec.json.decode(await link.call("health"))["position"])
    params: dict[str, list[str]] = {}
    if wanted.key is not None:
        params["keys"] = [wanted.key]
    if wanted.tag is not None:
        params["types"] = [wanted.tag]
    left = wanted.limit
    following = await link.subscribe("follow", params, after=after, policy=Policy.STREAM)
    try:
        while left != 0:
            told = await following.next()
            left = _shown(_read_events(told.content), left, show)
    finally:
        following.close()


def _shown(events: Iterable[StoredEvent], left: int | None, show: Show) -> int | None:
    """Show events up to a limit; what is left of it."""
    for event in events:
        if left == 0:
            break
        show(event)
        left = None if left is None else left - 1
    return left
