"""DBOS: durable workflows, with SQLite as its system database.

It is no store of events: it records each workflow's input before it begins and its outcome before it returns, so that
a workflow that a crash cut off is run to its end. Here a deposit is a workflow without a step, which is the least that
is durable: two transactions. A step, or a transaction on tables of the application's own, would be a third. The rule
is in the workflow, as it would be in an application's, and what is read back is what DBOS says of its workflows: whose
order it knows to the second.

As its documentation has it (https://docs.dbos.dev/python/reference/configuration), SQLite is for development, and
Postgres for production. Its file is in WAL mode here, which DBOS does not ask for: three times as fast as the rollback
journal that it would get. How that is synced is left as SQLite has it by default, which is looked up, not believed.
Workflows are synchronous and their callers two threads: more wait for SQLite's lock by sleeping.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from millstream.bench.job import Job, Result, WorkerFailed
from millstream.bench.peers.driving import NotOpen, Told, by_threads

if TYPE_CHECKING:
    from typing import Any

    _Function = TypeVar("_Function", bound=Callable[..., object])

    class WorkflowStatus:
        name: str
        input: Any

    class DBOS:
        _sys_db: Any

        def __init__(self, *, config: Mapping[str, str]) -> None: ...
        @classmethod
        def workflow(cls, *, name: str) -> Callable[[_Function], _Function]: ...
        @classmethod
        def launch(cls) -> None: ...
        @classmethod
        def list_workflows(cls, *, status: str, load_output: bool) -> list[WorkflowStatus]: ...
        @classmethod
        def destroy(cls, *, destroy_registry: bool) -> None: ...
else:
    from dbos import DBOS

__all__ = ["DBOSBank", "launched", "run"]

#: One made 130 a second, two 220, eight 160.
_THREADS_MAX = 2
_SYNCHRONOUS_FULL = 2


class DBOSBank:
    """The bank; `launched` makes it and ends it."""

    def __init__(self, instance: DBOS) -> None:
        self._instance = instance
        self._open: set[str] = set()
        self._open_all, self._deposit = self._workflows()

    def open(self, accounts: Sequence[str]) -> None:
        """Open accounts, all in one workflow."""
        self._open_all(list(accounts))

    def deposit(self, account: str, amount: int) -> None:
        """Run a workflow to its end."""
        self._deposit(account, amount)

    def history(self) -> Iterator[Told]:
        """The inputs of all workflows that succeeded."""
        for each in DBOS.list_workflows(status="SUCCESS", load_output=False):
            match each.name, each.input["args"]:
                case "open", [names]:
                    yield from (Told(name, 0) for name in names)
                case "deposit", [name, amount]:
                    yield Told(name, amount)

    def synchronous(self) -> int:
        """What ``PRAGMA synchronous`` says on a connection of its pool."""
        with self._instance._sys_db.engine.connect() as connection:
            return int(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    def _workflows(self) -> tuple[Callable[[list[str]], None], Callable[[str, int], None]]:
        @DBOS.workflow(name="open")
        def opening(accounts: list[str]) -> None:
            self._open.update(accounts)

        @DBOS.workflow(name="deposit")
        def depositing(account: str, amount: int) -> None:
            if account not in self._open:
                raise NotOpen(account)

        return opening, depositing


@contextmanager
def launched(path: Path) -> Iterator[DBOSBank]:
    """DBOS on a new file, and the bank; of both there is one in a process at a time."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    #: What would else be made of the code and the machine.
    same = {"application_version": "1", "executor_id": "bank"}
    config = {"name": "bank", "system_database_url": f"sqlite:///{path}", "log_level": "WARNING", **same}
    bank = DBOSBank(DBOS(config=config))
    try:
        DBOS.launch()
        yield bank
    finally:
        DBOS.destroy(destroy_registry=True)


def run(job: Job) -> Result:
    """Commands a second."""
    with launched(Path(job.directory) / "dbos.db") as bank:
        if (found := bank.synchronous()) != _SYNCHRONOUS_FULL:
            raise WorkerFailed(job.program, f"this SQLite has synchronous={found} by default, and not FULL")
        return by_threads(bank, job, _THREADS_MAX)
