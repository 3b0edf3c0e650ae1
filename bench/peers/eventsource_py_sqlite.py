"""The library eventsource-py: a stream for each account, asynchronous, on its SQLite store.

As its documentation has it (https://tyevans.github.io/eventsource-py): events are pydantic models, and an append says
what it expects of its stream. Here: that it exists, so the store itself holds the rule that the account must be open.
No aggregates and no repository, which read an account's whole history before each deposit. The store has one
connection, and a lock around it, so appends take turns, however many callers there are.

The store asks for WAL mode. How that is synced is left as SQLite has it by default, which is looked up, not believed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from millstream.bench import loops
from millstream.bench.job import Job, Result, WorkerFailed
from millstream.bench.peers.driving import NotOpen, Told, by_tasks

if TYPE_CHECKING:
    from typing import Any, Protocol

    _Event = TypeVar("_Event", bound="DomainEvent")

    class DomainEvent:
        def __init__(self, **values: object) -> None: ...

    class Envelope(Protocol):
        event: Any
        stream_id: StreamId

    class ExpectedVersion:
        @classmethod
        def no_stream(cls) -> ExpectedVersion: ...
        @classmethod
        def stream_exists(cls) -> ExpectedVersion: ...

    class OptimisticLockError(Exception): ...

    class SQLiteEventStore:
        def __init__(self, database: str) -> None: ...
        async def append(
            self, stream: StreamId, events: Sequence[DomainEvent], expected: ExpectedVersion
        ) -> object: ...
        def read_all(self) -> AsyncIterator[Envelope]: ...
        async def close(self) -> None: ...
        async def _conn(self) -> Any: ...

    class StreamId:
        aggregate_id: UUID

        def __init__(self, aggregate_id: UUID, category: str) -> None: ...

    def register_event(event_class: type[_Event]) -> type[_Event]: ...
else:
    from eventsource import DomainEvent, ExpectedVersion, OptimisticLockError, StreamId, register_event
    from eventsource.adapters.sqlite import SQLiteEventStore

__all__ = ["Deposited", "EventsourcePyBank", "Opened", "opened", "run"]

_CATEGORY = "Account"
_SYNCHRONOUS_FULL = 2


@register_event
class Opened(DomainEvent):
    """An account is open. Its name is where its id comes from."""

    aggregate_type: str = _CATEGORY
    name: str


@register_event
class Deposited(DomainEvent):
    """Something was added to its balance."""

    aggregate_type: str = _CATEGORY
    amount: int


class EventsourcePyBank:
    """The bank; `opened` opens and closes it."""

    def __init__(self, store: SQLiteEventStore) -> None:
        self.store = store

    async def open(self, accounts: Sequence[str]) -> None:
        """Open accounts, one after another: an append is to one stream."""
        for name in accounts:
            stream = _stream(name)
            event = Opened(aggregate_id=stream.aggregate_id, name=name)
            await self.store.append(stream, [event], ExpectedVersion.no_stream())

    async def deposit(self, account: str, amount: int) -> None:
        """Append to the account's stream, which must exist."""
        stream = _stream(account)
        event = Deposited(aggregate_id=stream.aggregate_id, amount=amount)
        try:
            await self.store.append(stream, [event], ExpectedVersion.stream_exists())
        except OptimisticLockError as error:
            raise NotOpen(account) from error

    async def history(self) -> AsyncIterator[Told]:
        """The store's feed of all streams."""
        names: dict[UUID, str] = {}
        async for each in self.store.read_all():
            name = names.setdefault(each.stream_id.aggregate_id, getattr(each.event, "name", ""))
            yield Told(name, getattr(each.event, "amount", 0))

    async def synchronous(self) -> int:
        """What ``PRAGMA synchronous`` says on its connection."""
        connection = await self.store._conn()
        async with connection.execute("PRAGMA synchronous") as cursor:
            return int((await cursor.fetchone())[0])


def _stream(account: str) -> StreamId:
    return StreamId(uuid5(NAMESPACE_URL, account), _CATEGORY)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EventsourcePyBank]:
    """The bank on a new file."""
    store = SQLiteEventStore(str(path))
    try:
        yield EventsourcePyBank(store)
    finally:
        await store.close()


def run(job: Job) -> Result:
    """Commands a second."""
    return loops.run(partial(_run, job), job.loop)


async def _run(job: Job) -> Result:
    async with opened(Path(job.directory) / "eventsource-py.db") as bank:
        if (found := await bank.synchronous()) != _SYNCHRONOUS_FULL:
            raise WorkerFailed(job.program, f"this SQLite has synchronous={found} by default, and not FULL")
        return await by_tasks(bank, job)
