"""The events of a log as they are stored, whatever application they are of: for people, and for programs without one.

Nothing is verified, and no event is checked against a class: what is there is shown, also where a log is damaged
elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence, Set
from contextlib import aclosing

import msgspec

from millstream.engine.application.validation import require_reached
from millstream.engine.commits.body import UNREADABLE, body_reader
from millstream.engine.commits.chain import unreadable
from millstream.engine.commits.commit import Commit
from millstream.engine.loop.slices import Slicer
from millstream.engine.stores.finding import commit_of
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import PAGE_BYTES, SLICE_MS

__all__ = ["StoredEvent", "event_pages", "stored_events"]


class StoredEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as the log holds it.

    ``data`` is its JSON. ``command`` is the type of the command that it came from, ``command_id`` and all that follows
    is what that command's caller gave. Where a reaction has sent it, ``causation`` names the event that led to it.
    """

    position: int
    commit: int
    recorded_at: str
    type: str
    key: str | None
    command_id: str | None
    data: msgspec.Raw
    command: str = ""
    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    trace: str | None = None
    extra: dict[str, str] | None = None


class _Tagged(msgspec.Struct):
    type: str | int = ""


_read_body = body_reader((msgspec.Raw,))
_read_tag = msgspec.json.Decoder(_Tagged).decode


async def stored_events(
    log: Log, *, after: int = 0, key: str | None = None, tag: str | None = None
) -> AsyncIterator[StoredEvent]:
    """The events of a log in order, until its end.

    Args:
        log: open, or attached.
        after: only those with a higher position.
        key: only those with this key.
        tag: only those of this type.

    Raises:
        InvalidMessage: ``after`` is above the log's head.
        LogCorrupt: a commit can't be read; names it.
        LogRefused: one is nested too deeply to be read.
    """
    keys = None if key is None else frozenset((key,))
    tags = None if tag is None else frozenset((tag,))
    async for events in event_pages(log, after=after, keys=keys, tags=tags):
        for event in events:
            yield event


async def event_pages(
    log: Log,
    *,
    after: int = 0,
    keys: Set[str] | None = None,
    tags: Set[str] | None = None,
    endless: bool = False,
) -> AsyncGenerator[list[StoredEvent], None]:
    """The events of a log in order, those of each commit together; commits that have none of them are passed over.

    Where to begin is found by halving: some 20 reads of one commit, however long the log is. From there on every commit
    is read: there is no index on keys and types.

    Args:
        log: open, or attached.
        after: only those with a higher position.
        keys: only those with one of these keys.
        tags: only those of one of these types.
        endless: at the end of the log wait for more, instead of ending.

    Raises:
        InvalidMessage: ``after`` is above the log's head.
        LogCorrupt: a commit can't be read; names it.
        LogRefused: one is nested too deeply to be read.
    """
    slicer = Slicer(SLICE_MS)
    head = await log.head()
    require_reached(after, head.position)
    number = max(0, await commit_of(log, head.number, after + 1) - 1)
    async with aclosing(log.follow(number, PAGE_BYTES) if endless else _until_end(log, number)) as pages:
        async for page in pages:
            for commit in page:
                found = [
                    event
                    for event in _events_of(log.name, commit)
                    if event.position > after
                    and (keys is None or event.key in keys)
                    and (tags is None or event.type in tags)
                ]
                if found:
                    yield found
                if slicer.is_over:
                    await slicer.rest()


async def _until_end(log: Log, number: int) -> AsyncGenerator[Sequence[Commit], None]:
    while page := await log.read(number, PAGE_BYTES):
        yield page
        number = page[-1].number


def _events_of(log: str, commit: Commit) -> Iterator[StoredEvent]:
    number, recorded_at, position = commit.number, commit.recorded_at, commit.position
    try:
        body = _read_body(commit.body)
        keys = body.event_keys()
        for record in body.records():
            for data in record.events:
                yield StoredEvent(
                    position,
                    number,
                    recorded_at,
                    str(_read_tag(data).type),
                    keys[position - commit.position],
                    record.id,
                    data,
                    record.type,
                    record.actor,
                    record.correlation,
                    record.causation if record.origin is None else record.origin.causation(commit.position - 1),
                    record.trace,
                    record.extra,
                )
                position += 1
    except UNREADABLE as error:
        raise unreadable(log, commit, error) from error
