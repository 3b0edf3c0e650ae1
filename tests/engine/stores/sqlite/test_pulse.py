from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import LogRefused, SqliteLog
from millstream.engine.commits.commit import Commit
from millstream.engine.stores.sqlite.reading import SqliteReader
from millstream.engine.testing.stores.written import APP, READ_BYTES, append_all, commits, read_all, take
from tests.engine.stores.sqlite import children
from tests.engine.stores.sqlite.children import child

pytestmark = pytest.mark.anyio
#: For what happens in a process of its own, whatever loop waits for it here.
once = pytest.mark.parametrize("anyio_backend", ["asyncio"])

PULSE = "millstream.engine.stores.sqlite.pulse.LOOK_SECONDS"


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    """A handle to the log, to be attached."""
    log = SqliteLog(tmp_path / "log.db")
    yield log
    await log.close()


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    """A handle to the same log, open, beside which the other one reads."""
    log = SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    yield log
    await log.close()


async def written(path: Path, made: list[Commit]) -> None:
    log = SqliteLog(path)
    await log.open(APP)
    await append_all(log, made)
    await log.close()


async def let_look() -> None:
    """Let the loop's timers run, which are due at once here, some dozens of times."""
    for _ in range(100):
        await anyio.lowlevel.checkpoint()


async def test_what_another_process_commits_comes_in_order_also_when_that_is_killed_and_another_one_goes_on(
    tmp_path: Path, reader: SqliteLog
) -> None:
    expected = commits(30)
    await written(tmp_path / "log.db", expected[:2])
    await reader.attach()
    async with aclosing(reader.follow(0, READ_BYTES)) as pages:
        assert await take(pages, 2) == expected[:2]
        count = 2
        for killed in (True, False, True, True, False):
            with child(children.write_on, tmp_path) as process:
                assert process.said() == count
                for _ in range(3):
                    process.go_on()
                    count += 1
                    assert process.said() == count
                    assert [commit.number for commit in await take(pages, 1)] == [count]
                process.go_on()
                assert process.said() == count + 1
                count += 1
                if killed:
                    process.kill()
                else:
                    process.end()
            assert [commit.number for commit in await take(pages, 1)] == [count]
        assert [commit.number for commit in await read_all(reader)] == list(range(1, 23))


@once
async def test_who_attached_to_what_a_killed_writer_left_follows_on_from_there(
    tmp_path: Path, reader: SqliteLog
) -> None:
    with child(children.write_on, tmp_path) as process:
        process.said()
        process.go_on()
        assert process.said() == 1
        process.kill()
    await reader.attach()
    async with aclosing(reader.follow(0, READ_BYTES)) as pages:
        assert await take(pages, 1) == commits(1)
        with child(children.write_on, tmp_path) as process:
            assert process.said() == 1
            process.go_on()
            assert process.said() == 2
            assert [commit.number for commit in await take(pages, 1)] == [2]


@once
async def test_what_a_crash_may_have_left_unsynced_is_synced_before_it_is_shown(
    tmp_path: Path, reader: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(children.crash, tmp_path) as process:
        assert process.said() == "written"
        process.kill()
    (tmp_path / "log.db-shm").unlink()  # the index is made anew from all that is whole in the -wal
    synced: list[int] = []
    sync = os.fsync

    def noted(file: int) -> None:
        sync(file)
        synced.append(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    await reader.attach()
    assert synced == [(tmp_path / "log.db-wal").stat().st_ino]
    assert await read_all(reader) == children.CRASHED


async def test_whoever_followed_a_file_is_told_when_another_one_is_in_its_place(
    tmp_path: Path, reader: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PULSE, 0.0)
    path = tmp_path / "log.db"
    await written(path, commits(2))
    await written(tmp_path / "other.db", commits(5))
    await reader.attach()
    async with aclosing(reader.follow(2, READ_BYTES)) as pages:
        waiting = asyncio.create_task(take(pages, 1))
        while not reader._reader._pulse._waiting:
            await anyio.lowlevel.checkpoint()
        (tmp_path / "other.db").replace(path)
        with pytest.raises(LogRefused, match=r"log\.db was replaced while it was followed; put that file back, or clo"):
            await waiting
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
    async with aclosing(reader.follow(2, READ_BYTES)) as pages:
        assert await take(pages, 3) == commits(5)[2:]


async def test_whoever_followed_beside_a_writer_is_told_when_the_file_is_lost(
    tmp_path: Path, reader: SqliteLog, writer: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PULSE, 0.0)
    await writer.append(commits(1)[0])
    await reader.attach()
    for name in ("log.db", "log.db-wal"):
        async with aclosing(reader.follow(0, READ_BYTES)) as pages:
            assert await take(pages, 1) == commits(1)
            waiting = asyncio.create_task(take(pages, 1))
            while not reader._reader._pulse._waiting:
                await anyio.lowlevel.checkpoint()
            (tmp_path / name).rename(tmp_path / "elsewhere")
            with pytest.raises(LogRefused, match=rf"{name} was deleted, moved or replaced while it was open"):
                await waiting
            (tmp_path / "elsewhere").rename(tmp_path / name)


async def test_a_log_is_followed_by_the_name_of_a_link_to_it(tmp_path: Path, writer: SqliteLog) -> None:
    expected = commits(4)
    link = SqliteLog(tmp_path / "linked" / "link.db")
    await append_all(writer, expected[:2])
    link.path.parent.mkdir()
    link.path.symlink_to(tmp_path / "log.db")
    await link.attach()
    async with aclosing(link.follow(0, READ_BYTES)) as pages:
        assert await take(pages, 2) == expected[:2]
        await append_all(writer, expected[2:])
        assert await take(pages, 2) == expected[2:]
    assert await read_all(link) == expected
    await link.close()


async def test_nothing_is_read_while_nothing_is_written_and_nothing_looked_at_while_nobody_follows(
    reader: SqliteLog, writer: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PULSE, 0.0)
    counts = {"looks": 0, "reads": 0}
    look, read = SqliteReader._state, SqliteReader.read

    def counted_look(self: SqliteReader) -> object:
        counts["looks"] += 1
        return look(self)

    async def counted_read(self: SqliteReader, after: int, bytes_max: int) -> object:
        page = await read(self, after, bytes_max)
        counts["reads"] += 1
        return page

    monkeypatch.setattr(SqliteReader, "_state", counted_look)
    monkeypatch.setattr(SqliteReader, "read", counted_read)
    expected = commits(2)
    await writer.append(expected[0])
    await reader.attach()
    pages = [reader.follow(1, READ_BYTES) for _ in range(10)]
    waiting = [asyncio.create_task(take(each, 1)) for each in pages]
    while counts["looks"] < 100 or counts["reads"] < 10:
        await anyio.lowlevel.checkpoint()
    await let_look()
    before = counts["looks"]
    await let_look()
    assert 0 < counts["looks"] - before <= 101  # one look for all ten
    assert counts["reads"] == 10
    await writer.append(expected[1])
    for task in waiting:
        assert await task == expected[1:]
    for each in pages:
        await each.aclose()
    before = counts["looks"]
    await let_look()
    assert counts == {"looks": before, "reads": 20}


async def test_a_look_that_fails_is_looked_into_by_a_read(
    reader: SqliteLog, writer: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: sqlite3.Connection) -> object:
        raise sqlite3.OperationalError("database is locked")

    await reader.attach()
    monkeypatch.setattr("millstream.engine.stores.sqlite.reading.version_of", broken)
    async with aclosing(reader.follow(0, READ_BYTES)) as pages:
        waiting = asyncio.create_task(take(pages, 1))
        await let_look()
        await writer.append(commits(1)[0])
        assert await waiting == commits(1)


async def test_following_beside_a_writer_leaves_no_trace(tmp_path: Path, reader: SqliteLog) -> None:
    await written(tmp_path / "log.db", commits(2))
    before = {path.name: path.stat() for path in tmp_path.iterdir()}
    await reader.attach()
    async with aclosing(reader.follow(0, READ_BYTES)) as pages:
        assert await take(pages, 2) == commits(2)
        waiting = asyncio.create_task(take(pages, 1))
        await let_look()
        waiting.cancel()
        await asyncio.wait([waiting])
    await reader.close()
    after = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert {name: stat.st_mtime_ns for name, stat in after.items()} == {
        n: stat.st_mtime_ns for n, stat in before.items()
    }
