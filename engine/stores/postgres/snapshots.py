"""Snapshots in the schema of their log: another process, or another machine, begins with them.

Each attempt to take a snapshot has a number, and its pieces have it, too; a row in ``snapshots`` says that the attempt
was finished. Nothing waits for the disk but finishing one: what is lost with the server is only a slower opening.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import anyio
import asyncpg

from millstream.engine.commits.commit import Head
from millstream.engine.observers import Observer
from millstream.engine.snapshots.part import Snapshot
from millstream.engine.stores.errors import SnapshotsLocked
from millstream.engine.stores.postgres.connecting import Connection, Session, connector
from millstream.engine.stores.postgres.errors import ERRORS, text_of
from millstream.engine.stores.postgres.settings import Password, Settings

__all__ = ["PostgresSnapshots"]

T = TypeVar("T")

_PIECES_AT_ONCE = 16


class PostgresSnapshots:
    """The `SnapshotStore` port on two tables.

    Args:
        settings: where the log is.
        password: asked for each connection, if it is given.
    """

    def __init__(self, settings: Settings, password: Password | None) -> None:
        self._settings = settings
        self._password = password
        self._session: Session | None = None
        #: Those that are begun and not finished, by part.
        self._attempts: dict[str, int] = {}
        self._has_swept = False

    async def open(self, observer: Observer | None = None) -> None:
        self._session = self._new(writes=True)
        await self._run(_connected)

    async def attach(self) -> None:
        self._session = self._new(writes=False)
        await self.kept()

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        session = self._new(writes=True)
        name = f"millstream snapshots {self._settings.schema}"
        try:
            is_ours = await session.run(
                lambda connection: connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name)
            )
            if not is_ours:
                raise SnapshotsLocked(self._settings.name)
            self._attempts.clear()
            self._has_swept = False
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await session.close()

    async def kept(self) -> Sequence[Snapshot]:
        rows = await self._fetch(
            "SELECT part, number, position, recorded_at, digest, fingerprint, pieces, checksum, notes "
            'FROM {s}.snapshots ORDER BY part COLLATE "C", number DESC, attempt DESC'
        )
        return [_snapshot(row) for row in rows]

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        rows = await self._fetch(
            "SELECT data FROM {s}.pieces "
            "WHERE attempt = (SELECT max(attempt) FROM {s}.snapshots WHERE checksum = $1) "
            "AND place >= $2 AND place < $3 ORDER BY place",
            snapshot.checksum,
            start,
            min(start + _PIECES_AT_ONCE, snapshot.pieces),
        )
        return [row["data"] for row in rows]

    async def add(self, part: str, index: int, piece: bytes) -> None:
        if index == 0:
            await self._begin(part)
        await self._fetch("INSERT INTO {s}.pieces VALUES ($1, $2, $3)", self._attempts[part], index, piece)

    async def finish(self, snapshot: Snapshot) -> None:
        if not snapshot.pieces:
            await self._begin(snapshot.part)
        await self._run(partial(self._finish, attempt=self._attempts.pop(snapshot.part), snapshot=snapshot))

    async def drop(self, snapshots: Iterable[Snapshot]) -> None:
        await self._run(partial(self._drop, checksums=[each.checksum for each in snapshots], but=0))

    async def rest(self) -> None:
        """Nothing to do: a connection to a server is worth keeping."""

    def doubt(self, problem: str) -> None:
        """Nothing to do: whether its pages are whole is the server's to know."""

    async def close(self) -> None:
        session, self._session = self._session, None
        self._attempts.clear()
        self._has_swept = False
        if session is not None:
            await session.close()

    # Inside.

    async def _begin(self, part: str) -> None:
        left = self._attempts.pop(part, None)
        if not self._has_swept:  # what a crash has left, also of parts that are no more
            await self._fetch(
                "DELETE FROM {s}.pieces "
                "WHERE attempt NOT IN (SELECT attempt FROM {s}.snapshots) AND attempt <> ALL ($1)",
                list(self._attempts.values()),
            )
            self._has_swept = True
        elif left is not None:
            await self._fetch("DELETE FROM {s}.pieces WHERE attempt = $1", left)
        place = self._settings.place.replace("'", "''")
        ((attempt,),) = await self._fetch(f"SELECT nextval('{place}.attempts')")
        self._attempts[part] = attempt

    async def _finish(self, connection: Connection, attempt: int, snapshot: Snapshot) -> None:
        head = snapshot.head
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = on")
            await connection.execute(
                f"INSERT INTO {self._settings.place}.snapshots VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                attempt,
                snapshot.part,
                head.number,
                head.position,
                head.recorded_at,
                head.digest,
                snapshot.fingerprint,
                snapshot.pieces,
                snapshot.checksum,
                snapshot.notes,
            )
            await self._drop(connection, [snapshot.checksum], attempt)

    async def _drop(self, connection: Connection, checksums: Sequence[bytes], but: int) -> None:
        place = self._settings.place
        await connection.execute(
            f"WITH gone AS (DELETE FROM {place}.snapshots WHERE checksum = ANY ($1) AND attempt <> $2 "
            f"RETURNING attempt) DELETE FROM {place}.pieces WHERE attempt IN (SELECT attempt FROM gone)",
            checksums,
            but,
        )

    def _new(self, *, writes: bool) -> Session:
        connect = connector(self._settings, self._password, writes=writes)
        return Session(connect, _not_waiting if writes else None, seconds_max=self._settings.answer_seconds_max)

    async def _fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        text = statement.replace("{s}", self._settings.place)
        return await self._run(lambda connection: connection.fetch(text, *values))

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self._session is None:
            raise RuntimeError(f"snapshots of {self._settings.name} are not open")
        try:
            return await self._session.run(work)
        except ERRORS as error:
            raise OSError(f"snapshots of {self._settings.name}: {text_of(error)}") from error


async def _connected(connection: Connection) -> None:
    """Nothing but to connect."""


async def _not_waiting(connection: Connection) -> None:
    await connection.execute("SET synchronous_commit = off")


def _snapshot(row: asyncpg.Record) -> Snapshot:
    part, number, position, recorded_at, digest, fingerprint, pieces, checksum, notes = row
    return Snapshot(part, Head(number, position, recorded_at, digest), fingerprint, pieces, checksum, notes)
