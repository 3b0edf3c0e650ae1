"""Following an application that runs elsewhere: what happens, as the classes that the caller names.

Here: asking for it, and from JSON to events. Not here: a stream that goes on over lost connections (`subscriptions`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from millstream.engine.application.app import tag_of
from millstream.engine.application.happened import Following, Happened, HappenedPage, checked_keys
from millstream.engine.application.messages import Event, Token, position_of
from millstream.engine.application.validation import union_of
from millstream.engine.client.link import Link
from millstream.engine.client.subscriptions import Policy, Subscription
from millstream.engine.errors import InvalidMessage, RemoteError
from millstream.engine.wire.errors import INTERNAL_ERROR

__all__ = ["following"]

E = TypeVar("E", bound=Event)

#: How long a stream is kept for a follower that was cancelled.
_KEPT_SECONDS = 1.0


def following(link: Link, after: Token, types: Iterable[type[E]], keys: Iterable[str] | None) -> Following[E]:
    """What happens where a link leads to; see `Client.follow`.

    Raises:
        InvalidMessage: ``after`` is no token, ``types`` has none or what is no event, or a key is no text.
    """
    wanted: tuple[Any, ...] = () if isinstance(types, type) else tuple(types)
    if not wanted or not all(isinstance(each, type) and issubclass(each, Event) for each in wanted):
        raise InvalidMessage("follow", f"`types` are the classes of the events to follow, not {wanted!r:.80}")
    named = checked_keys(keys)
    read = msgspec.json.Decoder(list[Happened[union_of(wanted)]]).decode  # type: ignore[misc]
    params: dict[str, Any] = {"types": sorted(map(tag_of, wanted)), "today": True}
    if named is not None:
        params["keys"] = sorted(named)

    kept = _Kept()

    async def pages(after: int) -> AsyncGenerator[HappenedPage[Any], None]:
        subscription = kept.take(after) or await link.subscribe("follow", params, after=after, policy=Policy.STREAM)
        try:
            while True:
                told = await subscription.next()
                try:
                    found: Sequence[Happened[Any]] = read(told.content)
                except msgspec.DecodeError as error:
                    problem = f"what happened up to position {told.position:,} is not what the classes say: {error}"
                    raise RemoteError(INTERNAL_ERROR, problem) from error
                after = told.position
                yield HappenedPage(found, after)
        except asyncio.CancelledError:
            kept.put(subscription, after)
            raise
        except BaseException:
            subscription.close()
            raise

    return Following(pages, max(0, position_of(after)))


class _Kept:
    """A stream whose consumer was cancelled while it waited: it may ask again at once, as one does that looks now and
    then. To begin a stream for each look is work for the server, which has so many at most.
    """

    def __init__(self) -> None:
        self._subscription: Subscription | None = None
        self._after = 0
        self._end: asyncio.TimerHandle | None = None

    def put(self, subscription: Subscription, after: int) -> None:
        """Keep one for a moment, which has given everything up to a position."""
        self._drop()
        self._subscription, self._after = subscription, after
        self._end = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._drop)

    def take(self, after: int) -> Subscription | None:
        """The one that goes on after a position, if it is there."""
        subscription = self._subscription if self._after == after else None
        if subscription is not None:
            self._subscription = None
        self._drop()
        return subscription

    def _drop(self) -> None:
        if self._end is not None:
            self._end.cancel()
        subscription, self._subscription, self._end = self._subscription, None, None
        if subscription is not None:
            subscription.close()
