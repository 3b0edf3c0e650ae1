"""Where the log of a run lies, and how it is read when the run is over: by plain SQL, without the engine.

Here: a SQLite file, or a PostgreSQL server that is made for the run. Not here: what is made of the commits
(`by_position`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from millstream.bench.postgres.server import postgres_server
from millstream.bench.proofs.files import DATABASE, read_commits
from millstream.engine.commits.commit import Commit

__all__ = ["Place", "Store", "placed"]

_SCHEMA = "histories"
#: Shorter than some of the times for which a process is stopped.
_LEASE_SECONDS = 0.5


class Store(StrEnum):
    """What keeps the log."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


class Place(NamedTuple):
    """A log: the address that an engine gets, and how its commits are read when no process writes it any more."""

    log: str
    commits: Callable[[], list[Commit]]


@contextmanager
def placed(store: Store, folder: Path) -> Iterator[Place]:
    """A place for a log that is there as long as the block.

    Args:
        store: what keeps it.
        folder: of the run; a SQLite file lies there.

    Raises:
        WorkerFailed: no server could be made.
    """
    if store is Store.SQLITE:
        yield Place(str(folder / DATABASE), lambda: read_commits(folder / DATABASE))
        return
    with postgres_server() as server:
        log = f"{server}?schema={_SCHEMA}&lease_seconds={_LEASE_SECONDS}"
        yield Place(log, lambda: asyncio.run(_selected(server)))


async def _selected(server: str) -> list[Commit]:
    import asyncpg  # noqa: PLC0415 - an extra, which only this needs

    connection = await asyncpg.connect(server)
    try:
        columns = "number, position, recorded_at, body, digest"
        rows = await connection.fetch(f"SELECT {columns} FROM {_SCHEMA}.commits ORDER BY number")
        return [Commit(*row) for row in rows]
    finally:
        await connection.close()
