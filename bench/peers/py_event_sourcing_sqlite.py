"""The library py-event-sourcing: a stream for each account, asynchronous, on SQLite.

As its documentation has it (https://github.com/johnlogsdon/py-event-sourcing): streams from one factory. They stay
open, so that none is looked up again for a deposit. It has no setting for durability: its connection has
``synchronous=NORMAL``, with which SQLite may lose acknowledged commits when the machine stops
(https://www.sqlite.org/pragma.html#pragma_synchronous). To be compared, the connection is set to ``synchronous=FULL``;
`run_as_it_comes` leaves it alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from millstream.bench import loops
from millstream.bench.job import Job, Result
from millstream.bench.peers.driving import NotOpen, Told, by_tasks

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    class CandidateEvent:
        def __init__(self, *, type: str, data: bytes) -> None: ...  # noqa: A002 - the library's own name

    class StoredEvent:
        stream_id: str
        data: bytes

    class Stream:
        storage_handle: Any

        async def write(self, events: CandidateEvent) -> int: ...
        def read(self) -> AsyncIterator[StoredEvent]: ...

    def sqlite_stream_factory(
        db_path: str,
    ) -> AbstractAsyncContextManager[Callable[[str], AbstractAsyncContextManager[Stream]]]: ...
else:
    from py_event_sourcing import CandidateEvent, sqlite_stream_factory

__all__ = ["PyEventSourcingBank", "opened", "run", "run_as_it_comes"]


class _Amount(msgspec.Struct):
    amount: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Amount).decode


class PyEventSourcingBank:
    """The bank; `opened` opens and closes it."""

    def __init__(
        self, stack: AsyncExitStack, open_stream: Callable[[str], AbstractAsyncContextManager[Stream]], *, full: bool
    ) -> None:
        self._stack = stack
        self._open_stream = open_stream
        self._full = full
        self._streams: dict[str, Stream] = {}

    async def open(self, accounts: Sequence[str]) -> None:
        """Open accounts, one after another: a write is to one stream."""
        for name in accounts:
            stream = await self._stack.enter_async_context(self._open_stream(name))
            if self._full and not self._streams:  # they share one connection
                await stream.storage_handle.write_conn.execute("PRAGMA synchronous=FULL")
            await stream.write(CandidateEvent(type="Opened", data=b"{}"))
            self._streams[name] = stream

    async def deposit(self, account: str, amount: int) -> None:
        """Write to the account's stream."""
        stream = self._streams.get(account)
        if stream is None:
            raise NotOpen(account)
        await stream.write(CandidateEvent(type="Deposited", data=_encode(_Amount(amount))))

    async def history(self) -> AsyncIterator[Told]:
        """The stream of all streams."""
        async with self._open_stream("@all") as stream:
            async for each in stream.read():
                yield Told(each.stream_id, _decode(each.data).amount)

    async def synchronous(self) -> int:
        """What ``PRAGMA synchronous`` says on the connection that writes."""
        stream = next(iter(self._streams.values()))
        async with stream.storage_handle.write_conn.execute("PRAGMA synchronous") as cursor:
            return int((await cursor.fetchone())[0])


@asynccontextmanager
async def opened(path: Path, *, full: bool) -> AsyncIterator[PyEventSourcingBank]:
    """The bank on a new file, with ``synchronous=FULL`` or as the library has it."""
    async with sqlite_stream_factory(str(path)) as open_stream, AsyncExitStack() as stack:
        yield PyEventSourcingBank(stack, open_stream, full=full)


def run(job: Job) -> Result:
    """Commands a second, each synced."""
    return loops.run(partial(_run, job, full=True), job.loop)


def run_as_it_comes(job: Job) -> Result:
    """Commands a second, synced when SQLite gets to it."""
    return loops.run(partial(_run, job, full=False), job.loop)


async def _run(job: Job, *, full: bool) -> Result:
    async with opened(Path(job.directory) / "py-event-sourcing.db", full=full) as bank:
        return await by_tasks(bank, job)
