"""Who writes a log: one row with a lease, which each append names by its term.

Here: taking the lease, keeping it, making sure that nothing of an earlier term comes any more, letting go. Not here:
appending (`log`).

A writer that dies ends its session, which frees the log at once; one that is stopped or cut off loses it when its lease
runs out. Its term is over then, so whatever it has sent, or sends when it wakes up, is refused by the append itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.log_id import new_log_id
from millstream.engine.stores.postgres.connecting import Connection, Session
from millstream.engine.stores.postgres.errors import ERRORS
from millstream.engine.stores.postgres.settings import Settings

__all__ = ["Keeper", "Taken", "is_free", "leader_of", "let_go", "take", "term_anew"]

_GIVEN_UP = "(holder IS NULL OR expires_at < clock_timestamp())"
_FREE = f"""(
    {_GIVEN_UP} OR NOT EXISTS (
        SELECT FROM pg_stat_activity AS a
        WHERE a.pid = leader.pid AND (a.backend_start IS NULL OR a.backend_start = leader.started)
    )
)"""
_MINE = """
    pid = pg_backend_pid(),
    started = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()),
    expires_at = clock_timestamp() + make_interval(secs => $2)
"""
#: Who holds the row's lock for long is a writer whose append waits for something: it is alive.
_LOCK_MS_MAX = 2_000
#: How often the lease is made longer while it lasts, and how soon it is tried again.
_TIMES = 3
_AGAIN_SECONDS = 0.1
#: Followers are notified of appends so often at most.
_TELL_SECONDS = 0.01


class Taken:
    """What taking the lease gave: who holds it now, and by which term."""

    def __init__(self, holder: str, term: int, *, took_over: bool) -> None:
        self.holder = holder
        self.term = term
        self.took_over = took_over


async def take(connection: Connection, settings: Settings, address: str | None) -> Taken | None:
    """Take the lease; None if another writer has it."""
    holder = new_log_id()
    # In no transaction: where its end would wait for a standby, so does the statement, and says so itself.
    await connection.execute(f"SET lock_timeout = {_LOCK_MS_MAX}")
    try:
        row = await connection.fetchrow(
            f"""
            WITH before AS (SELECT holder AS one_before FROM {settings.place}.leader FOR UPDATE)
            UPDATE {settings.place}.leader SET term = term + 1, holder = $1, address = $3, {_MINE}
            FROM before WHERE {_FREE} RETURNING term, one_before
            """,
            holder,
            settings.lease_seconds,
            address,
        )
    finally:
        if not connection.is_closed():
            await connection.execute("RESET lock_timeout")
    return None if row is None else Taken(holder, row["term"], took_over=row["one_before"] is not None)


async def term_anew(connection: Connection, settings: Settings, holder: str) -> int | None:
    """Begin a new term of the same holder, on this connection: nothing of the one before can be appended any more.

    Returns:
        The term; None if another writer has taken over.
    """
    term: int | None = await connection.fetchval(
        f"UPDATE {settings.place}.leader SET term = term + 1, {_MINE} WHERE holder = $1 RETURNING term",
        holder,
        settings.lease_seconds,
    )
    return term


async def is_free(connection: Connection, settings: Settings) -> tuple[bool, bool]:
    """Whether the lease may be taken; and whether it was given up or has run out, not only lost its session."""
    row = await connection.fetchrow(f"SELECT {_FREE} AS free, {_GIVEN_UP} AS given_up FROM {settings.place}.leader")
    return (False, False) if row is None else (bool(row["free"]), bool(row["given_up"]))


async def leader_of(connection: Connection, settings: Settings) -> str | None:
    """The address that the holder gave, who may have gone since."""
    found: str | None = await connection.fetchval(
        f"SELECT address FROM {settings.place}.leader WHERE holder IS NOT NULL"
    )
    return found


async def let_go(connection: Connection, settings: Settings, holder: str) -> None:
    """Give the lease back, if it is still this holder's."""
    await connection.execute(
        f"UPDATE {settings.place}.leader SET holder = NULL, address = NULL, pid = NULL, expires_at = '-infinity' "
        "WHERE holder = $1",
        holder,
    )


class Keeper:
    """Keeps a lease by a connection of its own, and tells those who follow of appends.

    Args:
        settings: of the log.
        session: a connection that nothing waits for: what is done on it need not be durable.
        taken: the lease.
        channel: where those who follow listen.
        address: where the writer is.
        since: before the lease was taken, by `elapsed`.
        restore: makes the connection that appends again, after `cut`: without one the writer looks dead to others.
    """

    def __init__(
        self,
        settings: Settings,
        session: Session,
        taken: Taken,
        channel: str,
        address: str | None,
        since: float,
        restore: Callable[[], Awaitable[object]],
    ) -> None:
        self._settings = settings
        self._session = session
        self._holder = taken.holder
        self._channel = channel
        self._sure_until = since + settings.lease_seconds
        self._restore = restore
        self._woken = asyncio.Event()
        self._has_appended = self._is_cut = False
        #: What opening gives.
        self.leadership = Leadership(address, took_over=taken.took_over, is_sure=self._is_sure)
        self._task = asyncio.create_task(self._run(), name="millstream-lease")

    def kept(self, since: float) -> None:
        """The lease was made longer by something else that began then."""
        self._sure_until = max(self._sure_until, since + self._settings.lease_seconds)

    def tell(self) -> None:
        """Something was appended."""
        self._has_appended = True
        self._woken.set()

    def cut(self) -> None:
        """The connection that appends is gone."""
        self._is_cut = True
        self._woken.set()

    def _is_sure(self) -> bool:
        """Without its connection the writer looks dead to others, who need not wait for the lease to run out."""
        return not self._is_cut and elapsed() < self._sure_until

    async def close(self) -> None:
        """Let the lease run out."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._session.close()

    async def _run(self) -> None:
        every = self._settings.lease_seconds / _TIMES
        due = elapsed() + every
        with suppress(*ERRORS):  # now, as the first append would wait for it: 5 ms, and 100 beside other work
            await self._session.run(_nothing)
        while not self.leadership.is_lost:
            with anyio.move_on_after(max(0.0, due - elapsed())):
                await self._woken.wait()
            self._woken.clear()
            try:
                if self._is_cut:
                    with anyio.fail_after(every):
                        await self._restore()
                    self._is_cut = False
                if self._has_appended:
                    await self._tell()
                    await anyio.sleep(_TELL_SECONDS)
                if elapsed() >= due:
                    since = elapsed()
                    if not await self._session.run(self._renew):
                        self.leadership.lose()
                        return
                    self.kept(since)
                    due = since + every
            except ERRORS:
                due = elapsed() + _AGAIN_SECONDS  # while it can't be reached the lease runs out
                with suppress(TimeoutError):
                    await anyio.sleep(_AGAIN_SECONDS)

    async def _tell(self) -> None:
        self._has_appended = False
        try:
            await self._session.run(self._notify)
        except BaseException:
            self._has_appended = True  # followers do not know of it
            raise

    async def _notify(self, connection: Connection) -> None:
        await connection.execute("SELECT pg_notify($1, '')", self._channel)

    async def _renew(self, connection: Connection) -> Any:
        return await connection.fetchval(
            f"UPDATE {self._settings.place}.leader SET expires_at = clock_timestamp() + make_interval(secs => $2) "
            "WHERE holder = $1 RETURNING term",
            self._holder,
            self._settings.lease_seconds,
        )


async def _nothing(connection: Connection) -> None:
    """To have a connection."""
