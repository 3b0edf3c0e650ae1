"""What happens, for followers in this process: the events of the log, as they are understood today.

Here: reading them from the log, choosing among them, and where to go on. Not here: the stored form without an
application (`stores.events`), and following from elsewhere (`server`, `client`).

The log itself is the queue: a slow consumer reads it later, and no more than a page of it is in memory for each.

Invariant: a page has all of what was asked for that is in the log after the page before it, up to its position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar, overload

from millstream.engine.application.about import own_about
from millstream.engine.application.app import App
from millstream.engine.application.happened import Following, Happened, HappenedPage, checked_keys
from millstream.engine.application.messages import Event, Token, position_of
from millstream.engine.application.validation import require_reached
from millstream.engine.commits.body import events_in
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import EngineClosed, InvalidMessage, LimitReached, MillstreamError, UnknownMessage
from millstream.engine.limits import Limits
from millstream.engine.loop.home import Home
from millstream.engine.loop.slices import Slicer
from millstream.engine.stores.finding import commit_of
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader

__all__ = ["Follows"]

E = TypeVar("E", bound=Event)


class Follows(ABC):
    """A running application whose log can be followed.

    Args:
        app: the application.
        limits: ``followers_max``, ``read_bytes_max`` and ``slice_ms_max`` are honoured.
        home: the loop that it is opened on.
    """

    #: Where commits are read.
    log: Log

    def __init__(self, app: App, limits: Limits, home: Home) -> None:
        self.app = app
        self.limits = limits
        self._home = home
        self._followers = 0

    @property
    @abstractmethod
    def status(self) -> str:
        """``open``, or what it is instead."""

    def _require_open(self) -> None:
        """See that it is open.

        Raises:
            EngineClosed: it is not.
        """
        if self.status != "open":
            raise EngineClosed(self.status)

    @asynccontextmanager
    async def _while_open(self) -> AsyncGenerator[None, None]:
        """A block that reads the log. What goes wrong with that because it is closed meanwhile is `EngineClosed`."""
        self._require_open()
        try:
            yield
        except MillstreamError:
            raise
        except Exception as error:
            if self.status != "open":
                raise EngineClosed(self.status) from error
            raise

    @overload
    def follow(
        self, *, after: Token = 0, types: None = None, keys: Iterable[str] | None = None
    ) -> Following[Event]: ...
    @overload
    def follow(
        self, *, after: Token = 0, types: Iterable[type[E]], keys: Iterable[str] | None = None
    ) -> Following[E]: ...
    def follow(
        self, *, after: Token = 0, types: Iterable[type[Any]] | None = None, keys: Iterable[str] | None = None
    ) -> Following[Any]:
        """What happened after a position, and then what happens: ``async for happened in engine.follow(after=…)``.

        Each has an ``event``, as the application understands it today, and what the log says ``about`` it. They are
        durable, in the order of the log, and none is left out. A consumer that is slow is waited for, and delays
        no other one: it reads the log later. Where a retired event means several today, these share a position.

        Args:
            after: a position, or a token: what `Following.position`, a receipt, or an answer says. 0 is the beginning.
            types: only events of these classes, as of today; of what a retired one means, those among them.
            keys: only events with one of these keys, as of today.

        Raises (at once):
            InvalidMessage: ``after`` is no token, a key no text, or there are no ``types`` or ``keys``.
            UnknownMessage: one of ``types`` is no event of the application.
            WrongLoop: it was opened on another event loop.

        Raises (while it is taken from):
            InvalidMessage: ``after`` is above the log's head.
            LimitReached: ``followers_max`` follow already.
            LogCorrupt, EventsUnreadable, LogRefused: the log can't be read on, or not by this application.
            EngineClosed: the engine is not open, or was closed; `Following.position` says where to go on.
        """
        self._home.require()
        known = self.app.events
        if isinstance(types, type):
            raise InvalidMessage("follow", f"`types` are several, or one among others: [{types.__name__}]")
        wanted = None if types is None else frozenset(types)
        if wanted is not None and not wanted:
            raise InvalidMessage("follow", "`types` has none, so nothing would ever come; leave it out for all")
        for each in wanted or ():
            if each not in known:
                name = getattr(each, "__name__", repr(each))
                raise UnknownMessage("event", name, self.app.name, tuple(entry.tag for entry in known.values()))
        named = checked_keys(keys)
        position = max(0, position_of(after))
        return Following(lambda after: self._pages(after, wanted, named), position)

    async def _pages(
        self, after: int, types: frozenset[type[Event]] | None, keys: frozenset[str] | None
    ) -> AsyncGenerator[HappenedPage[Any], None]:
        self._require_open()
        if self._followers >= self.limits.followers_max:
            raise LimitReached("followers_max", self.limits.followers_max)
        self._followers += 1
        try:
            slicer = Slicer(self.limits.slice_ms_max)
            async with self._while_open():
                head = await _head_before(self.log, after)
                reader = Reader(self.log, self.app, head, self.limits.read_bytes_max)
                async with aclosing(self.log.follow(head.number, self.limits.read_bytes_max)) as pages:
                    async for page in pages:
                        found: list[Happened[Any]] = []
                        for decoded in reader.decoded_commits(page):
                            if types is None or not types.isdisjoint(decoded.types):
                                found += self._chosen(decoded, after, types, keys)
                            if slicer.is_over:
                                await slicer.rest()
                        if reader.head.position > after:
                            yield HappenedPage(found, reader.head.position)
                raise EngineClosed("closed")
        finally:
            self._followers -= 1

    def _chosen(
        self, decoded: DecodedCommit, after: int, types: frozenset[type[Event]] | None, keys: frozenset[str] | None
    ) -> Iterable[Happened[Any]]:
        known = self.app.events
        for event, about in zip(decoded.events, decoded.tell(self.app), strict=True):
            if (
                about.position > after
                and (types is None or type(event) in types)
                and (keys is None or known[type(event)].key_of(event) in keys)
            ):
                yield Happened(event, own_about(about))


async def _head_before(log: Log, position: int) -> Head:
    """The head of a log as it was at a commit before the event that follows a position.

    Raises:
        InvalidMessage: the log does not have that position.
    """
    head = await log.head()
    require_reached(position, head.position)
    number = max(0, await commit_of(log, head.number, position + 1) - 1)
    if not number:
        return Head()
    (commit, *_) = await log.read(number - 1, 1)
    return Head.after(commit, events_in(commit.body))
