"""The client of several logs for scripts: the same calls without ``await``, from any thread."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from millstream.engine.application.messages import Command, Metadata, Query
from millstream.engine.client.limits import ClientLimits
from millstream.engine.client.routing import ShardAnswered, ShardReceipt, ShardToken
from millstream.engine.client.sharded import ShardedClient
from millstream.engine.errors import EngineClosed, MillstreamError
from millstream.engine.wire.address import Address

__all__ = ["SyncShardedClient"]

Answer = TypeVar("Answer")
Result = TypeVar("Result")


class SyncShardedClient:
    """`ShardedClient` for programs without an event loop, which may be used from several threads at once.

    Args:
        shards: for each log, in order, an address, or several; see `ShardedClient`, and so are the others.
        token: who calls.
        tls: for ``tls://``.
        name_commands: give each command an id.
        eager: connect on entering.
        limits: the bounds.

    Raises:
        as `ShardedClient` does.
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
        self._client = ShardedClient(
            shards, token=token, tls=tls, name_commands=name_commands, eager=eager, limits=limits
        )
        self._portal: BlockingPortal | None = None
        self._open = ExitStack()
        self._state = "not open yet"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="millstream-client"))
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            self._open, self._portal = stack.pop_all(), portal
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal, self._state = None, "closed"
        self._open.__exit__(kind, error, traceback)

    def place_of(self, message: Command[Any] | Query[Any], *, key: str | None = None) -> int:
        """The place of the log that a message goes to; see `ShardedClient.place_of`."""
        return self._client.place_of(message, key=key)

    def execute(
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
        """Decide a command in the log of its key; see `ShardedClient.execute`."""
        return self._run(
            partial(
                self._client.execute,
                command,
                key=key,
                command_id=command_id,
                expected_version=expected_version,
                metadata=metadata,
                timeout=timeout,
                wait=wait,
            )
        )

    def execute_many(
        self,
        commands: Iterable[Command[Answer]],
        *,
        command_ids: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> list[ShardReceipt[Answer] | MillstreamError]:
        """Execute commands; see `ShardedClient.execute_many`."""
        return self._run(
            partial(
                self._client.execute_many, list(commands), command_ids=command_ids, metadata=metadata, timeout=timeout
            )
        )

    def ask(
        self,
        query: Query[Answer],
        *,
        key: str | None = None,
        after: ShardToken | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> Answer:
        """The answer of the log of the question's key; see `ShardedClient.ask`."""
        return self.answer(query, key=key, after=after, timeout=timeout, incomplete=incomplete).answer

    def answer(
        self,
        query: Query[Answer],
        *,
        key: str | None = None,
        after: ShardToken | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> ShardAnswered[Answer]:
        """The same with its position and the place of the log; see `ShardedClient.answer`."""
        return self._run(
            partial(self._client.answer, query, key=key, after=after, timeout=timeout, incomplete=incomplete)
        )

    def answer_each(
        self,
        query: Query[Answer],
        *,
        after: Mapping[int, ShardToken] | None = None,
        timeout: float | None = None,
        incomplete: bool = False,
    ) -> list[ShardAnswered[Answer]]:
        """What each log answers, in order; see `ShardedClient.answer_each`."""
        return self._run(partial(self._client.answer_each, query, after=after, timeout=timeout, incomplete=incomplete))

    def _run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Let the loop do it, and wait; an interrupt meanwhile cancels it."""
        if self._portal is None:
            raise EngineClosed(self._state)
        future = self._portal.start_task_soon(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
