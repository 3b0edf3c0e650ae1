"""Everything that can be run, by name: what it is, what it makes durable, and whether it needs an event loop.

Here: the table. A worker runs one of them, a figure names the ones that belong beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

from millstream.bench import (
    aggregates,
    busy_loop,
    collector,
    engine_runs,
    growth,
    limits,
    loops,
    open_loop,
    opening,
    outside,
    past,
    tables,
    timers,
    views,
)
from millstream.bench.drivers import by_callers, in_one_call, mixed
from millstream.bench.http import runs as http_runs
from millstream.bench.job import Job, Result
from millstream.bench.postgres import following
from millstream.bench.postgres import runs as postgres
from millstream.bench.postgres.server import PACKAGE
from millstream.bench.socket import clients, fronts, replicas
from millstream.bench.socket import runs as socket_runs
from millstream.bench.socket.children import found
from millstream.bench.systems import (
    ENGINE,
    ENGINE_ALONE,
    ENGINE_SPANNED,
    ENGINE_TRACED,
    ENGINE_WATCHED,
    ENGINE_WITH_IDS,
    ENGINE_WITH_VERSIONS,
    MINIMUM,
    with_app,
)

__all__ = ["PROGRAMS", "Program"]

_GROUP = "durable: an fsync per commit of a batch"
_NOTHING = "nothing durable"
_REDIS_ALWAYS = "durable: appendfsync always, an fsync per turn of its loop"


class Program(NamedTuple):
    """One contender as a program."""

    run: Callable[[Job], Result]
    what: str
    durability: str
    #: Whether it runs on an event loop, so that it matters which.
    on_loop: bool
    #: Commands that must be there, so that it can run.
    needs: tuple[str, ...] = ()
    #: And packages.
    packages: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Those of them that are not: packages first, as commands may come with them."""
        packages = [f"the package {package}" for package in self.packages if not _is_there(package)]
        return packages or [command for command in self.needs if found(command) is None]


def _is_there(package: str) -> bool:
    """Whether it can be imported; of ``a.b`` first whether there is an ``a``, which is imported to find that out."""
    return find_spec(package.partition(".")[0]) is not None and find_spec(package) is not None


def _on_loop(run: Callable[[Job], Coroutine[Any, Any, Result]], what: str, durability: str) -> Program:
    return Program(lambda job: loops.run(partial(run, job), job.loop), what, durability, on_loop=True)


def _plain(run: Callable[[Job], Result], what: str, durability: str) -> Program:
    return Program(run, what, durability, on_loop=False)


def _in_sql(name: str, what: str, durability: str = "a page a transaction, WAL, synchronous=NORMAL") -> Program:
    """A run of `bench.sql`, which needs SQLAlchemy: it is imported to run it."""

    def run(job: Job) -> Result:
        found = getattr(import_module("millstream.bench.sql"), name)
        result: Result = loops.run(partial(found, job), job.loop) if iscoroutinefunction(found) else found(job)
        return result

    return Program(run, what, durability, on_loop=True, packages=("sqlalchemy",))


def _in_sql_postgres(name: str, what: str) -> Program:
    """The same on a PostgreSQL server of its own."""
    return _in_sql(name, what, "a page a transaction")._replace(packages=("sqlalchemy", "psycopg", PACKAGE))


def _served(run: Callable[[Job], Result], what: str, durability: str) -> Program:
    """A server in a process of its own, on the job's loop, and this process as its load."""
    return Program(run, what, durability, on_loop=True, needs=("sh",))


def _client(run: Callable[[Job], Coroutine[Any, Any, Result]], what: str, durability: str) -> Program:
    """A client on the job's loop, and a server in a process of its own."""
    return _on_loop(run, what, durability)._replace(needs=("sh",))


def _peer(run: Callable[[Job], Result], what: str, durability: str, *needs: str) -> Program:
    return Program(run, what, durability, on_loop=False, needs=("sh", *needs))


def _library(module: str, what: str, durability: str, *needs: str, on_loop: bool = False, run: str = "run") -> Program:
    """A peer whose module imports the package that it needs first, and so is loaded only to run it."""

    def load_and_run(job: Job) -> Result:
        result: Result = getattr(import_module(f"millstream.bench.peers.{module}"), run)(job)
        return result

    package, *commands = needs
    return Program(load_and_run, what, durability, on_loop, needs=tuple(commands), packages=(package,))


def _postgres(run: Callable[[Job], Coroutine[Any, Any, Result]], what: str) -> Program:
    """What runs on a PostgreSQL server of its own."""
    return _on_loop(run, what, _GROUP)._replace(packages=("asyncpg", PACKAGE))


PROGRAMS = {
    "postgres-callers": _postgres(postgres.callers, "the engine with everything on, its log on PostgreSQL"),
    "postgres-appends": _postgres(
        postgres.appends, "a log, without an engine, and in turn asyncpg's prepared INSERT into a plain table"
    ),
    "four-logs": _postgres(following.four_logs, "four logs in one database, one task each"),
    "four-logs-followed": _postgres(following.four_logs_followed, "the same, and one follower of each"),
    "hearing-of-appends": _postgres(following.hearing_of_appends, "a follower that listens"),
    "hearing-by-looking": _postgres(following.hearing_by_looking, "a follower that looks by a timer"),
    "failovers": _postgres(postgres.failovers, "two processes serve a log, one after the other is killed"),
    "failovers-on-sqlite": _on_loop(postgres.failovers_on_sqlite, "the same on a file", _GROUP),
    "engine-callers": _on_loop(partial(by_callers, ENGINE), "the engine with everything on", _GROUP),
    "engine-callers-alone": _on_loop(
        partial(by_callers, ENGINE_ALONE), "a commit of one command is written on the loop's own thread", _GROUP
    ),
    "minimum-callers": _on_loop(partial(by_callers, MINIMUM), "the least engine, written by hand, no features", _GROUP),
    "engine-callers-with-ids": _on_loop(
        partial(by_callers, ENGINE_WITH_IDS), "a command id with each, so durable receipts", _GROUP
    ),
    "engine-callers-with-versions": _on_loop(
        partial(by_callers, ENGINE_WITH_VERSIONS), "an expected version with each", _GROUP
    ),
    "engine-callers-spanned": _on_loop(
        partial(by_callers, ENGINE_SPANNED), "metrics, and a span of OpenTelemetry for each commit", _GROUP
    )._replace(packages=("prometheus_client", "opentelemetry.sdk")),
    "engine-callers-traced": _on_loop(
        partial(by_callers, ENGINE_TRACED), "the same, and a span for each command, in a middleware", _GROUP
    )._replace(packages=("prometheus_client", "opentelemetry.sdk")),
    "engine-callers-watched": _on_loop(
        partial(by_callers, ENGINE_WATCHED), "10,000 watches, each of an account of its own", _GROUP
    ),
    "engine-one-call": _on_loop(partial(in_one_call, ENGINE), "the engine with everything on", _GROUP),
    "minimum-one-call": _on_loop(
        partial(in_one_call, MINIMUM), "the least engine, written by hand, no features", _GROUP
    ),
    "engine-mixed": _on_loop(partial(mixed, ENGINE), "the engine; what is asked is answered from memory", _GROUP),
    "minimum-mixed": _on_loop(partial(mixed, MINIMUM), "the least engine; a question is a look into a dict", _GROUP),
    **{
        f"engine-{count}-views-more": _on_loop(
            partial(by_callers, with_app(views.ignoring(count))), "views that do not apply what is written", _GROUP
        )
        for count in (8, 64)
    },
    "engine-8-views-applying": _on_loop(
        partial(by_callers, with_app(views.applying(8))), "each of them applies every event", _GROUP
    ),
    "engine-aggregates": _on_loop(
        partial(by_callers, with_app(aggregates.by_account)), "an instance for each account", _GROUP
    ),
    "engine-timers": _on_loop(timers.punctual, "timers are due while callers write; seen by a view", _GROUP),
    "idle-timers": _on_loop(timers.idle, "calls that the loop itself makes at their times, nothing else", _NOTHING),
    "engine-timers-waiting": _on_loop(timers.million, "timers on the agenda, none of which is due", _GROUP),
    "plain-timers": _plain(timers.plain_million, "a dict of the same names, times and commands", _NOTHING),
    "engine-effects": _on_loop(outside.settled, "each is owed, performed at once, and settled by a command", _GROUP),
    "bare-effects": _on_loop(outside.bare, "a task with a timeout for each; nothing is owed or settled", _NOTHING),
    "engine-effects-owed": _on_loop(outside.owed, "10,000 effects are owed, and their method is paused", _GROUP),
    "engine-effects-none": _on_loop(partial(outside.owed, effects=0), "the same engine, and none is owed", _GROUP),
    "engine-grown": _on_loop(growth.grown, "a log and a state of that size; no snapshot is taken meanwhile", _GROUP),
    "engine-stall": _on_loop(growth.stall, "1,000 callers write; the garbage collector stays on", _GROUP),
    "engine-stall-frozen": _on_loop(
        partial(growth.stall, freeze_gc=True), "the same with Engine(freeze_gc=True)", _GROUP
    ),
    "engine-beside-work": _on_loop(busy_loop.beside_work, "the engine; beside it callbacks that never end", _GROUP),
    "memory-beside-work": _on_loop(
        partial(busy_loop.beside_work, log="memory:"), "the same with its log in memory", _NOTHING
    ),
    "engine-long-run": _on_loop(partial(growth.long_run, ENGINE), "callers who write and ask", _GROUP),
    "minimum-long-run": _on_loop(partial(growth.long_run, MINIMUM), "the least engine, by the same callers", _GROUP),
    "engine-arriving": _on_loop(partial(open_loop.arriving, ENGINE), "the engine with everything on", _GROUP),
    "minimum-arriving": _on_loop(
        partial(open_loop.arriving, MINIMUM), "the least engine, at a share of its own rate", _GROUP
    ),
    "idle-arriving": _on_loop(open_loop.idle, "10,000 a second, nothing is done: the timer's own lateness", _NOTHING),
    "engine-rebuild": _on_loop(
        views.rebuild, "the engine opens: one view from the first event on, all else from snapshots", "reads only"
    ),
    "engine-held": _on_loop(views.held, "a view that keeps each event in a list, and the bank", "reads only"),
    "plain-held": _plain(views.plain_held, "a list of as many events read from JSON", _NOTHING),
    "engine-asks": _on_loop(engine_runs.asks, "the engine, its view up to date", _NOTHING),
    "engine-asks-beside-callers": _on_loop(engine_runs.asks_beside_callers, "the engine with everything on", _GROUP),
    "asks-beside-past": _on_loop(past.beside, "one earlier state after another is made of the log", "reads only"),
    "sql-view": _in_sql("catching_up", "a replica with a view in SQL: digests checked, pages with their head"),
    "sql-by-hand": _in_sql("by_hand", "json, and executemany of a page of commits")._replace(on_loop=False),
    "sql-view-postgres": _in_sql_postgres("catching_up_in_postgres", "a replica with a view in SQL, by psycopg"),
    "sql-by-hand-postgres": _in_sql_postgres("by_hand_in_postgres", "json, and executemany")._replace(on_loop=False),
    "asks-alone": _on_loop(past.alone, "the same engine, and no caller asks of yesterday", "reads only"),
    "engine-history": _on_loop(engine_runs.write_history, "the engine, writing the log that is replayed", _GROUP),
    "engine-replay": _on_loop(
        engine_runs.replay, "the engine opens: digests checked, write model and view", "reads only"
    ),
    "engine-open": _on_loop(opening.open_it, "the engine opens: snapshots, and what came after them", "reads only"),
    "engine-open-without": _on_loop(
        opening.open_without_snapshots, "the engine opens: every event since the first", "reads only"
    ),
    "engine-snapshot": _on_loop(
        opening.snapshot, "a snapshot of write model, index and view beside the running engine", "not synced"
    ),
    "engine-snapshot-process": _on_loop(
        opening.snapshot_elsewhere, "the same by another process, its start included", "not synced"
    ),
    "idle-loop": _on_loop(opening.idle, "the same look at a loop in which nothing happens", _NOTHING),
    "engine-verify": _on_loop(
        opening.verify, "digests, numbers and positions of every commit, and the file", "reads only"
    ),
    "bare-verify": _plain(limits.bare_verify, "sqlite3 and BLAKE2b over every row, nothing else", "reads only"),
    "engine-memory": _on_loop(opening.memory, "a write model, a view, the write index: a dict each", "reads only"),
    "engine-memory-aggregates": _on_loop(
        aggregates.memory, "an instance for each account, a view, the write index", "reads only"
    ),
    "plain-memory": _plain(opening.plain_memory, "one dict of the same keys and values", _NOTHING),
    "collector-tracked": _on_loop(collector.tracked, "a million Structs as they are by default", _GROUP),
    "collector-untracked": _on_loop(collector.untracked, "a million Structs with gc=False", _GROUP),
    "collector-frozen": _on_loop(collector.frozen, "as by default, and Engine(freeze_gc=True)", _GROUP),
    "bare-loop": _plain(limits.bare_loop, "a Python loop: decide, apply to two dicts, encode", _NOTHING),
    "sqlite-batches": _plain(
        limits.sqlite_batches, "SQLite alone, main thread, the same rows encoded beforehand", _GROUP
    ),
    "sqlite-autocommit": _plain(
        limits.sqlite_autocommit, "SQLite alone, main thread, a row and a transaction each", "durable: an fsync each"
    ),
    "fdatasync": _plain(
        limits.append_and_sync, "4 KiB appended to a file and fdatasync, over and over", "durable: an fsync each"
    ),
    "bare-dicts": _plain(
        limits.bare_dicts, "three dicts updated at random, each with keys of its own, above 1,000 keys", _NOTHING
    ),
    **{
        f"{kind}-{question}": _plain(partial(run, system), what, _NOTHING)
        for question, run in (("lookups", tables.lookups), ("pages", tables.pages), ("inserts", tables.inserts))
        for kind, system, what in (
            ("table", tables.Table, "a TableView with a hash index and an ordered one"),
            ("sqlite-memory", tables.Sqlite, "SQLite in memory with an index, by Python's module"),
            ("dicts", tables.Dicts, "two dicts by hand, sorted for each page"),
        )
    },
    "bare-asks": _on_loop(limits.bare_asks, "an async def that looks into a dict", _NOTHING),
    "idle-asks": _on_loop(limits.idle_asks, "the same schedule on an idle loop: the timer's own lateness", _NOTHING),
    "bare-replay": _plain(limits.bare_replay, "sqlite3, msgspec, a dict; no digests, no view", "reads only"),
    "client-callers": _client(clients.by_callers, "the client, many tasks on one connection", _GROUP),
    "client-one-call": _client(clients.in_one_call, "the client, 256 commands in a request", _GROUP),
    "client-asks": _client(clients.asking, "the client, many tasks on one connection", _NOTHING),
    "pipeline": _client(clients.piped, "a socket and msgspec, replies are given to no task", _GROUP),
    "pipeline-of-parcels": _client(clients.piped_in_parcels, "the same, 256 commands in a request", _GROUP),
    "pipeline-asks": _client(clients.piped_asking, "a socket and msgspec, replies are given to no task", _NOTHING),
    "socket-execute": _served(
        socket_runs.execute, "the engine behind its socket, TCP, in a process of its own", _GROUP
    ),
    "socket-execute-alone": _served(
        partial(socket_runs.execute, alone=True),
        "the same, small commits written on the loop's own thread",
        _GROUP,
    ),
    "socket-ask": _served(socket_runs.ask, "the engine behind its socket, TCP, in a process of its own", _NOTHING),
    **{
        f"socket-fronts-{count}": _served(
            partial(fronts.writing, count),
            f"the engine behind its socket, {'connections taken by another process' if count else 'alone'}",
            _GROUP,
        )
        for count in (0, 1)
    },
    "socket-echo": _peer(
        socket_runs.echo, "a Python loop that sends back what it receives: the load's limit", _NOTHING
    ),
    "redis-set": _peer(
        socket_runs.redis_set, "SET, by redis-benchmark", _REDIS_ALWAYS, "redis-server", "redis-benchmark"
    ),
    "redis-get": _peer(socket_runs.redis_get, "GET, by redis-benchmark", _NOTHING, "redis-server", "redis-benchmark"),
    "redis-set-by-load": _peer(
        socket_runs.redis_set_by_load, "SET, by the load that millstream gets", _REDIS_ALWAYS, "redis-server"
    ),
    "redis-get-by-load": _peer(
        socket_runs.redis_get_by_load, "GET, by the load that millstream gets", _NOTHING, "redis-server"
    ),
    **{
        f"replicas-answer-{count}": _served(
            partial(replicas.answering, count), "asked by a task in its own process; no socket, no load", _NOTHING
        )
        for count in (1, 2)
    },
    **{
        f"replicas-serve-{count}": _served(
            partial(replicas.serving, count), "asked over sockets, the load on the same cores", _NOTHING
        )
        for count in (1, 2)
    },
    **{
        f"replicas-follow-{count}": _on_loop(
            partial(replicas.writing, count), "the engine, and processes that follow its log", _GROUP
        )._replace(needs=("sh",))
        for count in (1, 2)
    },
    "eventsourcing": _library(
        "eventsourcing_sqlite",
        "aggregates in its cache, not fast-forwarded, one thread",
        "durable: SQLite in WAL mode, synchronous=FULL, a transaction each",
        "eventsourcing",
    ),
    "umadb": _library(
        "umadb_server",
        "its server with a cache of pages, its client, up to 200 threads",
        "durable: an fsync per batch of appends, as always",
        "umadb",
        "sh",
        "umadb",
    ),
    "py-event-sourcing": _library(
        "py_event_sourcing_sqlite",
        "a stream for each account, all kept open",
        "durable: SQLite in WAL mode, synchronous=FULL, for which it has no setting",
        "py_event_sourcing",
        on_loop=True,
    ),
    "py-event-sourcing-as-it-comes": _library(
        "py_event_sourcing_sqlite",
        "the same, as it comes",
        "not durable: synchronous=NORMAL, so a power loss takes what was acknowledged",
        "py_event_sourcing",
        on_loop=True,
        run="run_as_it_comes",
    ),
    "eventsource-py": _library(
        "eventsource_py_sqlite",
        "a stream for each account, which an append expects to exist; no aggregates",
        "durable: SQLite in WAL mode, synchronous=FULL, a transaction each",
        "eventsource",
        on_loop=True,
    ),
    "dbos": _library(
        "dbos_sqlite",
        "a workflow without a step for each, recorded when it begins and when it ends, two threads; no log of events",
        "durable: SQLite in WAL mode, for which it has no setting, synchronous=FULL, two transactions each",
        "dbos",
    ),
    "nats": _library(
        "nats_jetstream",
        "JetStream, its server, a message each that expects the last sequence; the rule in Python",
        "durable: sync_interval: always, and the server says that it is in force",
        "nats",
        "sh",
        "nats-server",
        on_loop=True,
    ),
    "http-bank": _served(
        http_runs.bank, "the engine over HTTP, uvicorn with h11, in a process of its own", _GROUP
    )._replace(packages=("uvicorn",)),
    "http-watched": _served(http_runs.watched, "the same beside 1,000 server-sent event streams", _GROUP)._replace(
        packages=("uvicorn",)
    ),
    "http-nothing": _served(http_runs.nothing, "FastAPI, uvicorn with h11: the body is checked", _NOTHING)._replace(
        packages=("fastapi", "sqlalchemy")
    ),
    "http-row": _served(
        http_runs.row,
        "FastAPI, and a session and a transaction of SQLAlchemy for each, in a thread",
        "durable: SQLite in WAL mode, synchronous=FULL, a transaction each",
    )._replace(packages=("fastapi", "sqlalchemy")),
    "replica-delay": _served(replicas.delay, "a command to the writer, then a question to the replica", _GROUP),
    "writer-delay": _served(replicas.delay_at_writer, "a command to the writer, then a question to it", _GROUP),
}
