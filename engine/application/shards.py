"""Several logs of one application, apart by key: which of them a key belongs to, for ever.

Here: the rule, and what a log's owner is called by its place. Pure. Not here: who is asked (`client.sharded`).

The place of a key follows from its text and from how many logs there are. So the list of logs is ordered and does not
change: with one more, most keys would be looked for where they are not. Each log is held to its place by the name of
its application, which it keeps: ``shop-2-of-4``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from functools import wraps
from hashlib import blake2b
from typing import Any

import msgspec

from millstream.engine.errors import DefinitionError, WrongShard

__all__ = ["Shard", "shard_of"]

_DIGEST_BYTES = 8
_WRITTEN = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
_NAMED = re.compile(r"(.+)-([1-9][0-9]{0,3})-of-([1-9][0-9]{0,3})", re.DOTALL)
#: More logs than one application needs, and few enough for a list.
_SHARDS_MAX = 1_024


def shard_of(key: str, shards: int) -> int:
    """The place of the log that has a key, from 1 to ``shards``.

    It is 1 + *d* mod ``shards``; *d* is the key's BLAKE2b digest of 8 bytes, in UTF-8, as a number with its high byte
    first. It is the same on every machine and with every version.
    """
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    return 1 + int.from_bytes(digest, "big") % shards


class Shard(msgspec.Struct, frozen=True, order=True):
    """The place of one log among several.

    Raises:
        DefinitionError: there is no such place, or there are more than 1,024.
    """

    place: int
    #: How many there are.
    of: int

    def __post_init__(self) -> None:
        if type(self.place) is not int or type(self.of) is not int:
            raise DefinitionError(f"a place is a whole number of a whole number, not {self.place!r} of {self.of!r}")
        if not 1 <= self.place <= self.of <= _SHARDS_MAX:
            raise DefinitionError(
                f"there is no shard {self.place} of {self.of}: places are 1 to at most {_SHARDS_MAX:,}"
            )

    @classmethod
    def read(cls, text: str) -> Shard:
        """From ``2/4``.

        Raises:
            DefinitionError: it is no place.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise DefinitionError(f"{text!r} is no place of a shard: write 2/4 for the second of four")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def named(cls, owner: str) -> tuple[str, Shard | None]:
        """The application's own name, and the place, of what the owner of a log is called."""
        found = _NAMED.fullmatch(owner)
        try:
            return (owner, None) if found is None else (found[1], cls(int(found[2]), int(found[3])))
        except DefinitionError:  # a name that only looks like one
            return owner, None

    def __str__(self) -> str:
        return f"{self.place} of {self.of}"

    def owner(self, application: str) -> str:
        """What the application is called in the log of this place."""
        return f"{application}-{self.place}-of-{self.of}"

    def holds(self, key: str) -> bool:
        """Whether a key belongs here."""
        return shard_of(key, self.of) == self.place

    def guarded(self, key_of: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        """The same function of a message, which raises `WrongShard` for a key that belongs elsewhere."""

        def require(message: Any) -> str | None:
            key = key_of(message)
            if key is not None and not self.holds(key):
                belongs = Shard(shard_of(key, self.of), self.of)
                raise WrongShard(f"key {key!r}", f"it belongs to shard {belongs}, and this is shard {self}")
            return key

        return require

    def yielding(
        self, handler: Callable[..., Any], keys: Mapping[type[Any], Callable[[Any], str | None]]
    ) -> Callable[..., Any]:
        """The same handler, which raises `WrongShard` for an event of a key that belongs elsewhere.

        Args:
            handler: of a command.
            keys: by class of events, what gives their key.
        """
        guards = {event: self.guarded(key_of) for event, key_of in keys.items()}

        @wraps(handler)
        def guarded(*given: Any) -> Generator[Any, None, Any]:
            made = handler(*given)
            left = iter(made)
            while True:
                try:
                    each = next(left)
                except StopIteration as end:
                    return end.value
                if type(each) in guards:
                    guards[type(each)](each)
                yield each

        return guarded
