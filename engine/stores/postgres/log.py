"""The log in a PostgreSQL database: for programs whose machine, or whose disk, does not stay.

One commit is one row, written by one statement, which holds the rule of the log and the fence: it appends if the number
is the next one and the writer's term has not ended. Bodies are ``bytea``, as the digest counts each byte.

Three connections: one appends, one reads, one keeps the lease and tells those who follow. No cancellation reaches the
driver: see `connecting`.

What may not happen, whatever fails: a commit is acknowledged and gone later, or refused and there later.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import asyncpg
from msgspec.structs import replace

from millstream.engine.commits.columns import needs_of
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import CommitFailed, Fenced, LogLocked, LogRefused, MillstreamError
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.postgres.connecting import Connection, Session, connector, once_it_takes_sessions
from millstream.engine.stores.postgres.errors import (
    ERRORS,
    STATE_READ_ONLY,
    Doubtful,
    is_unclear,
    refusal,
    state_of,
    text_of,
)
from millstream.engine.stores.postgres.leading import Keeper, Taken, is_free, let_go, take, term_anew
from millstream.engine.stores.postgres.reading import PostgresReader, channel_of, row_head
from millstream.engine.stores.postgres.schema import BODY_BYTES_MAX, Meta, create, is_there, meta_of, schema_sql
from millstream.engine.stores.postgres.settings import Password, settings_of
from millstream.engine.stores.postgres.snapshots import PostgresSnapshots
from millstream.engine.stores.settling import is_durable

__all__ = ["PostgresLog"]

#: How often a lease that another writer has is looked at.
_TURN_SECONDS = 0.1
_TURN_AGAIN_SECONDS = 0.2
#: After so many looks a session that is gone is a writer that died; one that lives has another by then.
_TURN_LOOKS = 3
_NO_WAIT_ENDED = "canceling"


class PostgresLog:
    """The `Log` port on one schema of a PostgreSQL database, version 14 or later.

    Args:
        address: ``postgresql://USER@HOST:PORT/DATABASE?schema=NAME``; ``schema`` is ``millstream`` by default. Several
            hosts, ``sslmode``, ``sslrootcert`` and the like are as the driver takes them. ``lease_seconds`` (3): how
            long a writer that says nothing keeps the log. ``answer_seconds_max`` (10): how long a statement may take
            before its connection is given up. ``pooled=true``: readers come through a pooler; a writer may not.
        password: gives the password for each connection, where one expires; a coroutine function, or a plain one.

    Raises:
        LogRefused: it is no such address.
    """

    def __init__(self, address: str, *, password: Password | None = None) -> None:
        self._settings = settings_of(address)
        self._password = password
        #: What `stores.address` makes another handle from; it holds what the caller wrote, a password too.
        self.address = address
        self._reader = PostgresReader(self._settings, password)
        self._snapshots = PostgresSnapshots(self._settings, password)
        self._writer: Session | None = None
        self._keeper: Keeper | None = None
        self._taken: Taken | None = None
        self._meta: Meta | None = None
        #: The server has ended a wait for its synchronous standby: what it calls a success is none.
        self._is_doubtful = False
        place = self._settings.place
        self._append = f"""
            WITH holder AS MATERIALIZED (SELECT FROM {place}.leader WHERE term = $6 FOR SHARE)
            INSERT INTO {place}.commits SELECT $1, $2, $3, $4, $5 FROM holder
            WHERE $1 = (SELECT coalesce(max(number), 0) + 1 FROM {place}.commits) RETURNING number
        """

    body_bytes_max: int | None = BODY_BYTES_MAX

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def id(self) -> str | None:
        return None if self._reader.meta is None else self._reader.meta.log

    @property
    def needs(self) -> Collection[str]:
        """The features that its commits name, as of when it was opened."""
        return () if self._reader.meta is None else self._reader.meta.needs

    @property
    def snapshots(self) -> PostgresSnapshots:
        return self._snapshots

    def schema_sql(self) -> str:
        """The statements that make an empty log in this schema, for a role that may; the program's own role may not."""
        return schema_sql(self._settings)

    async def open(self, application: str, address: str | None = None) -> Leadership:
        if self._settings.pooled:
            problem = "it is reached through a pooler, and a writer needs sessions of its own"
            raise LogRefused(self.name, problem, "leave pooled out, and name the server itself")
        connect = connector(self._settings, self._password, writes=True)
        self._writer = Session(connect, self._prepare, seconds_max=self._settings.answer_seconds_max)
        try:
            return await self._open(application, address)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self.close()
            if isinstance(error, asyncpg.LockNotAvailableError):
                raise LogLocked(self.name) from error
            if isinstance(error, ERRORS):
                raise refusal(self.name, error) from error
            raise

    async def _open(self, application: str, address: str | None) -> Leadership:
        assert self._writer is not None
        made = partial(self._writer.run, lambda connection: self._made(connection, application))
        self._meta = await once_it_takes_sessions(made, self._settings.answer_seconds_max)
        since = elapsed()
        self._taken = await self._writer.run(partial(take, settings=self._settings, address=address))
        if self._taken is None:
            raise LogLocked(self.name)
        await self._reader.open(beside_writer=True)
        connect = connector(self._settings, self._password, writes=True)
        kept = Session(connect, _not_waiting, seconds_max=self._settings.lease_seconds)
        self._keeper = Keeper(self._settings, kept, self._taken, channel_of(self._meta), address, since, self._restored)
        return self._keeper.leadership

    async def _made(self, connection: Connection, application: str) -> Meta:
        """The log, made if it is not there, and seen to be the application's."""
        if not await is_there(connection, self._settings) or not await connection.fetchval(
            f"SELECT count(*) FROM {self._settings.place}.meta"
        ):
            await create(connection, self._settings, application)
        meta = await meta_of(connection, self._settings)
        require_owner(self.name, meta.application, application)
        return meta

    async def wait_for_turn(self) -> None:
        connect = connector(self._settings, self._password, writes=True)
        session = Session(connect, seconds_max=self._settings.answer_seconds_max)
        looks = 0
        try:
            while True:
                try:
                    free, given_up = await session.run(partial(is_free, settings=self._settings))
                    looks = looks + 1 if free else 0
                    if given_up or looks == _TURN_LOOKS:
                        return
                except ERRORS:
                    looks = 0
                    await anyio.sleep(_TURN_AGAIN_SECONDS)
                await anyio.sleep(_TURN_SECONDS)
        finally:
            with anyio.CancelScope(shield=True):
                await session.close()

    async def leader(self) -> str | None:
        return await self._reader.leader()

    async def attach(self) -> str:
        try:
            seconds_max = self._settings.answer_seconds_max
            return (await once_it_takes_sessions(self._reader.open, seconds_max)).application
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self.close()
            if isinstance(error, ERRORS):
                raise refusal(self.name, error) from error
            raise

    # Writing.

    async def append(self, commit: Commit) -> None:
        writer, taken = self._writer, self._taken
        if writer is None or taken is None or self._keeper is None:
            raise CommitFailed(commit.number, "this log is not open for writing")
        try:
            number = await writer.run(lambda connection: self._written(connection, commit, taken))
        except asyncpg.UniqueViolationError as error:
            raise await self._fenced(commit) from error
        except MillstreamError:
            raise
        except ERRORS as error:
            if is_unclear(error):
                raise
            if state_of(error) == STATE_READ_ONLY:
                writer.drop()  # it was made a standby: the next connection looks for the primary
            raise CommitFailed(commit.number, text_of(error)) from error
        if number is None:
            raise await self._fenced(commit)
        self._reader.tell()
        self._keeper.tell()

    async def _written(self, connection: Connection, commit: Commit, taken: Taken) -> int | None:
        """Append on the writer's connection; the number, or None if the rule or the fence says no."""
        needs, known = needs_of(commit.body), self._meta
        self._is_doubtful = False
        row = (commit.number, commit.position, commit.recorded_at, commit.body, commit.digest, taken.term)
        number: int | None
        if not needs or known is None or set(needs) <= set(known.needs):
            number = await connection.fetchval(self._append, *row)
        else:
            number = await self._needing(connection, row, replace(known, needs=tuple(sorted({*known.needs, *needs}))))
        if self._is_doubtful:
            raise Doubtful("the server did not wait for its synchronous standby")
        return number

    async def _needing(self, connection: Connection, row: Sequence[Any], meta: Meta) -> int | None:
        """With the first commit that needs a feature the log's ``meta`` says so, in the same transaction."""
        async with connection.transaction():
            number: int | None = await connection.fetchval(self._append, *row)
            if number is not None:
                await connection.execute(
                    f"INSERT INTO {self._settings.place}.meta VALUES ('needs', $1) "
                    "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    " ".join(meta.needs),
                )
        if number is not None:
            self._meta = meta
        return number

    async def settle(self, commit: Commit) -> bool:
        await self.probe()
        if self._writer is None:
            raise ConnectionError("this log was closed meanwhile")
        head, digest = await self._writer.run(partial(self._found, number=commit.number))
        return is_durable(self.name, commit, head, digest)

    async def _found(self, connection: Connection, number: int) -> tuple[Head, bytes | None]:
        """The head, and the digest of the commit that has a number."""
        digest: bytes | None = await connection.fetchval(
            f"SELECT digest FROM {self._settings.place}.commits WHERE number = $1", number
        )
        return await row_head(connection, self._settings), digest

    async def probe(self) -> None:
        """A new term, on the connection that appends: nothing of the old one comes any more."""
        writer, taken = self._writer, self._taken
        if writer is None or taken is None or self._keeper is None:
            raise RuntimeError("this log is not open for writing: Engine opens it, or call open()")
        since = elapsed()
        self._is_doubtful = False
        term = await writer.run(partial(term_anew, settings=self._settings, holder=taken.holder))
        if self._is_doubtful:
            raise Doubtful("the server did not wait for its synchronous standby")
        if term is None:
            self._keeper.leadership.lose()
            head = await self.head()
            raise Fenced(self.name, head.number + 1, head.number)
        taken.term = term
        self._keeper.kept(since)
        self._reader.tell()  # of a commit whose append failed, and which is there after all

    async def _fenced(self, commit: Commit) -> Exception:
        """What to raise where the rule or the fence has said no; a term that we have ended ourselves is no fence."""
        writer, taken, keeper = self._writer, self._taken, self._keeper
        assert writer is not None
        assert taken is not None
        assert keeper is not None
        head, holder = await writer.run(self._who)
        if holder == taken.holder and head.number == commit.number - 1:
            return Doubtful("the term that it was appended in had ended")
        if holder != taken.holder:
            keeper.leadership.lose()
        return Fenced(self.name, commit.number, head.number)

    async def _who(self, connection: Connection) -> tuple[Head, str | None]:
        head = await row_head(connection, self._settings)
        return head, await connection.fetchval(f"SELECT holder FROM {self._settings.place}.leader")

    async def _prepare(self, connection: Connection) -> None:
        """With each connection that appends: what is acknowledged is durable; a new term, if there was one before."""
        if await connection.fetchval("SHOW synchronous_commit") in ("off", "local"):
            await connection.execute("SET synchronous_commit = on")
        connection.add_log_listener(self._told)
        connection.add_termination_listener(self._cut)
        if self._taken is not None:
            term = await term_anew(connection, self._settings, self._taken.holder)
            if term is not None:
                self._taken.term = term
            elif self._keeper is not None:
                self._keeper.leadership.lose()

    def _cut(self, _: Any) -> None:
        """The connection has ended: by the server, by what lies between, or because it was given up."""
        if self._keeper is not None:
            self._keeper.cut()

    async def _restored(self) -> None:
        if self._writer is not None:
            await self._writer.run(_nothing)

    def _told(self, _: Any, message: Any) -> None:
        """A warning of the server: an append, or a new term, is not on the standby that it was to be on."""
        if str(getattr(message, "message", "")).startswith(_NO_WAIT_ENDED):
            self._is_doubtful = True

    # Reading.

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        return await self._reader.read(after, bytes_max)

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        return self._reader.follow(after, bytes_max)

    def look_now(self) -> None:
        self._reader.look_now()

    async def head(self) -> Head:
        return await self._reader.head()

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        writer, self._writer = self._writer, None
        taken, self._taken = self._taken, None
        if keeper is not None:
            await keeper.close()
        if writer is not None:
            if taken is not None and writer.is_connected:
                with suppress(*ERRORS):  # it ends with the session, too
                    await writer.run(partial(let_go, settings=self._settings, holder=taken.holder))
            await writer.close()
        await self._reader.close()


async def _nothing(connection: Connection) -> None:
    """To have a connection."""


async def _not_waiting(connection: Connection) -> None:
    """For what need not be durable: a lease that is forgotten with the server has run out a little sooner."""
    await connection.execute("SET synchronous_commit = off")
