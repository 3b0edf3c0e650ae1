"""The store's real failures: each is provoked for real, the commit that failed is absent, and appending goes on after.

No fakes here. What can't be done to the process of the tests is done to a child's (`children`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import CommitFailed, Engine, LogCorrupt, LogRefused, SqliteLog, WriterUnavailable
from millstream.engine.commits.commit import Commit
from millstream.engine.testing.stores.written import APP, append_all, commits, head_of, read_all
from tests.engine.stores.sqlite import children
from tests.engine.stores.sqlite.children import child, in_own_mounts
from tests.shop import Add, StockOf, shop
from tests.support import settled

pytestmark = pytest.mark.anyio
#: For what happens in a process of its own, whatever loop waits for it here.
once = pytest.mark.parametrize("anyio_backend", ["asyncio"])


_handles: list[SqliteLog] = []


@pytest.fixture(autouse=True)
async def _close_all() -> AsyncIterator[None]:
    """Whatever a test leaves open is closed: a failed test must not keep a store's thread alive."""
    yield
    while _handles:
        await _handles.pop().close()


def handle(path: Path, *, busy_seconds_max: float = 5.0) -> SqliteLog:
    _handles.append(SqliteLog(path, busy_seconds_max=busy_seconds_max))
    return _handles[-1]


async def opened(path: Path, written: Sequence[Commit]) -> SqliteLog:
    log = handle(path)
    await log.open(APP)
    await append_all(log, written)
    return log


def image(folder: Path, target: Path) -> Path:
    """A copy of the database and its -wal, as a crash would leave them."""
    target.mkdir()
    for name in ("log.db", "log.db-wal"):
        shutil.copy(folder / name, target / name)
    return target / "log.db"


async def read_image(path: Path) -> list[Commit]:
    log = handle(path)
    await log.open(APP)
    found = await read_all(log)
    await log.close()
    return found


def failing(path: Path, call: str) -> list[str]:
    """The wrapper of a child some of whose system calls on a file fail, in the kernel, and did what they do or not."""
    if shutil.which("strace") is None or os.system("strace -o /dev/null true 2>/dev/null"):
        pytest.skip("needs a system call that fails: there is no program 'strace', or it may not trace here")
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(path), "-e", f"inject={call}"]


# No room.


@once
async def test_a_full_disk_is_named_to_the_writer_and_no_matter_to_those_who_only_read(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with child(children.full_attached, disk, wrapper=in_own_mounts(disk, 2 * children.DISK_BYTES)) as process:
        for _ in range(2):
            assert process.said() == [True, True]
            kind, _, text = process.said()
            assert kind == "LogRefused"
            assert "is refused: the disk is full" in text
            assert text.endswith("; make room, or attach to read it, which takes none")
        assert process.said() == 1
        process.end()


@once
async def test_a_file_that_may_not_grow_refuses_the_commit_and_takes_it_later(tmp_path: Path) -> None:
    with child(children.file_limit, tmp_path) as process:
        for _ in range(2):
            failure, head, numbers = process.said()
            assert failure[:2] == ["CommitFailed", "SQLITE_IOERR_WRITE"]
            assert "commit 4 was not written: disk I/O error" in failure[2]
            assert (head, numbers) == (3, [1, 2, 3])
        assert len(await read_image(image(tmp_path, tmp_path / "image"))) == 3
        process.go_on()
        assert process.said() == [1, 2, 3, 4]
    assert len(await read_image(tmp_path / "log.db")) == 4


@once
async def test_a_full_file_system_refuses_the_commit_and_takes_it_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with child(children.full_disk, disk, wrapper=in_own_mounts(disk, children.DISK_BYTES)) as process:
        failure, same_head, same_commits = process.said()
        assert failure[:2] == ["CommitFailed", "SQLITE_FULL"]
        assert "was not written: database or disk is full; nothing of it happened" in failure[2]
        assert (same_head, same_commits) == (True, True)
        assert process.said()[:2] == ["CommitFailed", "SQLITE_FULL"]
        assert process.said() is True  # with the commit that failed
        assert process.said() is True  # opened again


@once
async def test_a_log_that_crashed_opens_on_a_full_file_system(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with child(children.full_reopened, disk, wrapper=in_own_mounts(disk, 3_000_000)) as process:
        assert process.said() == [True, True]  # all is read, and nothing was thrown away
        assert process.said()[:2] == ["CommitFailed", "SQLITE_FULL"]
        assert process.said() is True


@once
async def test_a_commit_whose_index_could_not_grow_is_in_doubt_until_a_probe_is_written_over_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with child(children.full_index, disk, wrapper=in_own_mounts(disk, 24_000_000)) as process:
        failure, same_head = process.said()
        assert failure[:2] == ["OperationalError", "SQLITE_IOERR_SHMSIZE"]
        assert same_head
        assert process.said() == 1  # a crash would have brought it back, although the head did not show it
        assert process.said() == [0, True]  # not any more
        assert process.said() is True  # appended when there was room


@once
async def test_a_commit_whose_sync_failed_is_in_doubt_until_a_probe_is_written_over_it(tmp_path: Path) -> None:
    # The syncs of the -wal: its header, then a commit each.
    wrapper = failing(tmp_path / "log.db-wal", "fdatasync:error=EIO:when=5")
    with child(children.failed_sync, tmp_path, wrapper=wrapper) as process:
        assert process.said() == "ready"
        process.go_on()
        failure, head = process.said()
        assert failure[:2] == ["OperationalError", "SQLITE_IOERR_FSYNC"]
        assert head == 3
        assert len(await read_image(image(tmp_path, tmp_path / "failed"))) == 4  # what a crash would bring back
        process.go_on()
        assert process.said() == 3
        assert len(await read_image(image(tmp_path, tmp_path / "probed"))) == 3
        process.go_on()
        assert process.said() == [1, 2, 3, 4]


@once
@pytest.mark.parametrize("program", [children.failed_read, children.failed_head])
async def test_a_read_that_fails_for_now_is_no_damage_and_succeeds_later(
    tmp_path: Path, program: Callable[[Path], object]
) -> None:
    with child(program, tmp_path, wrapper=failing(tmp_path / "log.db-wal", "pread64:error=EIO:when=1..2")) as process:
        assert process.said() == [
            "OSError",
            "SQLITE_CORRUPT",
            f"log {tmp_path}/log.db can't be read now: database disk image is malformed",
        ]
        assert process.said() == [1, 2, 3]


@once
async def test_a_read_that_goes_on_failing_is_damage(tmp_path: Path) -> None:
    wrapper = failing(tmp_path / "log.db-wal", "pread64:error=EIO:when=1+")
    with child(children.failed_read, tmp_path, wrapper=wrapper) as process:
        failure = process.said()
        assert failure[0] == "LogCorrupt"
        assert "is damaged at commit 1: database disk image is malformed" in failure[2]


# Who may not write, who is in the way.


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users can get at, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o755)
    shutil.rmtree(folder)


@once
async def test_files_and_folders_that_are_read_only_are_refused_to_a_writer_and_can_be_attached_to(
    shared_folder: Path,
) -> None:
    refusals = {
        "file": "it can't be written; make the file, and its -wal if there is one, writable; or attach to read it",
        "wal": "it can't be written: attempt to write a readonly database; make the file, and its -wal",
        "folder": "its lock can't be made: Permission denied; the folder must be writable",
    }
    for name in refusals:
        (shared_folder / name).mkdir()
        log = await opened(shared_folder / name / "log.db", commits(3))
        if name == "wal":
            image(shared_folder / name, shared_folder / "copy")
        await log.close()
        (shared_folder / name / "log.db-lock").unlink()
        (shared_folder / name / "log.db").chmod(0o666)
        (shared_folder / name).chmod(0o777)
    (shared_folder / "file" / "log.db").chmod(0o444)
    (shared_folder / "copy" / "log.db-wal").rename(shared_folder / "wal" / "log.db-wal").chmod(0o444)
    (shared_folder / "copy" / "log.db").replace(shared_folder / "wal" / "log.db").chmod(0o666)
    (shared_folder / "folder").chmod(0o555)
    with child(children.forbidden, shared_folder) as process:
        for refusal in refusals.values():
            failure = process.said()
            assert failure[0] == "LogRefused"
            assert refusal in failure[2]
            assert process.said() == ["conformance", [1, 2, 3]]
    (shared_folder / "file" / "log.db").chmod(0o644)
    assert await read_image(shared_folder / "file" / "log.db") == commits(3)


@once
async def test_a_commit_waits_for_another_programs_lock_no_longer_than_it_was_told_and_goes_on_after(
    tmp_path: Path,
) -> None:
    written = commits(3)
    log = handle(tmp_path / "log.db", busy_seconds_max=0.05)
    await log.open(APP)
    await append_all(log, written[:2])
    with child(children.lock, tmp_path) as process:
        assert process.said() == "locked"
        told = pytest.raises(CommitFailed, match="commit 3 was not written: database is locked; nothing of it happened")
        with anyio.fail_after(4), told:
            await log.append(written[2])
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await log.probe()
        assert await read_all(log) == written[:2]
        assert await log.head() == head_of(written[1])
        process.go_on()
        assert process.said() == "free"
        await log.probe()
        await log.append(written[2])
    assert await read_all(log) == written
    await log.close()


@once
async def test_a_log_opens_while_another_program_has_it_locked(tmp_path: Path) -> None:
    written = commits(2)
    await (await opened(tmp_path / "log.db", written[:1])).close()
    with child(children.lock, tmp_path) as process:
        assert process.said() == "locked"
        log = handle(tmp_path / "log.db", busy_seconds_max=0.05)
        await log.open(APP)
        assert await read_all(log) == written[:1]
        process.go_on()
        assert process.said() == "free"
        await log.append(written[1])
        await log.close()


# Files that are gone.


def move(path: Path) -> Callable[[], object]:
    path.rename(f"{path}-elsewhere")
    return lambda: Path(f"{path}-elsewhere").rename(path)


def replace(path: Path) -> Callable[[], object]:
    back = move(path)
    path.write_bytes(Path(f"{path}-elsewhere").read_bytes())
    return back


def delete(path: Path) -> Callable[[], object]:
    os.link(path, f"{path}-kept")  # so that this test can put the very file back
    path.unlink()
    return lambda: Path(f"{path}-kept").rename(path)


@pytest.mark.parametrize(
    ("name", "lose"),
    [("", move), *((name, lose) for name in ("log.db", "log.db-wal") for lose in (move, replace, delete))],
)
async def test_nothing_is_committed_to_a_file_that_is_not_there_any_more(
    tmp_path: Path, name: str, lose: Callable[[Path], Callable[[], object]]
) -> None:
    folder, written = tmp_path / "folder", commits(4)
    folder.mkdir()
    log = await opened(folder / "log.db", written[:2])
    put_back = lose(folder / name)
    lost = folder / (name or "log.db")
    for _ in range(2):
        with pytest.raises(CommitFailed) as raised:
            await log.append(written[2])
        assert raised.value.commit == 3
        assert raised.value.problem == (
            f"{lost} was deleted, moved or replaced while it was open: "
            "put that file back, or close the log and open what is there now"
        )
    for asked in (log.probe, log.head):
        with pytest.raises(LogRefused, match=r"was deleted, moved or replaced while it was open; put that file back"):
            await asked()
    assert await read_all(log) == written[:2]
    put_back()
    assert await log.head() == head_of(written[1])
    await log.probe()
    await append_all(log, written[2:])
    assert await read_all(log) == written
    await log.close()
    assert await read_image(folder / "log.db") == written


async def test_a_file_that_is_lost_long_after_opening_is_missed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("millstream.engine.stores.sqlite.files.elapsed", lambda: now)
    written = commits(20)
    log = await opened(tmp_path / "log.db", written[:2])
    now = 1_000.0
    await append_all(log, written[2:4])
    (tmp_path / "log.db-wal").rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(CommitFailed, match=r"log\.db-wal was deleted, moved or replaced"):
            await log.append(written[4])
        now += 1_000.0
    (tmp_path / "elsewhere").rename(tmp_path / "log.db-wal")
    await append_all(log, written[4:])
    await log.close()


async def test_a_file_that_is_lost_in_the_same_tick_of_the_clock_as_another_change_is_missed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.engine.stores.sqlite.files.elapsed", lambda: 7.0)
    written = commits(3)
    log = await opened(tmp_path / "log.db", written[:1])
    (tmp_path / "another").touch()
    await log.append(written[1])
    times = tmp_path.stat()
    (tmp_path / "log.db").rename(tmp_path / "elsewhere")
    os.utime(tmp_path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a file system with a slow clock has it
    with pytest.raises(CommitFailed, match=r"log\.db was deleted, moved or replaced"):
        await log.append(written[2])
    (tmp_path / "elsewhere").rename(tmp_path / "log.db")
    await log.append(written[2])
    await log.close()


async def test_closing_a_log_whose_wal_was_deleted_saves_what_that_held(tmp_path: Path) -> None:
    written = commits(4)
    log = await opened(tmp_path / "log.db", written[:3])
    (tmp_path / "log.db-wal").unlink()
    with pytest.raises(CommitFailed, match=r"log\.db-wal was deleted"):
        await log.append(written[3])
    await log.close()
    assert await read_image(tmp_path / "log.db") == written[:3]


async def test_a_log_behind_a_symbolic_link_is_watched_where_it_is(tmp_path: Path) -> None:
    written = commits(3)
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "log.db")
    log = await opened(tmp_path / "link.db", written[:1])
    await log.append(written[1])
    put_back = move(tmp_path / "real" / "log.db")
    with pytest.raises(CommitFailed, match=r"real/log\.db was deleted, moved or replaced"):
        await log.append(written[2])
    put_back()
    await log.append(written[2])
    await log.close()


async def test_who_attached_beside_a_writer_is_told_when_the_file_is_replaced(tmp_path: Path) -> None:
    log, reader = await opened(tmp_path / "log.db", commits(2)), handle(tmp_path / "log.db")
    await reader.attach()
    put_back = move(tmp_path / "log.db")
    with pytest.raises(LogRefused, match="was deleted, moved or replaced"):
        await reader.read(0, 1000)
    put_back()
    assert len(await read_all(reader)) == 2
    await reader.close()
    await log.close()


async def test_who_attached_while_nobody_wrote_reads_the_file_that_took_its_place(tmp_path: Path) -> None:
    reader = handle(tmp_path / "log.db")
    await (await opened(tmp_path / "log.db", commits(2))).close()
    await (await opened(tmp_path / "other.db", commits(5))).close()
    await reader.attach()
    assert len(await read_all(reader)) == 2
    (tmp_path / "other.db").replace(tmp_path / "log.db")
    assert len(await read_all(reader)) == 5
    (tmp_path / "log.db").unlink()
    with pytest.raises(LogRefused, match="it is not there"):
        await reader.head()
    await (await opened(tmp_path / "log.db", commits(1))).close()
    assert len(await read_all(reader)) == 1
    await reader.close()


# A killed writer.


@once
async def test_a_killed_writers_log_is_read_as_it_was_left_and_nothing_is_made(tmp_path: Path) -> None:
    with child(children.crash, tmp_path) as process:
        assert process.said() == "written"
        process.kill()
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert before["log.db-wal"] > 0
    reader = handle(tmp_path / "log.db")
    assert await reader.attach() == "conformance"
    assert await read_all(reader) == children.CRASHED
    assert {path.name for path in tmp_path.iterdir()} == before.keys()
    assert (tmp_path / "log.db-wal").stat().st_size == before["log.db-wal"]
    log = await opened(tmp_path / "log.db", [])
    more = children.big(children.CRASHED[-1])
    await log.append(more)
    assert await read_all(reader) == [*children.CRASHED, more]
    await log.close()
    await reader.close()


@once
async def test_opening_makes_what_a_crash_left_as_durable_as_the_rest(tmp_path: Path) -> None:
    with child(children.crash, tmp_path) as process:
        assert process.said() == "written"
        process.kill()
    log = await opened(tmp_path / "log.db", [])
    shutil.copy(tmp_path / "log.db", tmp_path / "alone.db")  # without the -wal
    await log.close()
    assert await read_image(tmp_path / "alone.db") == children.CRASHED


# Statements.


async def test_an_append_that_fails_leaves_no_transaction_open(tmp_path: Path) -> None:
    log, written = await opened(tmp_path / "log.db", commits(1)), commits(2)
    assert log._writer is not None
    await log._writer.rows("BEGIN")
    await log._writer.rows("PRAGMA max_page_count=1")
    with pytest.raises(CommitFailed, match="full"):
        await log.append(children.big(written[0]))
    assert not log._writer.in_transaction
    await log._writer.rows("PRAGMA max_page_count=1000000")
    await log.append(written[1])
    assert await read_image(image(tmp_path, tmp_path / "image")) == written
    await log.close()


# A -wal that is cut.


@pytest.mark.parametrize("left", [0.0, 0.5, -1])
async def test_a_wal_that_was_cut_is_noticed_by_the_next_commit(left: float, tmp_path: Path) -> None:
    written = commits(6)
    log, wal = await opened(tmp_path / "log.db", written[:4]), tmp_path / "log.db-wal"
    size = wal.stat().st_size
    os.truncate(wal, size - 1 if left < 0 else int(size * left))
    for _ in range(2):
        with pytest.raises(CommitFailed, match=r"log\.db is damaged at commit 1: its -wal was cut while it was open"):
            await log.append(written[4])
    with pytest.raises(LogCorrupt, match="its -wal was cut while it was open"):
        await log.probe()
    await log.close()


@pytest.mark.parametrize("left", [0.0, 0.5])
async def test_a_wal_that_was_cut_and_is_as_long_again_is_noticed_by_the_next_commit(
    left: float, tmp_path: Path
) -> None:
    """As one is that was cut while a commit was written: SQLite writes where it would have written, behind a gap."""
    written = commits(6)
    log, wal = await opened(tmp_path / "log.db", written[:4]), tmp_path / "log.db-wal"
    size = wal.stat().st_size
    os.truncate(wal, int(size * left))
    os.truncate(wal, size)
    for commit in written[4:]:
        with pytest.raises(CommitFailed, match="its -wal was cut while it was open: there is a gap in it"):
            await log.append(commit)
    with pytest.raises(LogCorrupt, match="its -wal was cut while it was open: there is a gap in it"):
        await log.probe()
    await log.close()


async def test_an_engine_whose_wal_was_cut_takes_nothing_more_and_still_answers(tmp_path: Path) -> None:
    engine = Engine(shop, log=tmp_path / "log.db")
    await engine.__aenter__()
    receipt = await engine.execute(Add("a", 1))
    os.truncate(tmp_path / "log.db-wal", 0)
    with pytest.raises(CommitFailed, match="its -wal was cut"):
        await engine.execute(Add("a", 1))
    await settled()
    with pytest.raises(WriterUnavailable, match="it stopped: LogCorrupt"):
        await engine.execute(Add("a", 1))
    assert await engine.ask(StockOf("a"), after=receipt) == 1
    with pytest.raises(LogCorrupt):
        await engine.__aexit__(None, None, None)


async def test_a_wal_that_is_shorter_because_all_of_it_was_moved_is_none_that_was_cut(tmp_path: Path) -> None:
    written = commits(4)
    log, wal = await opened(tmp_path / "log.db", written[:2]), tmp_path / "log.db-wal"
    for commit in written[2:]:
        with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as shell:
            assert shell.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        assert wal.stat().st_size == 0
        await log.append(commit)
    await log.probe()
    assert await read_all(log) == written
    await log.close()


async def test_the_part_of_a_wal_that_holds_nothing_any_more_may_be_cut(tmp_path: Path) -> None:
    written = commits(12)
    log, wal = await opened(tmp_path / "log.db", written[:10]), tmp_path / "log.db-wal"
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as shell:
        shell.execute("PRAGMA wal_checkpoint(RESTART)")
    await log.append(written[10])
    os.truncate(wal, wal.stat().st_size // 2)
    await log.append(written[11])
    assert await read_all(log) == written
    await log.close()


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """A block in which this process can open no file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def move_wal(path: Path) -> None:
    """As SQLite's shell may do: the -wal is empty, and nothing is lost."""
    with contextlib.closing(sqlite3.connect(path)) as shell:
        assert shell.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


async def test_a_shorter_wal_that_cannot_be_looked_at_for_now_is_none_that_was_cut(tmp_path: Path) -> None:
    written = commits(3)
    log = await opened(tmp_path / "log.db", written[:2])
    move_wal(tmp_path / "log.db")
    with no_more_files():
        with pytest.raises(CommitFailed, match="its file can't be looked at: unable to open database file"):
            await log.append(written[2])
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            await log.probe()
    await log.probe()
    await log.append(written[2])
    assert await read_all(log) == written
    await log.close()


async def landed_after(path: Path, log: SqliteLog, commit: Commit, meanwhile: Callable[[], object]) -> Exception | None:
    """What is told of a commit, if the ``-wal`` is moved once that commit lies in it, and then something happens."""
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    landed = log._landed

    def moved_first(*said: Any) -> None:
        move_wal(path)
        meanwhile()
        landed(*said)

    log._landed = moved_first  # type: ignore[method-assign, assignment]
    log.launch(commit, told.set_result)
    with anyio.fail_after(10):
        return await told


async def test_a_commit_that_cannot_be_seen_for_now_is_in_doubt_and_seen_by_a_probe(tmp_path: Path) -> None:
    written = commits(3)
    log = await opened(tmp_path / "log.db", written[:2])
    with contextlib.ExitStack() as until_then:
        unclear = await landed_after(
            tmp_path / "log.db", log, written[2], lambda: until_then.enter_context(no_more_files())
        )
        assert isinstance(unclear, RuntimeError)
        assert str(unclear).startswith("commit 3 was written, and can't be seen in ")
    await log.probe()
    assert await log.head() == head_of(written[2])
    await log.close()


async def test_a_commit_that_was_cut_away_while_it_could_not_be_seen_is_missed_by_a_probe(tmp_path: Path) -> None:
    written = commits(3)
    log = await opened(tmp_path / "log.db", written[:2])
    with contextlib.ExitStack() as until_then:
        await landed_after(tmp_path / "log.db", log, written[2], lambda: until_then.enter_context(no_more_files()))
    log._unseen += 1  # as if it had been one more
    with pytest.raises(LogCorrupt, match="its -wal was cut while it was open: commit 4 is not there"):
        await log.probe()
    await log.close()


async def test_a_commit_that_lands_in_a_shorter_wal_while_its_log_closes_is_told_of_once(tmp_path: Path) -> None:
    written = commits(3)
    log = await opened(tmp_path / "log.db", written[:2])
    async with anyio.create_task_group() as group:

        def closing() -> None:
            assert log._writer is not None
            log._writer._is_closing = True
            log._writer._jobs.put(None)

        unclear = await landed_after(tmp_path / "log.db", log, written[2], closing)
        assert isinstance(unclear, RuntimeError)
        assert "commit 3 was written, and can't be seen" in str(unclear)
        group.start_soon(log.close)
    assert await read_image(tmp_path / "log.db") == written
