from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from millstream.engine import CommitFailed, LogCorrupt, LogLocked, LogRefused, SqliteLog
from millstream.engine.commits.commit import FORMAT
from millstream.engine.stores.port import Log
from millstream.engine.stores.sqlite.appending import settle_promise
from millstream.engine.testing.stores.log_conformance import LogConformance
from millstream.engine.testing.stores.written import APP, READ_BYTES, commits, read_all

pytestmark = pytest.mark.anyio


class TestSqliteLog(LogConformance):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log.db"

    def make(self) -> SqliteLog:
        return SqliteLog(self.path)

    def break_lock(self) -> None:
        Path(f"{self.path}-lock").unlink()

    async def bound(self, log: Log) -> int:
        """As SQLite refuses rows of a thousand million bytes."""
        assert isinstance(log, SqliteLog)
        assert log._writer is not None
        lower = lambda connection: connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 71_000)  # noqa: E731
        lowered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        log._writer.launch(lower, partial(settle_promise, lowered), alone=False)
        await lowered
        return 70_000

    def traces(self) -> object:
        """The shared index is not looked into: whoever reads notes there how far, and it is made anew after a crash."""
        found = {path.name: path.stat() for path in self.path.parent.iterdir()}
        return {name: (stat.st_size, stat.st_mtime_ns * (not name.endswith("-shm"))) for name, stat in found.items()}


async def written(path: Path, count: int = 3) -> None:
    log = SqliteLog(path)
    await log.open(APP)
    for commit in commits(count):
        await log.append(commit)
    await log.close()


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


async def opened(path: Path) -> None:
    log = SqliteLog(path)
    try:
        await log.open(APP)
        await read_all(log)
        await log.head()
    finally:
        await log.close()


async def attached(path: Path) -> None:
    log = SqliteLog(path)
    try:
        await log.attach()
        await read_all(log)
        await log.head()
    finally:
        await log.close()


async def test_a_commit_is_synced_in_wal_mode_before_append_returns(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    assert log._writer is not None
    assert [tuple(row) for row in await log._writer.rows("PRAGMA synchronous")] == [(2,)]  # FULL
    assert [tuple(row) for row in await log._writer.rows("PRAGMA journal_mode")] == [("wal",)]
    await log.close()


async def test_the_events_view_lists_events_for_people_with_nothing_but_sqlite(tmp_path: Path) -> None:
    await written(tmp_path / "log.db", 2)
    db = sqlite3.connect(tmp_path / "log.db")
    rows = db.execute("SELECT position, number, recorded_at, type, key, data, command_id FROM events").fetchall()
    db.close()
    data = r'{"type":"Done","key":"k","text":"ä \\u0000 \" € 𝄞"}'
    assert rows == [
        (1, 1, "2026-01-01T00:00:00.000000Z", "Done", "k", data, None),
        (2, 1, "2026-01-01T00:00:00.000000Z", "Done", "k", data, None),
        (3, 2, "2026-01-01T00:00:00.000001Z", "Done", "k", data, None),
        (4, 2, "2026-01-01T00:00:00.000001Z", "Done", "k", data, None),
    ]


async def test_other_programs_may_read_the_log_while_it_is_open(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    await log.append(commits(1)[0])
    db = sqlite3.connect(tmp_path / "log.db", timeout=0)
    assert db.execute("SELECT count(*) FROM events").fetchone() == (2,)
    await log.append(commits(2)[1])
    db.close()
    await log.close()


async def test_a_writer_in_another_process_is_locked_out_until_that_process_ends(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from millstream.engine import SqliteLog\n"
        "async def main():\n"
        "    await SqliteLog(sys.argv[1]).open('conformance')\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(LogLocked, match="is open in another writer"):
            await opened(tmp_path / "log.db")
        child.kill()
    await opened(tmp_path / "log.db")


async def test_a_writer_that_knows_the_file_by_another_name_is_locked_out(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "log.db")
    await log.open(APP)
    with pytest.raises(LogLocked, match=r"link\.db is open in another writer"):
        await opened(tmp_path / "link.db")
    await log.close()


def make_text(path: Path) -> None:
    path.write_text("these are my notes, not a database" * 100)


def make_foreign(path: Path) -> None:
    change(path, "CREATE TABLE notes (text)")


def make_newer(path: Path) -> None:
    change(path, f"PRAGMA user_version={FORMAT + 1}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_text, r"it is not a database; name another file"),
        (make_foreign, r"it is a database of something else; name another file"),
    ],
)
async def test_a_file_that_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "log.db")
    before = (tmp_path / "log.db").read_bytes()
    with pytest.raises(LogRefused, match=message):
        await opened(tmp_path / "log.db")
    assert (tmp_path / "log.db").read_bytes() == before


async def test_attaching_refuses_what_is_no_log_of_ours_and_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    cases: list[tuple[Callable[[Path], None], str]] = [
        (make_text, "it is not a database; name another file"),
        (make_foreign, "it is a database of something else; name another file"),
        (Path.mkdir, "SQLite can't open it: disk I/O error; see that file and folder can be written"),
    ]
    for make, message in cases:
        make(path)
        with pytest.raises(LogRefused, match=message):
            await attached(path)
        assert [file.name for file in tmp_path.iterdir()] == ["log.db"]
        path.rmdir() if path.is_dir() else path.unlink()
    for missing in (path, tmp_path / "nowhere" / "log.db"):
        with pytest.raises(LogRefused, match=r"it is not there: .*; name a log that is there"):
            await attached(missing)
    await written(path)
    make_newer(path)
    with pytest.raises(LogRefused, match=r"it has format 3, this millstream reads up to 2; update millstream"):
        await attached(path)


async def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    await written(tmp_path / "log.db")
    make_newer(tmp_path / "log.db")
    with pytest.raises(LogRefused, match=r"it has format 3, this millstream reads up to 2; update millstream"):
        await opened(tmp_path / "log.db")


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogRefused, match=r"there is no folder .*nowhere.*; make the folder first"):
        await opened(tmp_path / "nowhere" / "log.db")


async def test_a_torn_page_is_refused_and_the_first_unreadable_commit_named(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    await log.open(APP)
    for commit in commits(200, events=20):
        await log.append(commit)
    await log.close()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(LogCorrupt) as raised:
        await opened(path)
    assert 1 < raised.value.commit < 200
    assert f"damaged at commit {raised.value.commit}" in str(raised.value)


async def test_a_file_that_lost_its_application_name_is_refused(tmp_path: Path) -> None:
    await written(tmp_path / "log.db")
    change(tmp_path / "log.db", "DELETE FROM meta WHERE name = 'application'")
    with pytest.raises(LogCorrupt, match="names no application"):
        await opened(tmp_path / "log.db")


@pytest.mark.parametrize(
    ("statement", "commit", "problem"),
    [
        ("UPDATE commits SET digest = 'text' WHERE number = 2", 2, "values of other types: int, int, str, bytes, str"),
        ("UPDATE commits SET position = 2.5 WHERE number = 3", 3, "values of other types: int, float, str, bytes, byt"),
        ("UPDATE commits SET recorded_at = x'00' WHERE number = 1", 1, "other types: int, int, bytes, bytes, bytes"),
        ("UPDATE commits SET recorded_at = CAST(x'ff' AS TEXT) WHERE number = 2", 2, "Could not decode to UTF-8"),
        ("UPDATE commits SET body = '[{\"events\":7}]' WHERE number = 3", 3, "its body is not that of a commit"),
        ("DELETE FROM commits WHERE number = 2", 2, "commit 3 stands where 2 should"),
        ("UPDATE commits SET number = 9 WHERE number = 3", 3, "commit 9 stands where 3 should"),
        ("UPDATE meta SET value = x'00' WHERE name = 'application'", 1, "its meta table names no application"),
        ("DROP VIEW events", 4, "what its schema says of 'events' is not what millstream made"),
        ("DROP TABLE commits", 1, "what its schema says of 'commits' is not what millstream made"),
        ("DROP TABLE meta", 4, "what its schema says of 'meta' is not what millstream made"),
    ],
)
async def test_a_row_that_is_no_commit_is_named(tmp_path: Path, statement: str, commit: int, problem: str) -> None:
    await written(tmp_path / "log.db")
    change(tmp_path / "log.db", statement)
    for find in (opened, attached):
        with pytest.raises(LogCorrupt, match=problem) as raised:
            await find(tmp_path / "log.db")
        assert raised.value.commit == commit


async def test_a_handle_that_is_opened_again_has_the_files_that_are_there_now(tmp_path: Path) -> None:
    path, log = tmp_path / "log.db", SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    await log.append(commits(1)[0])
    await log.close()
    path.unlink()
    await written(path, 2)
    assert await log.attach() == APP
    assert await read_all(log) == commits(2)
    await log.close()
    await log.open(APP)
    await log.append(commits(3)[2])
    assert await read_all(log) == commits(3)
    await log.close()


async def test_a_full_store_refuses_the_commit_and_takes_it_when_there_is_room(tmp_path: Path) -> None:
    log, (first, second) = SqliteLog(tmp_path / "log.db"), commits(2, events=500)
    await log.open(APP)
    await log.append(first)
    assert log._writer is not None
    await log._writer.rows("PRAGMA max_page_count=1")  # the file as it is, and no page more
    with pytest.raises(CommitFailed, match="full"):
        await log.append(second)
    assert await read_all(log) == [first]
    await log._writer.rows("PRAGMA max_page_count=1000000")
    await log.append(second)
    assert await read_all(log) == [first, second]
    await log.close()


async def test_a_copy_of_the_files_taken_while_open_holds_what_was_acknowledged(tmp_path: Path) -> None:
    log, three = SqliteLog(tmp_path / "log.db"), commits(3)
    await log.open(APP)
    for commit in three:
        await log.append(commit)
    (tmp_path / "image").mkdir()
    for name in ("log.db", "log.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / "image" / name)
    await log.close()
    image = SqliteLog(tmp_path / "image" / "log.db")
    await image.open(APP)
    assert list(await image.read(0, READ_BYTES)) == three
    await image.close()
