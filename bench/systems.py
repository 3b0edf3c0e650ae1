"""Systems that take the bank's commands, each behind one small adapter, so that one driver measures all of them.

An adapter opens the system on an empty directory and hands out a `System`. Its functions are the system's own where
possible: a wrapper around each command would be measured with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from importlib import import_module
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeAlias

from millstream.bench.bank import AllBalances, BalanceOf, account_name, bank
from millstream.bench.minimum import minimum
from millstream.engine import App, Command, Engine, SqliteLog
from millstream.engine.edge import Edge

__all__ = [
    "ENGINE",
    "ENGINE_ALONE",
    "ENGINE_SPANNED",
    "ENGINE_TRACED",
    "ENGINE_WATCHED",
    "ENGINE_WITH_IDS",
    "ENGINE_WITH_VERSIONS",
    "MINIMUM",
    "Adapter",
    "System",
    "read_back",
    "with_app",
]

_WATCHES = 10_000


class System(NamedTuple):
    """A bank that is open."""

    #: Returns when the command is durable; raises when it was refused.
    execute: Callable[[Command], Awaitable[object]]
    #: The same for many; refusals are raised, or are among the outcomes as exceptions.
    execute_many: Callable[[Sequence[Command]], Awaitable[Sequence[object]]]
    #: All balances, as the system itself answers them from memory.
    balances: Callable[[], Awaitable[dict[str, int]]]
    #: How many commits were written, and how many commands they held.
    counts: Callable[[], tuple[int, int]]
    #: Answers one question from memory; None where it has none.
    ask: Callable[[BalanceOf], Awaitable[int | None]] | None = None


_Open: TypeAlias = Callable[[Path], AbstractAsyncContextManager[System]]


class Adapter(NamedTuple):
    """How to open a system on a file, and the SQL that reads (account, amount or null) of each change back from it."""

    open: _Open
    events_sql: str


def _system(engine: Engine, execute: Callable[[Command], Awaitable[object]]) -> System:
    async def balances() -> dict[str, int]:
        return await engine.ask(AllBalances(), after=engine.stats().writer.position)

    def counts() -> tuple[int, int]:
        writer = engine.stats().writer
        return writer.commits, writer.commands

    return System(execute, engine.execute_many, balances, counts, engine.ask)


@asynccontextmanager
async def _engine(path: Path) -> AsyncIterator[System]:
    async with Engine(bank, log=path) as engine:
        yield _system(engine, engine.execute)


@asynccontextmanager
async def _engine_alone(path: Path) -> AsyncIterator[System]:
    """A commit of one command is written on the loop's own thread, as long as that takes 4 ms at most."""
    async with Engine(bank, log=SqliteLog(path, alone_ms_max=4.0)) as engine:
        yield _system(engine, engine.execute)


@asynccontextmanager
async def _engine_spanned(path: Path) -> AsyncIterator[System]:
    """Metrics, and a span for each commit, which is ended and thrown away."""
    telemetry, sdk = import_module("millstream.engine.telemetry"), import_module("opentelemetry.sdk.trace")
    observers = [telemetry.Metrics(), telemetry.Spans(sdk.TracerProvider())]
    async with Engine(bank, log=path, observers=observers) as engine:
        yield _system(engine, engine.execute)


@asynccontextmanager
async def _engine_traced(path: Path) -> AsyncIterator[System]:
    """All of it, and a span for each command, each of which is sampled."""
    telemetry, sdk = import_module("millstream.engine.telemetry"), import_module("opentelemetry.sdk.trace")
    metrics, provider = telemetry.Metrics(), sdk.TracerProvider()
    async with Engine(bank, log=path, observers=[metrics, telemetry.Spans(provider)]) as engine:
        edge = Edge(engine, [telemetry.Traced(provider), telemetry.Measured(metrics)])
        yield _system(engine, edge.execute)


@asynccontextmanager
async def _engine_with_ids(path: Path) -> AsyncIterator[System]:
    """Each command has an id, so that its receipt is durable; making the id is measured with it."""
    async with Engine(bank, log=path) as engine:
        numbers = count(1)

        def execute(command: Command) -> Awaitable[object]:
            return engine.execute(command, command_id=f"command-{next(numbers)}")

        yield _system(engine, execute)


@asynccontextmanager
async def _engine_with_versions(path: Path) -> AsyncIterator[System]:
    """Each command expects the version that the receipt before it named; remembering it is measured with it."""
    async with Engine(bank, log=path) as engine:
        versions: dict[str, int | None] = {}

        async def execute(command: Command) -> None:
            key = attrgetter("account")(command)
            receipt = await engine.execute(command, expected_version=versions.get(key, 1))
            versions[key] = receipt.version

        yield _system(engine, execute)


@asynccontextmanager
async def _engine_watched(path: Path) -> AsyncIterator[System]:
    """Each of 10,000 accounts is watched, and each answer that comes is taken."""

    async def watch(number: int) -> None:
        async with engine.watch(BalanceOf(account_name(number))) as answers:
            async for _ in answers:
                pass

    async with Engine(bank, log=path) as engine:
        watching = [asyncio.create_task(watch(number)) for number in range(_WATCHES)]
        try:
            yield _system(engine, engine.execute)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


@asynccontextmanager
async def _minimum(path: Path) -> AsyncIterator[System]:
    async with minimum(path) as engine:

        async def balances() -> dict[str, int]:
            return engine.balances

        async def ask(query: BalanceOf) -> int | None:
            return engine.balances.get(query.account)

        yield System(engine.execute, engine.execute_many, balances, lambda: (engine.commits, engine.commands), ask)


@asynccontextmanager
async def _engine_with_app(app: App, path: Path) -> AsyncIterator[System]:
    async with Engine(app, log=path) as engine:
        yield _system(engine, engine.execute)


def with_app(app: App) -> Adapter:
    """The engine with another application that has the bank's commands and events."""
    return Adapter(partial(_engine_with_app, app), _EVENTS)


def _changes(event: str, source: str) -> str:
    """What each event changes: one balance, or those of two accounts."""
    fields = ", ".join(f"{event} ->> '$.{field}'" for field in ("account", "amount", "to"))
    return (
        f"WITH moves (account, amount, other) AS MATERIALIZED (SELECT {fields} FROM {source}) "
        "SELECT account, iif(other IS NULL, amount, -amount) AS amount FROM moves "
        "UNION ALL SELECT other, amount FROM moves WHERE other IS NOT NULL"
    )


_EVENTS = _changes("data", "events")

ENGINE = Adapter(_engine, _EVENTS)
ENGINE_ALONE = Adapter(_engine_alone, _EVENTS)
ENGINE_SPANNED = Adapter(_engine_spanned, _EVENTS)
ENGINE_TRACED = Adapter(_engine_traced, _EVENTS)
ENGINE_WITH_IDS = Adapter(_engine_with_ids, _EVENTS)
ENGINE_WITH_VERSIONS = Adapter(_engine_with_versions, _EVENTS)
ENGINE_WATCHED = Adapter(_engine_watched, _EVENTS)
MINIMUM = Adapter(_minimum, _changes("value", "commits, json_each(body)"))


def read_back(path: Path, events_sql: str) -> dict[str, int]:
    """All balances, summed up from the events in a file by nothing but SQL."""
    with closing(sqlite3.connect(path)) as db:
        return dict(
            db.execute(f"SELECT account, coalesce(sum(amount), 0) FROM ({events_sql}) GROUP BY account").fetchall()
        )
