"""From a message to the log that it belongs to, of several that are apart by key. Pure.

Here: keys, places and tokens. Not here: asking (`sharded`).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

from millstream.engine.application.messages import Answered, Command, Query, Receipt
from millstream.engine.application.methods import key_field
from millstream.engine.application.shards import Shard, shard_of
from millstream.engine.errors import InvalidMessage, WrongShard

__all__ = ["Routing", "ShardAnswered", "ShardReceipt", "ShardToken"]

Promised_co = TypeVar("Promised_co", covariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)
T = TypeVar("T")


class ShardReceipt(Receipt[Promised_co], Generic[Promised_co], frozen=True, gc=False, repr_omit_defaults=True):
    """A receipt, and the place of the log that it is from: only there is it a token."""

    shard: int = 0

    @classmethod
    def of(cls, receipt: Receipt[T], shard: int) -> ShardReceipt[T]:
        """The receipt of one log."""
        made: Any = cls
        told: ShardReceipt[T] = made(*(getattr(receipt, name) for name in receipt.__struct_fields__), shard)
        return told


class ShardAnswered(Answered[Answer_co], Generic[Answer_co], frozen=True, gc=False):
    """An answer with its position, and the place of the log that it is from: only there is it a token."""

    shard: int

    @classmethod
    def of(cls, answered: Answered[T], shard: int) -> ShardAnswered[T]:
        """The answer of one log."""
        made: Any = cls
        told: ShardAnswered[T] = made(answered.answer, answered.position, shard)
        return told


#: What ``after=`` takes where there are several logs: positions of one mean nothing in another.
ShardToken: TypeAlias = ShardReceipt[Any] | ShardAnswered[Any]


class Routing:
    """Which of several logs is asked.

    Args:
        shards: how many there are.
    """

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self._keys: dict[type[Any], Callable[[Any], str] | None] = {}

    def of(self, message: Command[Any] | Query[Any], key: str | None = None) -> int:
        """The place of the log that a message is for.

        Args:
            message: a command, or a question.
            key: whose log it is, where the message has no `Key` field.

        Raises:
            InvalidMessage: it has no key and none is given, or one is given beside its own.
        """
        kind = type(message)
        if kind not in self._keys:
            name = key_field(kind)
            self._keys[kind] = None if name is None else attrgetter(name)
        own = self._keys[kind]
        if own is not None:
            if key is not None:
                raise InvalidMessage(kind.__name__, "it has a Key field, so no other key can be given")
            key = own(message)
        if key is None and own is None:
            raise InvalidMessage(kind.__name__, "it has no Key field: say whose log it is for, by key=…")
        if not isinstance(key, str):
            raise InvalidMessage(kind.__name__, f"its key is a text, not {key!r:.80}")
        return shard_of(key, self.shards)

    @staticmethod
    def require_from(after: ShardToken | None, place: int) -> None:
        """See that a token is of the log that is asked.

        Raises:
            InvalidMessage: it is none.
            WrongShard: it is of another one.
        """
        if after is None:
            return
        if not isinstance(after, ShardReceipt | ShardAnswered):
            raise InvalidMessage("after", f"{after!r:.80} does not say which log it is of: give a receipt or an answer")
        if after.shard != place:
            raise WrongShard(f"a token of shard {after.shard}", f"the question goes to shard {place}")

    def require_server(self, address: str, owner: str, place: int) -> str:
        """See that a server has the log of the place that its address has in the list.

        Returns:
            The application's own name.

        Raises:
            WrongShard: it has another one.
        """
        name, shard = Shard.named(owner)
        if shard != Shard(place, self.shards):
            problem = f"it serves {owner!r}, and its address is number {place} of {self.shards} in the list"
            raise WrongShard(address, problem)
        return name
