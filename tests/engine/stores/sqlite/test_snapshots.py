"""Snapshots in a SQLite file, and what becomes of one that is damaged, foreign, or can't be written."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.stores.sqlite.snapshots import SqliteSnapshots
from millstream.engine.testing.stores.snapshot_conformance import (
    SnapshotConformance,
    begin,
    head,
    pieces,
    read,
    sealed,
    take,
)
from tests.loops import one_loop

pytestmark = pytest.mark.anyio


class TestSqliteSnapshots(SnapshotConformance):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log.db-snapshots"

    def make(self) -> SqliteSnapshots:
        return SqliteSnapshots(self.path)

    async def held(self, store: SnapshotStore) -> int:
        return count(self.path)

    async def test_what_a_crash_left_of_a_part_that_is_no_more_goes_with_the_next_snapshot(self) -> None:
        store = await self.opened()
        await begin(store, "view Gone", pieces(10))
        store = await self.again(store)
        await take(store, "view A", 3, pieces(2))
        assert count(self.path) == 2


async def test_a_handle_goes_over_to_the_file_that_another_one_has_begun_in_the_place_of_a_damaged_one(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path)
    async with opened(path) as store, opened(path) as other:
        async with other.taking():
            other.doubt("its pieces are damaged")
            snapshot = await take(other, "view A", 9, pieces(3, "anew"))
        assert lines(log_lines) == ["warning snapshots_damaged"]
        assert list(await store.kept()) == [snapshot]
        async with store.taking():
            later = await take(store, "model A", 9, pieces(2))
        assert list(await other.kept()) == [later, snapshot]
    async with opened(path) as store:
        assert list(await store.kept()) == [later, snapshot]
        assert await read(store, snapshot) == pieces(3, "anew")


def connections() -> set[threading.Thread]:
    """The threads of databases; those of the loop's pool stay for the next one that needs them."""
    return {thread for thread in threading.enumerate() if "AnyIO" not in thread.name}


def ended(threads: Iterable[threading.Thread]) -> bool:
    """Whether they end, which they do a moment after their connection is closed."""
    for thread in threads:
        thread.join(5)
    return not any(thread.is_alive() for thread in threads)


async def test_a_handle_that_rests_has_no_thread_and_no_file_open_and_wakes_once_for_many_calls(tmp_path: Path) -> None:
    path = tmp_path / "log.db-snapshots"
    before = connections()
    async with opened(path) as store:
        snapshot = await take(store, "view A", 9, pieces(3))
        (thread,) = connections() - before
        await store.rest()
        assert ended([thread])
        assert not path.with_name(f"{path.name}-wal").exists()
        found: list[Any] = []

        async def look() -> None:
            found.append(await store.kept())

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(look)
        assert found == [[snapshot]] * 10
        (again,) = connections() - before
    assert ended([again])


async def test_damage_that_comes_while_a_handle_rests_is_set_aside(tmp_path: Path, log_lines: list[Any]) -> None:
    path = tmp_path / "log.db-snapshots"
    async with opened(path) as store:
        await take(store, "view A", 9, pieces(3))
        await store.rest()
        path.write_bytes(b"damaged" * 1_000)
        assert list(await store.kept()) == []
        assert lines(log_lines) == ["warning snapshots_damaged"]
        snapshot = await take(store, "view A", 9, pieces(3))
        assert list(await store.kept()) == [snapshot]


async def test_a_snapshot_in_a_file_that_was_deleted_meanwhile_is_not_taken_for_stored(tmp_path: Path) -> None:
    path = tmp_path / "log.db-snapshots"
    async with opened(path) as store:
        await begin(store, "view A", pieces(3))
        path.unlink()
        with pytest.raises(FileNotFoundError, match="was deleted or replaced while it was written"):
            await store.finish(sealed("view A", 3, pieces(3)))


def count(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        ((found,),) = db.execute("SELECT count(*) FROM pieces").fetchall()
        return int(found)
    finally:
        db.close()


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteSnapshots]:
    store = SqliteSnapshots(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def written(path: Path, size: int = 200) -> None:
    """A closed file with two snapshots of so many pieces."""
    async with opened(path) as store:
        for part in ("model A", "view A"):
            await take(store, part, 3, pieces(size, part))


async def works(path: Path) -> bool:
    """Whether the store takes snapshots and gives them back, after at most one that failed or could not be read."""
    async with opened(path) as store:
        for attempt in range(2):
            try:
                snapshot = await take(store, "view B", 7, pieces(30))
                if await read(store, snapshot) == pieces(30):
                    return snapshot in await store.kept()
            except sqlite3.Error:
                assert attempt == 0, "what is damaged is set aside after the first failure"
            store.doubt("as recovery says where pieces are not what was finished")
    return False


def lines(log_lines: list[Any]) -> list[str]:
    return [f"{line['log_level']} {line['event']}" for line in log_lines]


async def test_a_file_that_is_no_database_is_renamed_and_made_anew(tmp_path: Path, log_lines: list[Any]) -> None:
    path = tmp_path / "log.db-snapshots"
    path.write_bytes(b"these are no snapshots, and no database either" * 100)
    assert await works(path)
    assert lines(log_lines) == ["warning snapshots_damaged"]
    assert log_lines[0]["file"] == str(path)
    assert "file is not a database" in log_lines[0]["error"]
    assert (tmp_path / "log.db-snapshots-damaged").read_bytes().startswith(b"these are no snapshots")


def unmade(path: Path) -> None:
    change(path, "DROP TABLE snapshots")


def half_made(path: Path) -> None:
    path.unlink()
    change(path, "PRAGMA application_id=1347638355", "PRAGMA user_version=3")


def older(path: Path) -> None:
    change(path, "PRAGMA user_version=1")


def newer(path: Path) -> None:
    change(path, "PRAGMA user_version=4")


def with_other_columns(path: Path) -> None:
    change(path, "ALTER TABLE snapshots RENAME COLUMN checksum TO digest_of_pieces")


def with_another_type(path: Path) -> None:
    change(path, "UPDATE snapshots SET number = 'three' WHERE part = 'view A'")


def with_a_name_that_is_no_text(path: Path) -> None:
    change(path, "UPDATE snapshots SET part = CAST(x'ff8081' AS TEXT) WHERE part = 'view A'")


@pytest.mark.parametrize(
    "harm", [unmade, half_made, older, newer, with_other_columns, with_another_type, with_a_name_that_is_no_text]
)
async def test_a_file_that_is_not_as_it_should_be_is_renamed_and_made_anew(
    tmp_path: Path, log_lines: list[Any], harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path)
    harm(path)
    async with opened(path) as store:
        assert list(await store.kept()) == []
    assert lines(log_lines) == ["warning snapshots_damaged"]
    assert await works(path)
    assert len(log_lines) == 1


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path, log_lines: list[Any]) -> None:
    path = tmp_path / "log.db-snapshots"
    change(path, "CREATE TABLE holiday (photo BLOB)")
    before = path.read_bytes()
    with pytest.raises(OSError, match="is a database of something else: move it away to have snapshots"):
        await SqliteSnapshots(path).open()
    assert path.read_bytes() == before
    assert log_lines == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON pieces BEGIN DELETE FROM pieces WHERE id & 1; END",
        "CREATE VIEW later AS SELECT 1",
        "ALTER TABLE pieces ADD COLUMN more",
    ],
)
async def test_a_file_whose_schema_somebody_changed_is_set_aside(
    tmp_path: Path, log_lines: list[Any], statement: str
) -> None:
    await written(tmp_path / "log.db-snapshots")
    change(tmp_path / "log.db-snapshots", statement)
    with pytest.raises(msgspec.ValidationError, match="its schema is not what millstream made"):
        await SqliteSnapshots(tmp_path / "log.db-snapshots").attach()
    assert await works(tmp_path / "log.db-snapshots")
    assert lines(log_lines) == ["warning snapshots_damaged"]


async def test_a_place_where_no_file_can_be_made_is_an_error_and_damages_nothing(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    (tmp_path / "log.db-snapshots").mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        await SqliteSnapshots(tmp_path / "log.db-snapshots").open()
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        await SqliteSnapshots(tmp_path / "nowhere" / "log.db-snapshots").open()
    assert log_lines == []
    assert [each.name for each in tmp_path.iterdir()] == ["log.db-snapshots"]


async def test_a_file_that_can_not_be_written_fails_each_snapshot_and_is_not_taken_for_damaged(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path)
    async with opened(path) as store:
        assert store._db is not None
        await store._db.rows("PRAGMA query_only=1")
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                await take(store, "view A", 9, pieces(3))
        assert [snapshot.head for snapshot in await store.kept()] == [head(3), head(3)]
        await store._db.rows("PRAGMA query_only=0")
        snapshot = await take(store, "view A", 9, pieces(3))
        assert await read(store, snapshot) == pieces(3)
    assert log_lines == []


async def test_a_disk_that_is_full_leaves_the_snapshot_before_and_room_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path)
    async with opened(path) as store:
        assert store._db is not None
        ((size,),) = await store._db.rows("PRAGMA page_count")
        await store._db.rows(f"PRAGMA max_page_count={size + 10}")
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError, match="full"):
                await take(store, "view A", 9, [bytes(30_000)] * 10)
        (_, before) = await store.kept()
        assert await read(store, before) == pieces(200, "view A")
        snapshot = await take(store, "view A", 9, [bytes(30_000)])
        assert await read(store, snapshot) == [bytes(30_000)]


async def test_damage_that_shows_only_later_fails_what_finds_it_and_is_mended_by_the_next_snapshot(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path)
    async with opened(path) as store:
        first, second = await store.kept()
        change(path, "DROP TABLE pieces")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await store.pieces(first, 0)
        assert list(await store.kept()) == [first, second]
        snapshot = await take(store, "view A", 9, pieces(30))
        assert lines(log_lines) == ["warning snapshots_damaged"]
        assert list(await store.kept()) == [snapshot]
        assert await read(store, snapshot) == pieces(30)


async def test_a_file_whose_pieces_are_doubted_is_read_on_and_made_anew_with_the_next_snapshot(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path, 3)
    async with opened(path) as store:
        first, second = await store.kept()
        store.doubt("its pieces are damaged")
        assert await read(store, second) == pieces(3, "view A")
        assert list(await store.kept()) == [first, second]
        snapshot = await take(store, "view A", 9, pieces(30))
        assert [(line["event"], line["error"]) for line in log_lines] == [
            ("snapshots_damaged", "ValueError('its pieces are damaged')")
        ]
        assert list(await store.kept()) == [snapshot]


async def read_all(store: SqliteSnapshots) -> None:
    """Read every snapshot; each piece is what it was, or is missing, or the checksum does not match."""
    for snapshot in await store.kept():
        try:
            found = await read(store, snapshot)
        except sqlite3.Error:
            continue
        name = snapshot.part
        if found != pieces(200, name) and len(found) == snapshot.pieces:
            assert sealed(name, 3, found, snapshot.notes) != snapshot


@one_loop
@pytest.mark.parametrize("eighth", range(8))
async def test_wherever_a_file_is_damaged_nothing_wrong_is_read_and_the_store_works_again(
    tmp_path: Path, eighth: int
) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path)
    whole = path.read_bytes()
    for step in range(6):
        at = (len(whole) - 1) * (eighth * 6 + step) // 47
        for harm in (flipped, zeroed, cut):
            for beside in tmp_path.glob("log.db-snapshots*"):
                beside.unlink()
            path.write_bytes(harm(whole, at))
            async with opened(path) as store:
                await read_all(store)
            assert await works(path)


def flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]


def zeroed(whole: bytes, at: int) -> bytes:
    page = at // 4096 * 4096
    return whole[:page] + bytes(4096) + whole[page + 4096 :]


def cut(whole: bytes, at: int) -> bytes:
    return whole[:at]


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"log\.db-snapshots are not open"):
        await SqliteSnapshots(tmp_path / "log.db-snapshots").kept()


# Beside who takes them.


async def test_attaching_to_nothing_fails_and_makes_nothing(tmp_path: Path) -> None:
    store = SqliteSnapshots(tmp_path / "log.db-snapshots")
    with pytest.raises(FileNotFoundError):
        await store.attach()
    await store.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_rests_is_read_without_a_trace(tmp_path: Path) -> None:
    await written(tmp_path / "log.db-snapshots")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    store = SqliteSnapshots(tmp_path / "log.db-snapshots")
    await store.attach()
    for snapshot in await store.kept():
        assert await read(store, snapshot) == pieces(200, snapshot.part)
    await store.close()
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


async def test_who_attached_reads_all_of_what_was_replaced_meanwhile(tmp_path: Path) -> None:
    await written(tmp_path / "log.db-snapshots")
    beside = SqliteSnapshots(tmp_path / "log.db-snapshots")
    async with opened(tmp_path / "log.db-snapshots") as store:
        old = await take(store, "view A", 4, pieces(300, "old"))
        await beside.attach()
        for number in range(5, 9):
            await take(store, "view A", number, pieces(300, "new"))
        assert old in await beside.kept()
        assert await read(beside, old) == pieces(300, "old")
    await beside.close()


async def test_damage_that_is_met_beside_the_writer_is_left_to_that(tmp_path: Path) -> None:
    path = tmp_path / "log.db-snapshots"
    await written(path)
    change(path, "UPDATE snapshots SET pieces = 'many'")
    store = SqliteSnapshots(path)
    await store.attach()
    with pytest.raises(msgspec.ValidationError):
        await store.kept()
    await store.close()
    assert [each.name for each in tmp_path.iterdir()] == ["log.db-snapshots"]
    await store.attach()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store.add("view A", 0, b"piece")
    await store.close()
