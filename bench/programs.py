"""Everything that can be run, by name: what it is, what it makes durable, and whether it needs an event loop.

Here: the table. A worker runs one of them, a figure names the ones that belong beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from penstock.bench import collecting, engine_runs, keeping, limits, loops
from penstock.bench.drivers import by_callers, in_one_call
from penstock.bench.job import Job, Result
from penstock.bench.systems import ENGINE, ENGINE_WITH_IDS, ENGINE_WITH_VERSIONS, MINIMUM

__all__ = ["PROGRAMS", "Program"]

_GROUP = "durable: an fsync per commit of a batch"
_NOTHING = "nothing durable"


class Program(NamedTuple):
    """One contender as a program."""

    run: Callable[[Job], Result]
    what: str
    durability: str
    #: Whether it runs on an event loop, so that it matters which.
    on_loop: bool


def _on_loop(run: Callable[[Job], Coroutine[Any, Any, Result]], what: str, durability: str) -> Program:
    return Program(lambda job: loops.run(partial(run, job), job.loop), what, durability, on_loop=True)


def _plain(run: Callable[[Job], Result], what: str, durability: str) -> Program:
    return Program(run, what, durability, on_loop=False)


PROGRAMS = {
    "engine-callers": _on_loop(partial(by_callers, ENGINE), "the engine with everything on", _GROUP),
    "minimum-callers": _on_loop(partial(by_callers, MINIMUM), "the least engine, written by hand, no features", _GROUP),
    "engine-callers-with-ids": _on_loop(
        partial(by_callers, ENGINE_WITH_IDS), "a command id with each, so durable receipts", _GROUP
    ),
    "engine-callers-with-versions": _on_loop(
        partial(by_callers, ENGINE_WITH_VERSIONS), "an expected version with each", _GROUP
    ),
    "engine-one-call": _on_loop(partial(in_one_call, ENGINE), "the engine with everything on", _GROUP),
    "minimum-one-call": _on_loop(
        partial(in_one_call, MINIMUM), "the least engine, written by hand, no features", _GROUP
    ),
    "engine-asks": _on_loop(engine_runs.asks, "the engine, its view up to date", _NOTHING),
    "engine-asks-beside-callers": _on_loop(engine_runs.asks_beside_callers, "the engine with everything on", _GROUP),
    "engine-history": _on_loop(engine_runs.write_history, "the engine, writing the log that is replayed", _GROUP),
    "engine-replay": _on_loop(
        engine_runs.replay, "the engine opens: digests checked, write model and view", "reads only"
    ),
    "engine-open": _on_loop(keeping.open_it, "the engine opens: snapshots, and what came after them", "reads only"),
    "engine-open-without": _on_loop(
        keeping.open_without_snapshots, "the engine opens: every event since the first", "reads only"
    ),
    "engine-snapshot": _on_loop(
        keeping.snapshot, "a snapshot of write model, ledger and view beside the running engine", "not synced"
    ),
    "idle-loop": _on_loop(keeping.idle, "the same look at a loop in which nothing happens", _NOTHING),
    "engine-verify": _on_loop(
        keeping.verify, "digests, numbers and positions of every commit, and the file", "reads only"
    ),
    "bare-verify": _plain(limits.bare_verify, "sqlite3 and BLAKE2b over every row, nothing else", "reads only"),
    "engine-memory": _on_loop(keeping.memory, "a write model, a view and the ledger, each with a dict", "reads only"),
    "plain-memory": _plain(keeping.plain_memory, "one dict of the same keys and values", _NOTHING),
    "collector-tracked": _on_loop(collecting.tracked, "a million Structs as they are by default", _GROUP),
    "collector-untracked": _on_loop(collecting.untracked, "a million Structs with gc=False", _GROUP),
    "collector-frozen": _on_loop(collecting.frozen, "as by default, and Engine(freeze_gc=True)", _GROUP),
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
    "bare-asks": _on_loop(limits.bare_asks, "an async def that looks into a dict", _NOTHING),
    "idle-asks": _on_loop(limits.idle_asks, "the same schedule on an idle loop: the timer's own lateness", _NOTHING),
    "bare-replay": _plain(limits.bare_replay, "sqlite3, msgspec, a dict; no digests, no view", "reads only"),
}
