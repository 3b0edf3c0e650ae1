"""Files as a crash or a bad disk leaves them: torn, cut off, overwritten, with single bytes changed.

A log that is read from such files is a whole beginning of what was written, with everything in it that lies before the
damage; or it is refused. Nothing is missing in the middle, and no error is SQLite's own.

MILLSTREAM_TORTURE=1 tries every byte of the database file, with several changes each: some minutes.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from millstream.engine import LogCorrupt, LogRefused, SqliteLog
from millstream.engine.commits.body import events_in
from millstream.engine.commits.chain import Chain
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.testing.stores.written import APP, append_all, commits, head_of, read_all

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

TORTURE = bool(os.environ.get("MILLSTREAM_TORTURE"))
WAL_HEADER_BYTES, FRAME_HEADER_BYTES, PAGE_BYTES = 32, 24, 4096
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES


class Frame(NamedTuple):
    """One page in a -wal file (https://www.sqlite.org/fileformat2.html#walformat)."""

    start: int
    page: int
    commits: bool

    @property
    def end(self) -> int:
        return self.start + FRAME_BYTES


def frames(wal: bytes) -> list[Frame]:
    return [
        Frame(
            start,
            int.from_bytes(wal[start : start + 4], "big"),
            bool(int.from_bytes(wal[start + 4 : start + 8], "big")),
        )
        for start in range(WAL_HEADER_BYTES, len(wal), FRAME_BYTES)
    ]


def following(sizes: Sequence[int]) -> list[Commit]:
    """Commits one after the other, each with so many events of 48 bytes."""
    made: list[Commit] = []
    for events in sizes:
        after = head_of(made[-1], events_in(made[-1].body)) if made else Head()
        made += commits(1, after, events)
    return made


def whole(found: Sequence[Commit]) -> None:
    """That commits follow each other from the first one on, each as it was sealed."""
    chain = Chain("the image")
    for commit in found:
        chain.take(commit)


class Image:
    """The two files of a log, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"

    def put(self, database: bytes, wal: bytes | None = None) -> None:
        """Nothing but these two files, whatever was there before."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        self.path.parent.mkdir()
        self.path.write_bytes(database)
        if wal is not None:
            Path(f"{self.path}-wal").write_bytes(wal)

    async def opened(self) -> list[Commit]:
        """What a writer finds."""
        log = SqliteLog(self.path)
        try:
            await log.open(APP)
            return await self._read(log)
        finally:
            await log.close()

    async def attached(self) -> list[Commit]:
        """What a reader finds."""
        log = SqliteLog(self.path)
        try:
            if (owner := await log.attach()) != APP:
                raise LogRefused(log.name, f"it belongs to application {owner!r}", "as an engine would say")
            return await self._read(log)
        finally:
            await log.close()

    async def _read(self, log: SqliteLog) -> list[Commit]:
        found = await read_all(log)
        whole(found)
        last = head_of(found[-1], events_in(found[-1].body)) if found else Head()
        assert await log.head() == last
        return found


async def files_of(path: Path, written: Sequence[Commit]) -> tuple[bytes, bytes]:
    """The database and the -wal of an open log with these commits, all of which are in the -wal."""
    log = SqliteLog(path)
    await log.open(APP)
    await append_all(log, written)
    database, wal = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    await log.close()
    return database, wal


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path / "image")


# The -wal.

#: Commits of one page and of several.
SIZES = (2, 1, 300, 2, 90, 0, 700, 3)


def expected(written: Sequence[Commit], wal: bytes, torn: bytes) -> int:
    """How many of the commits lie wholly in what a torn -wal has in common with the whole one."""
    common = next((at for at, (a, b) in enumerate(zip(wal, torn, strict=False)) if a != b), min(len(wal), len(torn)))
    ends = [frame.end for frame in frames(wal) if frame.commits]
    assert len(ends) == len(written)
    return sum(end <= common for end in ends)


def cuts(wal: bytes) -> list[int]:
    """Where to tear: at each frame's ends, a few bytes beside them, and within frames."""
    chance = random.Random(1)
    beside = (0, 1, -1, 16, FRAME_HEADER_BYTES)
    near = {frame.start + by for frame in frames(wal) for by in beside}
    inside = {chance.randrange(len(wal)) for _ in range(1_000 if TORTURE else 30)}
    return sorted({0, 1, 31, len(wal), *near, *inside})


async def test_a_wal_that_is_cut_off_anywhere_gives_the_commits_before_the_cut(tmp_path: Path, image: Image) -> None:
    written = following(SIZES)
    database, wal = await files_of(tmp_path / "log.db", written)
    assert len([frame for frame in frames(wal) if not frame.commits]) > 8  # some commits have many pages
    for index, cut in enumerate(cuts(wal)):
        find = image.attached if index % 4 else image.opened
        image.put(database, wal[:cut])
        assert await find() == written[: expected(written, wal, wal[:cut])], cut


async def test_a_wal_that_ends_in_zeros_or_garbage_gives_the_commits_before_them(tmp_path: Path, image: Image) -> None:
    written, chance = following(SIZES), random.Random(2)
    database, wal = await files_of(tmp_path / "log.db", written)
    for cut in cuts(wal)[:: 1 if TORTURE else 6]:
        rest = len(wal) - cut
        for tail in (
            bytes(rest),
            chance.randbytes(rest),
            chance.randbytes(rest + 3 * FRAME_BYTES),
            wal[: rest + 5_000],
        ):
            torn = wal[:cut] + tail
            image.put(database, torn)
            assert await image.attached() == written[: expected(written, wal, torn)], cut


async def test_a_wal_with_a_hole_gives_the_commits_before_it_and_none_after(tmp_path: Path, image: Image) -> None:
    written, chance = following(SIZES), random.Random(3)
    database, wal = await files_of(tmp_path / "log.db", written)
    for frame in frames(wal):
        at = frame.start + chance.randrange(FRAME_BYTES)
        torn = wal[:at] + bytes([wal[at] ^ 0x10]) + wal[at + 1 :]
        image.put(database, torn)
        assert await image.opened() == written[: expected(written, wal, torn)], at


async def test_a_log_goes_on_after_the_commits_that_a_torn_wal_left(tmp_path: Path, image: Image) -> None:
    written = following(SIZES)
    database, wal = await files_of(tmp_path / "log.db", written)
    image.put(database, wal[: frames(wal)[-1].start + 100])
    log = SqliteLog(image.path)
    await log.open(APP)
    assert (await log.head()).number == 7
    await log.append(written[7])
    await log.close()
    assert await image.opened() == written


@pytest.mark.parametrize("beside_reader", [True, False])
@pytest.mark.parametrize("last", [1, 90, 700])
async def test_what_a_failed_commit_left_in_the_wal_can_not_come_back_after_a_probe(
    tmp_path: Path, image: Image, last: int, beside_reader: bool
) -> None:
    """The -wal as it is when the sync of commit 4 fails: all of it is there, and SQLite takes it for not written.

    With W1 the -wal without that commit and W2 with it: a probe on W1, and then what W2 has behind the probe's frame.
    A reader keeps the -wal from being begun anew, as it is in a log that was just opened; so both are tried.
    """
    written = following([2, 300, 2, last])
    log = SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    await append_all(log, written[:3])
    database, w1 = log.path.read_bytes(), Path(f"{log.path}-wal").read_bytes()
    await log.append(written[3])
    w2 = Path(f"{log.path}-wal").read_bytes()
    await log.close()
    assert w2[: len(w1)] == w1
    image.put(database, w2)
    assert await image.opened() == written  # what a crash brings back

    image.put(database, w1)
    with closing(sqlite3.connect(image.path, isolation_level=None)) as reader:
        if beside_reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM commits").fetchone() == (3,)
        log = SqliteLog(image.path)
        await log.open(APP)
        await log.probe()
        probed_database, probed = image.path.read_bytes(), Path(f"{image.path}-wal").read_bytes()
        await log.close()
    if beside_reader:
        assert (probed[: len(w1)], len(probed) - len(w1)) == (w1, FRAME_BYTES)
    else:
        assert (probed[:WAL_HEADER_BYTES] == w1[:WAL_HEADER_BYTES], len(probed)) == (False, len(w1))
    image.put(probed_database, probed + w2[len(probed) :])
    assert await image.opened() == written[:3]


# The database file.


def changes(database: bytes) -> Iterator[tuple[int, bytes]]:
    """The file with one byte changed: each byte, or in the suite all of the first of each page and some of the rest."""
    chance = random.Random(4)
    for at in range(len(database)):
        if TORTURE:
            bits: Sequence[int] = (0xFF, 0x01, 0x08, 0x80)
        elif at % PAGE_BYTES < 16 or not chance.randrange(300):
            bits = (chance.choice((0xFF, 0x01, 0x04, 0x10)),)
        else:
            continue
        for bit in bits:
            yield at, database[:at] + bytes([database[at] ^ bit]) + database[at + 1 :]


@pytest.mark.parametrize("sizes", [(2, 1, 2, 0, 3, 1, 2, 3), (2, 90, 1, 2, 300, 0, 1, 2)])
async def test_a_database_with_one_changed_byte_is_refused_or_gives_what_was_written(
    tmp_path: Path, image: Image, sizes: tuple[int, ...]
) -> None:
    written = following(sizes)
    await files_of(tmp_path / "log.db", written)
    database = (tmp_path / "log.db").read_bytes()
    refused = 0
    for at, changed in changes(database):
        for find in (image.attached, image.opened):
            image.put(changed)
            try:
                found = await find()
            except (LogCorrupt, LogRefused):
                refused += 1
            else:
                assert found == written, at
    assert refused > 20


async def test_a_page_that_says_it_holds_fewer_rows_than_it_does_is_found(tmp_path: Path, image: Image) -> None:
    """Without a look at the pages themselves this would be a shorter log that is whole up to its end."""
    await files_of(tmp_path / "log.db", following([1] * 8))
    database = bytearray((tmp_path / "log.db").read_bytes())
    leaf = next(
        at for at in range(PAGE_BYTES, len(database), PAGE_BYTES) if database[at] == 13 and database[at + 4] == 8
    )
    database[leaf + 4] = 5
    image.put(bytes(database))
    for find in (image.attached, image.opened):
        with pytest.raises(LogCorrupt) as raised:
            await find()
        assert raised.value.commit == 6
    log = SqliteLog(image.path, checked_bytes_max=0)
    await log.open(APP)
    assert (await log.head()).number == 5
    await log.close()


async def test_a_page_in_the_middle_that_lost_rows_is_named_by_the_first_of_them(tmp_path: Path, image: Image) -> None:
    await files_of(tmp_path / "log.db", following([12] * 30))
    database = bytearray((tmp_path / "log.db").read_bytes())
    leaves = [at for at in range(PAGE_BYTES, len(database), PAGE_BYTES) if database[at] == 13]
    assert len(leaves) > 3
    cell = leaves[2] + int.from_bytes(database[leaves[2] + 8 : leaves[2] + 10], "big")
    first, rows = database[cell + 2], database[leaves[2] + 4]  # the number of its first row, after two bytes of length
    assert first > rows > 2
    database[leaves[2] + 4] -= 1
    image.put(bytes(database))
    with pytest.raises(LogCorrupt) as raised:
        await image.opened()
    assert raised.value.commit == first + rows - 1


async def test_a_table_that_says_of_its_numbers_that_they_are_something_else_is_found(
    tmp_path: Path, image: Image
) -> None:
    """Without a look at the schema this would be an empty log: the numbers are in the rows' keys, and not looked for."""
    await files_of(tmp_path / "log.db", following([1] * 3))
    database = (tmp_path / "log.db").read_bytes()
    image.put(database.replace(b"number INTEGER PRIMARY", b"number INTEGES PRIMARY"))
    for find in (image.attached, image.opened):
        with pytest.raises(LogCorrupt, match="at commit 1: what its schema says of 'commits' is not what"):
            await find()


async def test_a_schema_that_is_not_even_text_is_damage(tmp_path: Path, image: Image) -> None:
    """SQLite quotes it in its error, and the driver fails to decode that."""
    await files_of(tmp_path / "log.db", following([1]))
    database = (tmp_path / "log.db").read_bytes()
    for old, new in ((b"tablemetameta", b"table\xffetameta"), (b"CREATE TABLE meta", b"CREATE TABXE meta")):
        assert database.count(old) == 1
        database = database.replace(old, new)
    image.put(database)
    for find in (image.attached, image.opened):
        with pytest.raises(LogCorrupt, match="can't decode byte 0xff"):
            await find()


async def test_a_change_that_another_program_left_half_done_is_undone_by_a_writer_and_refused_to_a_reader(
    tmp_path: Path, image: Image
) -> None:
    """With a rollback journal, which a log has only where its file was copied by SQLite, or while it is being made."""
    path, written = tmp_path / "log.db", following([300] * 8)
    await files_of(path, written)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        db.execute("PRAGMA cache_size=1")
        db.execute("BEGIN")
        db.execute("UPDATE commits SET body = replace(body, 'Done', 'Gone')")
        database, journal = path.read_bytes(), Path(f"{path}-journal").read_bytes()
        assert b"Gone" in database
    image.put(database)
    Path(f"{image.path}-journal").write_bytes(journal)
    with pytest.raises(LogRefused, match="a crash left a change half done, which only a writer can undo; open it with"):
        await image.attached()
    assert await image.opened() == written
    assert await image.attached() == written


async def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, image: Image) -> None:
    await files_of(tmp_path / "log.db", following([2, 300, 1]))
    database = (tmp_path / "log.db").read_bytes()
    for cut in (*range(PAGE_BYTES, len(database), PAGE_BYTES), 100, 5_000, len(database) - 1):
        for find in (image.attached, image.opened):
            image.put(database[:cut])
            with pytest.raises((LogCorrupt, LogRefused)):
                await find()
