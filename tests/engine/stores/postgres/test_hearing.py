"""How a follower hears of appends by another process's writer: by notification, so nobody here looks by a timer."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial

import anyio
import pytest

from millstream.engine.commits.commit import Commit
from millstream.engine.stores.postgres import following
from millstream.engine.stores.postgres.connecting import Connection
from millstream.engine.stores.postgres.leading import Keeper
from millstream.engine.stores.postgres.log import PostgresLog
from millstream.engine.testing.stores.written import APP, commits
from tests.postgres import new_address, sql
from tests.support import until

pytestmark = pytest.mark.anyio

_READ_BYTES = 1024 * 1024


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a log at whose end nobody looks again within a test, and whose lease is renewed after one."""
    monkeypatch.setattr(following, "_LISTENING_SECONDS", 1_000)
    monkeypatch.setattr(following, "_POLLING_SECONDS", 1_000)
    return new_address(lease_seconds="600", application_name=f"hearing-{secrets.token_hex(4)}")


@pytest.fixture
async def writer(address: str) -> AsyncIterator[PostgresLog]:
    log = PostgresLog(address)
    await log.open(APP)
    yield log
    await log.close()


@pytest.fixture
async def follower(address: str, writer: PostgresLog) -> AsyncIterator[PostgresLog]:
    log = PostgresLog(address)
    await log.attach()
    yield log
    await log.close()


async def appended_when_it_waits(writer: PostgresLog, follower: PostgresLog, made: Sequence[Commit]) -> list[int]:
    """Append each commit once the follower waits at the end; the numbers that it got."""
    got: list[int] = []

    async def follow() -> None:
        async with aclosing(follower.follow(made[0].number - 1, _READ_BYTES)) as pages:
            async for page in pages:
                got.extend(commit.number for commit in page)
                if got[-1] == made[-1].number:
                    return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            for commit in made:
                await until(lambda: bool(follower._reader._ear._turns))
                await writer.append(commit)
                await until(partial(got.__contains__, commit.number))
    return got


async def test_each_append_is_heard(writer: PostgresLog, follower: PostgresLog) -> None:
    assert await appended_when_it_waits(writer, follower, commits(5)) == [1, 2, 3, 4, 5]


async def test_a_follower_whose_connection_was_cut_hears_by_the_next_one(
    writer: PostgresLog, follower: PostgresLog
) -> None:
    made = commits(4)
    assert await appended_when_it_waits(writer, follower, made[:2]) == [1, 2]
    session = follower._reader._session
    assert session is not None
    session.drop()
    await follower.head()
    assert await appended_when_it_waits(writer, follower, made[2:]) == [3, 4]


async def test_an_append_is_told_of_again_if_it_could_not_be_told(
    writer: PostgresLog, follower: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify, failures = Keeper._notify, ["once"]

    async def fail_once(self: Keeper, connection: Connection) -> None:
        if failures:
            connection.terminate()
            raise ConnectionError(failures.pop())
        await notify(self, connection)

    monkeypatch.setattr(Keeper, "_notify", fail_once)
    assert await appended_when_it_waits(writer, follower, commits(2)) == [1, 2]
    assert not failures


async def test_the_connection_that_tells_is_there_before_there_is_anything_to_tell(
    address: str, writer: PostgresLog
) -> None:
    name = address.partition("application_name=")[2]

    def sessions() -> int:
        [(count,)] = sql(address, f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'")
        return int(count)

    await until(lambda: sessions() == 3)
    assert sessions() == 3
