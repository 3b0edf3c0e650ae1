"""What happened, as a follower of an application gets it: one after another, or in pages.

Here: the values, a check of what is wanted, and taking them so that it is known where to go on. Not here: where they
come from: the log (`read.follow`), or a server (`client`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Generic, Self, TypeVar

import msgspec

from millstream.engine.application.about import About
from millstream.engine.application.messages import Event
from millstream.engine.errors import InvalidMessage

__all__ = ["Following", "Happened", "HappenedPage", "checked_keys"]

E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)


def checked_keys(keys: Iterable[str] | None) -> frozenset[str] | None:
    """The keys that a follower wants; None for all.

    Raises:
        InvalidMessage: there are none, or one is no text.
    """
    if keys is None:
        return None
    named = frozenset(keys)
    if isinstance(keys, str) or not all(isinstance(key, str) for key in named):
        raise InvalidMessage("follow", f"`keys` are texts, not {keys!r:.80}")
    if not named:
        raise InvalidMessage("follow", "`keys` has none, so nothing would ever come; leave it out for all")
    return named


class Happened(msgspec.Struct, Generic[E_co], frozen=True):
    """An event, as it is understood today, and what the log says about it. The follower may keep and change both."""

    event: E_co
    about: About


class HappenedPage(msgspec.Struct, Generic[E_co], frozen=True):
    """Some of what happened, in order; and the position up to which that is all there is of what was asked for.

    ``happened`` may be empty, where much was left out: the position moves all the same. All events that one retired
    event means are in one page.
    """

    happened: Sequence[Happened[E_co]]
    position: int


class Following(Generic[E]):
    """What happens, one after another, or in `pages`: for one task, which takes it in one of both ways.

    It has no end but an error. A follower that waits for the next one may be cancelled, and ask again.

    Args:
        open_at: begins to read pages after a position. They end with an error.
        after: the position to begin with.
    """

    def __init__(self, open_at: Callable[[int], AsyncGenerator[HappenedPage[Any], None]], after: int) -> None:
        self._open_at = open_at
        self._reading: AsyncGenerator[HappenedPage[Any], None] | None = None
        #: Up to where pages were read.
        self._read = after
        self._page: HappenedPage[E] = HappenedPage((), after)
        self._given = 0
        #: Where to go on, as the ``after`` of another `follow`: all up to here that was asked for was given, and was
        #: dealt with, as the follower came for more.
        self.position = after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Happened[E]:
        while self._given == len(self._page.happened):
            self.position = self._page.position
            self._page, self._given = await self._next_page(), 0
        happened, before = self._page.happened[self._given], self._given - 1
        if before >= 0 and (done := self._page.happened[before].about.position) < happened.about.position:
            self.position = done
        self._given += 1
        return happened

    def pages(self) -> AsyncIterator[HappenedPage[E]]:
        """The same in pages: for a follower that writes its own data elsewhere, in one transaction with its position.

        A page may be empty, and tells a position all the same.
        """
        return _Pages(self)

    async def aclose(self) -> None:
        """Release what it reads from. A follower that just stops need not: collecting the object releases it."""
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.aclose()

    async def _next_page(self) -> HappenedPage[E]:
        if self._reading is None:
            self._reading = self._open_at(self._read)
        try:
            page = await anext(self._reading)
        except BaseException:
            self._reading = None  # it is over, also where the waiting task was cancelled
            raise
        self._read = page.position
        return page


class _Pages(Generic[E]):
    """No generator, which would be over when a task that waits for it is cancelled."""

    def __init__(self, following: Following[E]) -> None:
        self._following = following
        self._given: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> HappenedPage[E]:
        if self._given is not None:
            self._following.position = self._given
        page = await self._following._next_page()
        self._given = page.position
        return page
