"""What is measured on PostgreSQL: the engine on it, its append beside a plain one, and how long a takeover takes."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread

from millstream.bench.bank import AllBalances, BalanceOf, Deposit, Open, account_name, bank
from millstream.bench.drivers import by_callers
from millstream.bench.job import Job, Result, WorkerFailed
from millstream.bench.postgres.server import postgres_server
from millstream.bench.systems import ENGINE, Adapter, System
from millstream.engine import Engine, Log, MillstreamError, SqliteLog
from millstream.engine.client import Client, ClientLimits
from millstream.engine.commits.commit import Commit, Head, seal
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.address import log_at

__all__ = ["appends", "callers", "failovers", "failovers_on_sqlite"]

_READ_BYTES = 4 * 1024 * 1024
#: About what a commit of 500 deposits has.
_BODY_BYTES = 30_000
_COMMITS_A_TURN = 50
_PLAIN = """
CREATE TABLE plain (
    number bigint PRIMARY KEY, position bigint NOT NULL, recorded_at text NOT NULL,
    body bytea NOT NULL, digest bytea NOT NULL
);
-- as the log's own, where the server has no lz4, as this one
ALTER TABLE plain ALTER COLUMN body SET STORAGE EXTERNAL;
"""
_TAKEOVER_SECONDS_MAX = 60


async def callers(job: Job) -> Result:
    """Commands a second of callers of an engine whose log is on PostgreSQL."""
    with postgres_server() as server:
        adapter = Adapter(partial(_engine, f"{server}?schema=bank"), ENGINE.events_sql)
        return await by_callers(adapter, job)


@asynccontextmanager
async def _engine(address: str, path: Path) -> AsyncIterator[System]:
    """The engine; when it is closed its log is copied into the file that the driver reads it back from."""
    async with Engine(bank, log=address) as engine:

        async def balances() -> dict[str, int]:
            return await engine.ask(AllBalances(), after=engine.stats().writer.position)

        def counts() -> tuple[int, int]:
            writer = engine.stats().writer
            return writer.commits, writer.commands

        yield System(engine.execute, engine.execute_many, balances, counts, engine.ask)
    source, copy = log_at(address), SqliteLog(path)
    await source.attach()
    await copy.open(bank.name)
    try:
        await _copied(source, copy)
    finally:
        await copy.close()
        await source.close()


async def _copied(source: Log, copy: Log) -> None:
    number = 0
    while page := await source.read(number, _READ_BYTES):
        for commit in page:
            await copy.append(commit)
        number = page[-1].number


async def appends(job: Job) -> Result:
    """How many times as long as rows of a plain table commits of 30 kB take, in turn on one server.

    The rows are inserted by a prepared statement, each in its own transaction. What the machine does meanwhile is
    the same for both: by processes of their own the ratio was 0.5 to 1.3 within minutes.
    """
    import asyncpg  # noqa: PLC0415 - an extra, which only this needs

    made = _commits(job)
    with postgres_server() as server:
        log, connection = log_at(f"{server}?schema=bank"), await asyncpg.connect(server)
        await log.open(bank.name)
        try:
            await connection.execute(_PLAIN)
            plain = await connection.prepare("INSERT INTO plain VALUES ($1, $2, $3, $4, $5) RETURNING number")

            async def insert(commit: Commit) -> None:
                await plain.fetchval(commit.number, commit.position, commit.recorded_at, commit.body, commit.digest)

            appending, inserting = await _in_turn(made, log.append, insert)
        finally:
            await connection.close()
            await log.close()
    rates = {"commits/s": len(made) / appending, "rows/s": len(made) / inserting}
    return Result(value=appending / inserting, details=rates)


async def _in_turn(
    made: Sequence[Commit], one: Callable[[Commit], Awaitable[object]], other: Callable[[Commit], Awaitable[object]]
) -> list[float]:
    """How many seconds the one took for all commits, and the other."""
    seconds = [0.0, 0.0]
    gc.collect()
    for turn, first in enumerate(range(0, len(made), _COMMITS_A_TURN)):
        for place, write in ((0, one), (1, other))[:: -1 if turn % 2 else 1]:
            started = elapsed()
            for commit in made[first : first + _COMMITS_A_TURN]:
                await write(commit)
            seconds[place] += elapsed() - started
    return seconds


def _commits(job: Job) -> list[Commit]:
    made: list[Commit] = []
    head = Head()
    for number in range(job.workload.commands):
        body = b'[{"type":"Note","text":"%b"}]' % (b"%06d" % number * (_BODY_BYTES // 6))
        made.append(seal(head, f"2026-01-01T00:00:00.{number:06}Z", body))
        head = Head.after(made[-1], 0)
    return made


async def failovers(job: Job) -> Result:
    """The longest time in seconds from killing the process that writes to the next receipt, on PostgreSQL."""
    with postgres_server() as server:
        return await _failovers(job, f"{server}?schema=bank")


async def failovers_on_sqlite(job: Job) -> Result:
    """The same on a SQLite file."""
    return await _failovers(job, str(Path(job.directory) / "bank.db"))


async def _failovers(job: Job, log: str) -> Result:
    """Each time the standby takes over, and the one that was killed is started again as the next standby."""
    with TemporaryDirectory(prefix="ms-") as short:  # the name of a socket has a hundred bytes
        return await _failed_over(job, log, [f"unix://{short}/{name}" for name in "ab"])


async def _failed_over(job: Job, log: str, addresses: list[str]) -> Result:
    running = {address: _serving(log, address) for address in addresses}
    taken: list[float] = []
    try:
        limits = ClientLimits(reconnect_seconds_max=_TAKEOVER_SECONDS_MAX, retry_seconds_max=0.05)
        async with Client(addresses, limits=limits, eager=False, name_commands=True) as client:
            await client.execute_many([Open(account_name(number)) for number in range(job.workload.accounts)])
            for _ in range(job.workload.commands):
                await _standing_by(addresses)
                leader = await _leader(log)
                running[leader].kill()
                await anyio.to_thread.run_sync(running[leader].wait)
                started = elapsed()
                await client.execute(Deposit(account_name(0), 1))
                taken.append(elapsed() - started)
                running[leader] = _serving(log, leader)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGKILL)
            await anyio.to_thread.run_sync(process.wait)
    taken.sort()
    return Result(value=taken[-1], details={"p50 s": taken[len(taken) // 2]})


def _serving(log: str, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "millstream.engine.cli", "serve", "millstream.bench.bank:bank", "--standby"]
    return subprocess.Popen(
        [*command, "--log", log, "--listen", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def _standing_by(addresses: list[str]) -> None:
    """Wait until each of them answers."""
    with anyio.fail_after(_TAKEOVER_SECONDS_MAX):
        for address in addresses:
            async with Client(address, eager=False) as one:
                await one.ask(BalanceOf(account_name(0)))


async def _leader(log: str) -> str:
    found = log_at(log)
    try:
        await found.attach()
        address = await found.leader()
    except MillstreamError as error:
        raise WorkerFailed("failovers", str(error)) from error
    finally:
        await found.close()
    if address is None:
        raise WorkerFailed("failovers", "no process writes")
    return address
