"""The limits: what the language, SQLite and the disk do on their own, each the plainest program that shows it.

SQLite's run in the main thread with nothing else going on, and with the settings that the engine uses.
"""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import msgspec

from millstream.bench.bank import BalanceOf, Deposit, Deposited, Open, Opened, fingerprint, queries, streams, totals
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.measure import LATENCY, bytes_in, curve, latencies, open_loop
from millstream.bench.systems import ENGINE, read_back
from millstream.bench.workload import Workload
from millstream.engine.commits.columns import Sheet
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.sqlite.log import CHECKPOINT_PAGES

__all__ = [
    "append_and_sync",
    "bare_asks",
    "bare_dicts",
    "bare_loop",
    "bare_replay",
    "bare_verify",
    "idle_asks",
    "sqlite_autocommit",
    "sqlite_batches",
]

_PAGE_BYTES = 4096
_INSERT = (
    "INSERT INTO commits (number, position, recorded_at, body, digest) VALUES (:number, :position, :at, :body, :digest)"
)
#: The engine's row, and enough of its view to read the events back.
_SCHEMA = """
CREATE TABLE commits (
    number INTEGER PRIMARY KEY, position INTEGER NOT NULL, recorded_at TEXT NOT NULL, body TEXT NOT NULL,
    digest BLOB NOT NULL
);
CREATE VIEW events AS SELECT event.value AS data
FROM commits, json_each(commits.body, '$.events') AS event;
"""

_encode = msgspec.json.Encoder().encode
#: macOS has no fdatasync.
_sync = getattr(os, "fdatasync", os.fsync)


def bare_loop(job: Job) -> Result:
    """Commands a second decided, applied to two dicts (state and view) and encoded a batch at a time; nothing kept."""
    work, size = streams(job.workload), job.workload.batch
    state = {command.account: 0 for command in work.opening}
    view = dict(state)

    def handle(deposits: Sequence[Deposit]) -> None:
        events: list[Deposited] = []
        for command in deposits:
            account = command.account
            if account not in state:
                raise KeyError(account)
            event = Deposited(account, command.amount)
            state[account] += event.amount
            events.append(event)
            if len(events) == size:
                publish(events)
                events = []
        publish(events)

    def publish(events: list[Deposited]) -> None:
        _encode(events)
        for event in events:
            view[event.account] += event.amount

    handle(work.warmup)
    gc.collect()
    started = elapsed()
    handle(work.measured)
    return Result(value=len(work.measured) / (elapsed() - started), state=fingerprint(view))


def sqlite_batches(job: Job) -> Result:
    """Events a second when each batch is one row, encoded beforehand: the engine's own row, by one plain INSERT."""
    return _sqlite(job, job.workload.batch)


def sqlite_autocommit(job: Job) -> Result:
    """Events a second when each event is a row and a transaction of its own."""
    return _sqlite(job, 1)


def _sqlite(job: Job, events_per_row: int) -> Result:
    work, path = streams(job.workload), Path(job.directory) / LOG_NAME
    opening = _rows(work.opening, job.workload.batch, 0)
    warmup = _rows(work.warmup, events_per_row, len(opening))
    measured = _rows(work.measured, events_per_row, len(opening) + len(warmup))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"wal_autocheckpoint={CHECKPOINT_PAGES}"):
            db.execute(f"PRAGMA {pragma}")
        db.executescript(_SCHEMA)
        for row in [*opening, *warmup]:
            db.execute(_INSERT, row)
        gc.collect()
        started = elapsed()
        for row in measured:
            db.execute(_INSERT, row)
        seconds = elapsed() - started
    events = len(work.opening) + len(work.warmup) + len(work.measured)
    return Result(
        value=len(work.measured) / seconds,
        details={"commands/commit": len(work.measured) / len(measured), "bytes/event": bytes_in(path.parent) / events},
        state=fingerprint(read_back(path, ENGINE.events_sql)),
    )


def _rows(commands: Sequence[Open | Deposit], events_per_row: int, number: int) -> list[dict[str, object]]:
    """What the engine would write for these commands, from row ``number`` + 1 on."""
    rows: list[dict[str, object]] = []
    for start in range(0, len(commands), events_per_row):
        number += 1
        batch = commands[start : start + events_per_row]
        sheet = Sheet()
        sheet.types += [type(each).__name__ for each in batch]
        body = sheet.body([_encode([_event(each) for each in batch])], {"Deposited": "account", "Opened": "account"})
        at = "2013-01-01T00:00:00.000000Z"
        rows.append({"number": number, "position": start + 1, "at": at, "body": body.decode(), "digest": bytes(32)})
    return rows


def _event(command: Open | Deposit) -> Opened | Deposited:
    return Deposited(command.account, command.amount) if isinstance(command, Deposit) else Opened(command.account)


def append_and_sync(job: Job) -> Result:
    """Appends of one page a second to a file, each made durable before the next."""
    page = bytes(_PAGE_BYTES)
    file = os.open(Path(job.directory) / "pages", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(job.workload.warmup):
            os.write(file, page)
            _sync(file)
        started = elapsed()
        for _ in range(job.workload.commands):
            os.write(file, page)
            _sync(file)
        return Result(value=job.workload.commands / (elapsed() - started))
    finally:
        os.close(file)


def bare_dicts(job: Job) -> Result:
    """Microseconds that the workload's keys add to a command that updates three dicts, above 1,000 keys.

    Write model, index and view each have such a dict. Each has strings of its own for its keys here, and those that are
    looked up are others again, as those of a command are. It is what Python's own dict takes, and the memory below it.
    """
    workload = job.workload
    few = msgspec.structs.replace(workload, accounts=min(1_000, workload.accounts))
    at_few, at_many = _update_dicts(few), _update_dicts(workload)
    details = {f"µs at {few.accounts:,}": at_few, f"µs at {workload.accounts:,}": at_many}
    return Result(value=max(at_many - at_few, 0.001), details=details)  # a small size may show nothing


def _update_dicts(workload: Workload) -> float:
    """Microseconds for each update of three dicts at one of the workload's keys."""
    work = streams(workload)
    names = [command.account for command in work.opening]
    first, second, third = ({f"{name} "[:-1]: 0 for name in names} for _ in range(3))
    asked = [command.account for command in work.measured]
    del work, names
    gc.collect()
    started = elapsed()
    for account in asked:
        first[account] += 1
        second[account] += 1
        third[account] += 1
    return (elapsed() - started) / len(asked) * 1e6


async def bare_asks(job: Job) -> Result:
    """Questions a second to a coroutine function that looks into a dict."""
    work, questions = streams(job.workload), queries(job.workload)
    balances = totals(job.workload, work.warmup)

    async def ask(query: BalanceOf) -> int | None:
        return balances.get(query.account)

    for question in questions[: len(questions) // 10]:
        await ask(question)
    gc.collect()
    started = elapsed()
    for question in questions:
        await ask(question)
    seconds = elapsed() - started
    answered = {each.account: await ask(BalanceOf(each.account)) for each in work.opening}
    return Result(value=len(questions) / seconds, state=fingerprint(answered))


async def idle_asks(job: Job) -> Result:
    """The p99 in milliseconds of the same schedule on a loop that has nothing else to do: the timer's own lateness."""
    balances = totals(job.workload, [])

    async def ask(query: BalanceOf) -> int | None:
        return balances.get(query.account)

    questions, interval_seconds = queries(job.workload), job.workload.ask_interval_ms / 1e3
    await open_loop(ask, questions[: len(questions) // 10], interval_seconds)
    seconds = await open_loop(ask, questions, interval_seconds)
    measured = latencies(seconds)
    return Result(value=measured.pop("p99 ms"), details=measured, series={LATENCY: curve(seconds)})


class _Body(msgspec.Struct):
    events: list[Opened | Deposited]


def bare_replay(job: Job) -> Result:
    """Events a second from the engine's file, by sqlite3, decoded and applied to a dict; the second pass counts."""
    path = Path(job.directory) / LOG_NAME
    _replay(path)
    gc.collect()
    started = elapsed()
    events, balances = _replay(path)
    seconds = elapsed() - started
    return Result(value=events / seconds, details={"events": events}, state=fingerprint(balances))


def _replay(path: Path) -> tuple[int, dict[str, int]]:
    decode = msgspec.json.Decoder(_Body).decode
    balances: dict[str, int] = {}
    count = 0
    with closing(sqlite3.connect(path)) as db:
        for (body,) in db.execute("SELECT body FROM commits ORDER BY number"):
            for event in decode(body).events:
                count += 1
                if isinstance(event, Deposited):
                    balances[event.account] += event.amount
                else:
                    balances[event.account] = 0
    return count, balances


def bare_verify(job: Job) -> Result:
    """Megabytes a second of the engine's file, every body read by sqlite3 and put through BLAKE2b, nothing compared."""
    path = Path(job.directory) / LOG_NAME
    started = elapsed()
    digest = b""
    with closing(sqlite3.connect(path)) as db:
        for (body,) in db.execute("SELECT CAST(body AS BLOB) FROM commits ORDER BY number"):
            digest = blake2b(digest + body, digest_size=32).digest()
    seconds = elapsed() - started
    return Result(value=path.stat().st_size / 1e6 / seconds)
