"""The library eventsourcing: an aggregate for each account, an application, its SQLite module.

As its documentation has it (https://eventsourcing.readthedocs.io/en/stable/topics/application.html): aggregates are
cached, and not fast-forwarded, as only this application changes them. What is taken from the cache is copied, as by
default: without that, an event that could not be saved would stay in the aggregate. One thread, in a plain loop, which
is as fast as any number of threads: two take turns at the interpreter lock, and at SQLite's.

SQLite is in WAL mode then. How it syncs is left as SQLite has it by default, which is looked up, not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from millstream.bench.job import Job, Result, WorkerFailed
from millstream.bench.peers.driving import NotOpen, Told, by_threads

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Self

    _Method = TypeVar("_Method", bound=Callable[..., None])

    class Aggregate:
        id: UUID

    class AggregateNotFoundError(Exception): ...

    class Application:
        repository: Any
        recorder: Any
        mapper: Any
        notification_log: Any

        def __init__(self, env: dict[str, str]) -> None: ...
        def __enter__(self) -> Self: ...
        def __exit__(self, *error: object) -> None: ...
        def save(self, *aggregates: Aggregate) -> object: ...

    class SQLiteDatastore:
        def transaction(self, *, commit: bool) -> AbstractContextManager[Any]: ...

    def event(name: str) -> Callable[[_Method], _Method]: ...
else:
    from eventsourcing.application import AggregateNotFoundError, Application
    from eventsourcing.domain import Aggregate, event

__all__ = ["Account", "EventSourcingBank", "run"]

_SECTION_EVENTS = 1_000
_SYNCHRONOUS_FULL = 2


class Account(Aggregate):
    """One account. Its name is where its id comes from, so that it is found again."""

    @staticmethod
    def create_id(name: str) -> UUID:
        """The id of the account with that name."""
        return uuid5(NAMESPACE_URL, name)

    @event("Opened")
    def __init__(self, name: str) -> None:
        self.name = name
        self.balance = 0

    @event("Deposited")
    def deposit(self, amount: int) -> None:
        """Add to the balance."""
        self.balance += amount


class EventSourcingBank(Application):
    """The bank, with a file of its own."""

    log_section_size = _SECTION_EVENTS

    def __init__(self, path: Path) -> None:
        super().__init__(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(path),
                "AGGREGATE_CACHE_MAXSIZE": "0",
                "AGGREGATE_CACHE_FASTFORWARD": "n",
            }
        )

    def open(self, accounts: Sequence[str]) -> None:
        """Open accounts, all in one transaction."""
        self.save(*(Account(name) for name in accounts))

    def deposit(self, account: str, amount: int) -> None:
        """Load, change, save."""
        try:
            found = self.repository.get(Account.create_id(account))
        except AggregateNotFoundError as error:
            raise NotOpen(account) from error
        found.deposit(amount)
        self.save(found)

    def history(self) -> Iterator[Told]:
        """The application's log of notifications, a section at a time."""
        names: dict[UUID, str] = {}
        start = 1
        while section := self.notification_log.select(start, _SECTION_EVENTS):
            for each in map(self.mapper.to_domain_event, section):
                name = names.setdefault(each.originator_id, getattr(each, "name", ""))
                yield Told(name, getattr(each, "amount", 0))
            start = section[-1].id + 1

    def synchronous(self) -> int:
        """What ``PRAGMA synchronous`` says on a connection of its pool."""
        datastore: SQLiteDatastore = self.recorder.datastore
        with datastore.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA synchronous")
            return int(cursor.fetchone()[0])


def run(job: Job) -> Result:
    """Commands a second."""
    with EventSourcingBank(Path(job.directory) / "eventsourcing.db") as bank:
        if bank.synchronous() != _SYNCHRONOUS_FULL:
            raise WorkerFailed(
                job.program, f"this SQLite has synchronous={bank.synchronous()} by default, and not FULL"
            )
        return by_threads(bank, job, threads_max=1)
