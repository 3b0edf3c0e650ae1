"""What is said in a stream: the answers of a watch, or events of the log, each under its position.

Here: from a running application to blocks of server-sent events. Not here: how they are sent, and what ends them
(`streams`).

Invariant: who goes on behind the last id that it has seen misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import anyio
import msgspec

from millstream.engine.application.happened import Following, Happened, HappenedPage
from millstream.engine.application.messages import Event, Query
from millstream.engine.application.validation import encode, require_reached
from millstream.engine.client.client import Client
from millstream.engine.read.watches import Watch
from millstream.engine.server.backend import Backend, not_yet
from millstream.engine.web.served import Served
from millstream.engine.web.streams import Source

__all__ = ["answers", "events"]

#: How many events may be left out before an event says how far that goes.
_SILENT_EVENTS_MAX = 1_000


async def answers(backend: Served, query: Query[Any], after: int, incomplete: bool, seconds: float) -> Source:
    """The answer now, and then each changed one; a slow reader gets the newest one only.

    Args:
        backend: who answers.
        query: the question.
        after: a position that the first answer reflects.
        incomplete: whether answers that are incomplete will do.
        seconds: how long it may take until there is one.

    Raises:
        as `Engine.watch`, and NotYetVisible: the view did not reach the position in time.
    """
    if isinstance(backend, Client):
        async with backend.watch(query, after=after or None, incomplete=incomplete) as answered:
            async for each in answered:
                yield _block(each.position, encode(each.answer))
        return
    watch = await _opened(backend, query, after, incomplete, seconds)
    try:
        while True:
            answer, position = await watch.next()
            yield _block(position, answer)
    finally:
        watch.close()


async def _opened(backend: Backend, query: Query[Any], after: int, incomplete: bool, seconds: float) -> Watch:
    with anyio.move_on_after(seconds):
        return await backend.open_watch(query, after=after, incomplete=incomplete)
    raise not_yet(backend, query, after, seconds)


async def events(backend: Served, types: Iterable[type[Event]], after: int, keys: Iterable[str] | None) -> Source:
    """What happened after a position, and then what happens. Said at first: that it has begun.

    Raises:
        as `Engine.follow`.
    """
    if not isinstance(backend, Client):
        backend.require_position(after)
    elif after and (there := await backend.health()).role == "writer":  # later, a browser would come again
        require_reached(after, there.position)
    following: Following[Any] = backend.follow(types=types, after=after, keys=keys)
    told = after
    yield b":\n\n"
    async with aclosing(following):
        async for page in following.pages():
            for block in _blocks(page):
                yield block
            if page.happened:
                told = page.happened[-1].about.position
            if page.position - told >= _SILENT_EVENTS_MAX:
                yield b"id: %d\n\n" % (told := page.position)


def _blocks(page: HappenedPage[Any]) -> list[bytes]:
    """The events of a page. Of those that share a position the last one has the id: who saw it saw them all."""
    happened = page.happened
    return [
        _block(each.about.position if _is_last(happened, index) else None, msgspec.json.encode(each))
        for index, each in enumerate(happened)
    ]


def _is_last(happened: Any, index: int) -> bool:
    following: Happened[Any] | None = happened[index + 1] if index + 1 < len(happened) else None
    return following is None or following.about.position > happened[index].about.position


def _block(position: int | None, data: bytes) -> bytes:
    if position is None:
        return b"data: %b\n\n" % data
    return b"id: %d\ndata: %b\n\n" % (position, data)
