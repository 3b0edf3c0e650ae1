"""Reading a log in PostgreSQL: beside the writer of the same handle, or attached, also to a standby of the server.

Here: the connection that reads, and what its rows and errors become. Not here: anything that writes (`log`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import asyncpg

from millstream.engine.commits.chain import head_of
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import LogCorrupt, LogRefused
from millstream.engine.stores.following import followed
from millstream.engine.stores.postgres.connecting import Connection, Session, connector
from millstream.engine.stores.postgres.errors import ERRORS, STATE_GONE, refusal, state_of, text_of
from millstream.engine.stores.postgres.following import Ear
from millstream.engine.stores.postgres.leading import leader_of
from millstream.engine.stores.postgres.schema import Meta, meta_of
from millstream.engine.stores.postgres.settings import Password, Settings

__all__ = ["PostgresReader", "channel_of", "row_head"]

T = TypeVar("T")

_ROWS_MAX = 4_096
_COLUMNS = "number, position, recorded_at, body, digest"


def channel_of(meta: Meta) -> str:
    """Where a log's appends are notified."""
    return f"millstream_{meta.log}"


class PostgresReader:
    """The reading half of `PostgresLog`.

    Args:
        settings: where the log is.
        password: asked for each connection, if it is given.
    """

    def __init__(self, settings: Settings, password: Password | None) -> None:
        self._settings = settings
        self._password = password
        #: What the log says of itself, once it is open or attached.
        self.meta: Meta | None = None
        self._session: Session | None = None
        self._ear = Ear()
        self._read = f"""
            SELECT {_COLUMNS} FROM (
                SELECT {_COLUMNS}, sum(octet_length(body)) OVER (ORDER BY number) AS total FROM (
                    SELECT {_COLUMNS} FROM {settings.place}.commits WHERE number > $1 ORDER BY number LIMIT {_ROWS_MAX}
                ) AS ahead
            ) AS counted WHERE total <= $2 OR number = $1 + 1 ORDER BY number
        """

    async def open(self, *, beside_writer: bool = False) -> Meta:
        """Connect, and see what the log says of itself. Raises the driver's errors, LogRefused, LogCorrupt."""
        self._ear = Ear()
        connect = connector(self._settings, self._password, writes=beside_writer)
        prepare = None if beside_writer else self._prepare
        self._session = Session(connect, prepare, seconds_max=self._settings.answer_seconds_max)
        self.meta = None
        self.meta = await self._session.run(partial(meta_of, settings=self._settings))
        if not beside_writer:
            await self._listen(self.meta)
        return self.meta

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        rows = await self._asked(lambda connection: connection.fetch(self._read, after, bytes_max))
        return [self._commit(number, row) for number, row in enumerate(rows, after + 1)]

    async def head(self) -> Head:
        return await self._asked(partial(row_head, settings=self._settings))

    async def leader(self) -> str | None:
        return await self._asked(partial(leader_of, settings=self._settings))

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        """What `Log.follow` promises. It ends with its connection: the log may be another one's after that."""
        generation = 0 if self._session is None else self._session.generation
        return followed(partial(self._read_on, generation), self._ear, after, bytes_max)

    def look_now(self) -> None:
        """Look now."""
        self._ear.tell()

    def tell(self) -> None:
        """This handle has appended."""
        self._ear.tell()

    async def close(self) -> None:
        self._ear.end()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Inside.

    async def _read_on(self, generation: int, after: int, bytes_max: int) -> Sequence[Commit]:
        page = await self.read(after, bytes_max)
        if self._session is not None and self._session.generation != generation:
            raise OSError(f"log {self._settings.name}: the connection was lost while it was followed")
        return page

    async def _prepare(self, connection: Connection) -> None:
        """With each connection but the first: see that it leads to the same log, and listen."""
        if self.meta is None:
            return
        found = await meta_of(connection, self._settings)
        if found.log != self.meta.log:
            problem = f"it is log {found.log}, and not {self.meta.log}, which was opened"
            raise LogRefused(self._settings.name, problem, "open it anew")
        await self._listen_on(connection, self.meta)

    async def _listen(self, meta: Meta) -> None:
        if self._session is not None:
            await self._session.run(lambda connection: self._listen_on(connection, meta))

    async def _listen_on(self, connection: Connection, meta: Meta) -> None:
        """Listen; a standby and a pooler can't."""
        self._ear.is_listening = False
        if self._settings.pooled:
            return
        try:
            await connection.add_listener(channel_of(meta), self._ear.heard)
        except asyncpg.PostgresError:
            return
        self._ear.is_listening = True

    async def _asked(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        session = self._session
        if session is None:
            raise RuntimeError("this log is not open: Engine opens it, or call open()")
        try:
            return await session.run(work)
        except ERRORS as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            if state_of(error) in STATE_GONE:
                raise refusal(self._settings.name, error) from error
            raise OSError(f"log {self._settings.name} can't be read now: {text_of(error)}") from error

    def _commit(self, number: int, row: asyncpg.Record) -> Commit:
        commit = Commit(*row)
        if commit.number != number:
            raise LogCorrupt(self._settings.name, number, f"commit {commit.number:,} stands where {number:,} should")
        return commit


async def row_head(connection: Connection, settings: Settings) -> Head:
    """The head of the log."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM {settings.place}.commits ORDER BY number DESC LIMIT 1")
    return Head() if row is None else head_of(settings.name, Commit(*row))
