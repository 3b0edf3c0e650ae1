"""UmaDB: an event store with dynamic consistency boundaries, its own server behind gRPC, its own client.

As its documentation has it (https://umadb.io): what an append must not contradict goes with it as a condition. Here:
that nothing happened to the account's being open since it was read. That the client remembers where an account was
opened saves it the read before each append. The server has a cache of pages, as its options offer, and syncs each
batch of appends before it acknowledges them: no option changes that. The client is synchronous and lets other
threads run while it waits, so the callers are threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from millstream.bench.job import Job, Result
from millstream.bench.peers.driving import NotOpen, Told, by_threads
from millstream.bench.socket.children import found, running_on_a_free_port

if TYPE_CHECKING:

    class Event:
        event_type: str
        data: bytes
        tags: list[str]

        def __init__(self, event_type: str, data: bytes, tags: list[str]) -> None: ...

    class QueryItem:
        def __init__(self, types: list[str], tags: list[str]) -> None: ...

    class Query:
        def __init__(self, items: list[QueryItem]) -> None: ...

    class AppendCondition:
        def __init__(self, fail_if_events_match: Query, after: int) -> None: ...

    class SequencedEvent:
        event: Event
        position: int

    class Client:
        def __init__(self, url: str) -> None: ...
        def append(self, events: list[Event], condition: AppendCondition | None = None) -> int: ...
        def read(self) -> Iterator[SequencedEvent]: ...
        def close(self) -> None: ...
else:
    from umadb import AppendCondition, Client, Event, Query, QueryItem

__all__ = ["UmaDBBank", "run", "server"]

#: More made it no faster.
_THREADS_MAX = 200
_SERVER_OPTIONS = ("--page-cache-max-mb", "100")


class _Amount(msgspec.Struct):
    amount: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Amount).decode


class UmaDBBank:
    """The bank, on a server."""

    def __init__(self, client: Client) -> None:
        self.client = client
        #: By account: what would contradict that it is open, and since where.
        self._open: dict[str, AppendCondition] = {}

    def open(self, accounts: Sequence[str]) -> None:
        """Open accounts, all in one append."""
        last = self.client.append([Event("Opened", b"{}", [name]) for name in accounts])
        for position, name in enumerate(accounts, start=last - len(accounts) + 1):
            self._open[name] = AppendCondition(Query([QueryItem(["Opened", "Closed"], [name])]), position)

    def deposit(self, account: str, amount: int) -> None:
        """Append, unless the account was closed meanwhile."""
        condition = self._open.get(account)
        if condition is None:
            raise NotOpen(account)
        self.client.append([Event("Deposited", _encode(_Amount(amount)), [account])], condition)

    def history(self) -> Iterator[Told]:
        """All that a read without a query gives."""
        for each in self.client.read():
            event = each.event
            yield Told(event.tags[0], _decode(event.data).amount)


@contextmanager
def server(directory: Path) -> Iterator[UmaDBBank]:
    """A server with its file in ``directory``, and the bank on it."""
    program = found("umadb")
    assert program is not None

    def command(port: int) -> list[str]:
        return [program, "--listen", f"127.0.0.1:{port}", "--db-path", str(directory / "uma.db"), *_SERVER_OPTIONS]

    with running_on_a_free_port("umadb", command, "UmaDB started in") as (_, port):
        client = Client(f"http://127.0.0.1:{port}")
        try:
            yield UmaDBBank(client)
        finally:
            client.close()


def run(job: Job) -> Result:
    """Commands a second."""
    with server(Path(job.directory)) as bank:
        return by_threads(bank, job, _THREADS_MAX)
