"""A client of several logs of one application, apart by key: one server each, and no promise across them.

Here: who is asked, and that it is the right one. Not here: the rule of places (`application.shards`), one log's client
(`client`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Iterable, Mapping, Sequence, Set
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import msgspec
from msgspec import Raw

from millstream.engine.application.messages import Command, Metadata, Query
from millstream.engine.application.validation import checked_command_ids
from millstream.engine.client.client import Client
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.routing import Routing, ShardAnswered, ShardReceipt, ShardToken
from millstream.engine.errors import DefinitionError, InvalidMessage, MillstreamError, RemoteError, WrongShard
from millstream.engine.wire.address import Address
from millstream.engine.wire.errors import INTERNAL_ERROR

__all__ = ["ShardedClient"]

Answer = TypeVar("Answer")
T = TypeVar("T")


class ShardedClient:
    """Uses an application of several logs: ``async with ShardedClient(["tcp://a:7411", "tcp://b:7411"]) as shop``.

    A message goes to the log of its key, and a key has the same log for ever. So the list is ordered, and is the same
    wherever it stands: with one address more most keys would be looked for elsewhere. Each server says which place its
    log has, and one that stands at another place in the list is refused, with each new connection.

    Nothing is promised across logs: no order, no moment that is the same, no command that stands in two of them.
    `clients` are for whatever is asked of one log alone: watching, following, its agenda, its figures.

    Args:
        shards: for each log, in order, an address, or several of a writer and those that stand by for it; see `Client`.
        token: as `Client` takes it, and so are the others.
        tls: for ``tls://``.
        name_commands: give each command an id.
        eager: connect to all on entering; otherwise to each with the first call.
        limits: the bounds, of each connection.

    Raises:
        DefinitionError: there is no address, or one is none.
        WrongShard (on entering, and with the first call to each): a server has the log of another place.
        ConnectionLost (on entering): one is not there.
    """

    def __init__(
        self,
        shards: Iterable[str | Address | Iterable[str | Address]],
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        name_commands: bool = False,
        eager: bool = True,
        limits: ClientLimits | None = None,
    ) -> None:
        if isinstance(shards, str | Address | Mapping | Set) or not isinstance(shards, Iterable):
            raise DefinitionError("a list of addresses is wanted, one for each log, in the order of their places")
        #: One for each log, in order.
        self.clients: Sequence[Client] = [
            Client(each, token=token, tls=tls, name_commands=name_commands, eager=eager, limits=limits)
            for each in shards
        ]
        if not self.clients:
            raise DefinitionError("there is no address")
        self.routing = Routing(len(self.clients))
        #: By place: the application whose log its server had when it was connected last.
        self._names: dict[int, str] = {}
        for place, client in enumerate(self.clients, 1):
            client.link.only(partial(self._require, place))
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for client in self.clients:
                await stack.enter_async_context(client)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, traceback)

    def place_of(self, message: Command[Any] | Query[Any], *, key: str | None = None) -> int:
        """The place, from 1 on, of the log that a message goes to.

        Raises:
            InvalidMessage: it has no `Key` field and no key is given, or it has one and another is given.
        """
        return self.routing.of(message, key)

    # Asking for changes.

    async def execute(
        self,
        command: Command[Answer],
        *,
        key: str | None = None,
        command_id: str | None = None,
        expected_version: int | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> ShardReceipt[Answer]:
        """Decide a command in the log of its key; see `Client.execute`.

        Args:
            command: the command.
            key: whose log it is for, where it has no `Key` field.
            command_id: happens once in that log; another log does not know of it.
            expected_version: as there, and so are the others.
            metadata: is kept with it.
            timeout: seconds for all of it, waiting for a connection included.
            wait: for room in the mailbox.

        Raises:
            WrongShard: the server has the log of another place. Nothing happened.
            InvalidMessage: also where it has no key and none is given.
            and what `Client.execute` raises.
        """
        place = self.routing.of(command, key)
        receipt = await self._client_of(place).execute(
            command,
            command_id=command_id,
            expected_version=expected_version,
            metadata=metadata,
            timeout=timeout,
            wait=wait,
        )
        return ShardReceipt.of(receipt, place)

    async def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[ShardReceipt[Answer] | MillstreamError]:
        """Execute commands, those of each log in order and all logs at once; see `Client.execute_many`.

        Args:
            commands: any number, each with a `Key` field.
            command_ids: an id for each of them, or none at all.
            metadata: is kept with each.
            timeout: seconds for all of them together.

        Returns:
            For each command, in the order given, its receipt, or the error that `execute` would have raised.

        Raises:
            InvalidMessage: ids, metadata or timeout are not what they should be.
            and what `Client.execute_many` raises.
        """
        todo = list(commands)
        ids = None if command_ids is None else checked_command_ids(command_ids, len(todo))
        by_place: dict[int, list[int]] = {}
        outcomes: dict[int, ShardReceipt[Answer] | MillstreamError] = {}
        for index, command in enumerate(todo):
            try:
                by_place.setdefault(self.routing.of(command), []).append(index)
            except InvalidMessage as error:
                outcomes[index] = error

        async def send(place: int, indexes: Sequence[int]) -> None:
            told = await self._client_of(place).execute_many(
                [todo[index] for index in indexes],
                command_ids=None if ids is None else cast("list[str]", [ids[index] for index in indexes]),
                metadata=metadata,
                timeout=timeout,
            )
            for index, outcome in zip(indexes, told, strict=True):
                receipt = outcome if isinstance(outcome, MillstreamError) else ShardReceipt.of(outcome, place)
                outcomes[index] = receipt

        await _all([send(place, indexes) for place, indexes in by_place.items()])
        return [outcomes[index] for index in range(len(todo))]

    # Asking questions.

    async def ask(
        self,
        query: Query[Answer],
        *,
        key: str | None = None,
        after: ShardToken | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answer:
        """The answer of the log of the question's key; see `Client.ask`.

        Args:
            query: the question.
            key: whose log is asked, where it has no `Key` field.
            after: a receipt or an answer of that log.
            timeout: seconds.
            incomplete: as there.

        Raises:
            WrongShard: ``after`` is of another log, or the server has the log of another place.
            InvalidMessage: also where it has no key and none is given.
            and what `Client.ask` raises.
        """
        return (await self.answer(query, key=key, after=after, timeout=timeout, incomplete=incomplete)).answer

    async def answer(
        self,
        query: Query[Answer],
        *,
        key: str | None = None,
        after: ShardToken | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> ShardAnswered[Answer]:
        """The same with the position and the place of the log, which is a token for the next question there.

        Args:
            query: the question.
            key: as `ask` takes it, and so are the others.
            after: a token.
            timeout: seconds.
            incomplete: whether an incomplete answer will do.

        Raises:
            what `ask` raises.
        """
        return await self._answer(self.routing.of(query, key), query, after, timeout, incomplete)

    async def answer_each(
        self,
        query: Query[Answer],
        *,
        after: Mapping[int, ShardToken] | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> list[ShardAnswered[Answer]]:
        """What each log answers, all asked at once, in the order of the list. Combining that is the caller's.

        The answers are of no common moment: one may have what another lacks, whatever was done first.

        Args:
            query: the question, without a key or of a key that several logs are asked about.
            after: for some places a token of that log.
            timeout: seconds, for each.
            incomplete: whether an incomplete answer will do.

        Raises:
            WrongShard: a token is of another log, or a server has the log of another place.
            InvalidMessage: also where ``after`` has a place that is none.
            and what `Client.answer` raises, if one of them does; the others are not waited for.
        """
        told, places = after or {}, range(1, self.routing.shards + 1)
        if unknown := sorted(told.keys() - set(places)):
            raise InvalidMessage("after", f"there is no shard {unknown[0]}: places are 1 to {self.routing.shards}")
        return await _all([self._answer(place, query, told.get(place), timeout, incomplete) for place in places])

    # Inside.

    async def _answer(
        self, place: int, query: Query[Answer], after: ShardToken | None, timeout: float | None, incomplete: bool
    ) -> ShardAnswered[Answer]:
        self.routing.require_from(after, place)
        position = None if after is None else after.position
        answered = await self._client_of(place).answer(query, after=position, timeout=timeout, incomplete=incomplete)
        return ShardAnswered.of(answered, place)

    def _client_of(self, place: int) -> Client:
        return self.clients[place - 1]

    def _require(self, place: int, address: str, described: Raw) -> None:
        """See that a server has the log of a place, of the same application as the others."""
        try:
            owner = msgspec.json.decode(described, type=_Description).info.title
        except msgspec.MsgspecError as error:
            raise RemoteError(INTERNAL_ERROR, f"the server does not say what it serves: {error}") from error
        name = self.routing.require_server(address, owner, place)
        others = {each for where, each in self._names.items() if where != place}
        if others - {name}:
            raise WrongShard(address, f"it serves {name!r}, and others in the list serve {others.pop()!r}")
        self._names[place] = name


class _Info(msgspec.Struct):
    title: str


class _Description(msgspec.Struct):
    info: _Info


async def _all(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order; of the first that fails its error, and the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
