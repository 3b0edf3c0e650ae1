from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from millstream.engine import LogCorrupt, LogRefused, MemoryLog, SqliteLog
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.upkeep import DigestMissing, Verified, attached, verify, verify_log
from tests.engine.upkeep.chains import FIVE, change, commits_in, deposit, in_file, in_memory, sealed, with_commit
from tests.support import sealed_rows

pytestmark = pytest.mark.anyio

#: Every byte of a file is changed with this set; otherwise one in a while.
EVERY_OFFSET = bool(os.environ.get("MILLSTREAM_TORTURE"))


async def verified(path: Path, expect: bytes | None = None) -> Verified:
    async with attached(path) as (log, _):
        return await verify_log(log, expect=expect)


async def problem_with(commits: list[Commit]) -> tuple[int, str]:
    with pytest.raises(LogCorrupt) as raised:
        await verify_log(in_memory(commits))
    return raised.value.commit, raised.value.problem


async def test_a_whole_log_is_reported_with_what_it_holds(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    for found in (await verified(path), await verify_log(in_memory(FIVE))):
        assert (found.commits, found.events, found.recorded_at) == (5, 7, "2026-01-01T00:00:04.000000Z")
        assert found.digest == FIVE[-1].digest
        assert found.size_bytes == sum(len(commit.body) for commit in FIVE)
        assert found.expected_at is None
        assert found.mb_per_second == pytest.approx(found.size_bytes / found.seconds / 1e6)


async def test_an_empty_log_is_whole_and_its_digest_is_zeros(tmp_path: Path) -> None:
    found = await verified(await in_file(tmp_path / "log.db", []))
    assert (found.commits, found.events, found.size_bytes, found.recorded_at) == (0, 0, 0, "")
    assert found.digest == bytes(32)


def changed_bytes(value: bytes) -> Iterator[bytes]:
    for index in range(len(value)):
        yield value[:index] + bytes([value[index] ^ 1]) + value[index + 1 :]


async def test_each_changed_byte_of_a_commit_is_found_and_its_commit_named() -> None:
    looked_at = 0
    for index, commit in enumerate(FIVE):
        for field in ("body", "digest"):
            for value in changed_bytes(getattr(commit, field)):
                number, problem = await problem_with(with_commit(index, **{field: value}))
                assert (number, problem) == (
                    index + 1,
                    "its digest does not match its content and the commit before it",
                )
                looked_at += 1
        for value in changed_bytes(commit.recorded_at.encode()):
            assert (await problem_with(with_commit(index, recorded_at=value.decode())))[0] == index + 1
            looked_at += 1
    assert looked_at == sum(len(commit.body) + len(commit.digest) + len(commit.recorded_at) for commit in FIVE)


@pytest.mark.parametrize(
    ("commits", "named", "problem"),
    [
        (FIVE[1:], 1, "commit 2 stands where 1 should"),
        ([*FIVE[:2], *FIVE[3:]], 3, "commit 4 stands where 3 should"),
        ([*FIVE[:3], FIVE[2], *FIVE[3:]], 4, "commit 3 stands where 4 should"),
        ([FIVE[0], FIVE[2], FIVE[1], *FIVE[3:]], 2, "commit 3 stands where 2 should"),
        (with_commit(3, position=5), 4, "its first event has position 5, but should have 4"),
        (with_commit(4, number=6), 5, "commit 6 stands where 5 should"),
        (
            [*FIVE, *sealed([deposit("eve", 1)], after=Head(5, 7, "2026-01-01T00:00:05.000000Z", bytes(32)))],
            6,
            "its digest does not match its content and the commit before it",
        ),
    ],
)
async def test_commits_that_are_dropped_moved_or_added_are_found(
    commits: list[Commit], named: int, problem: str
) -> None:
    assert await problem_with(commits) == (named, problem)


async def test_a_time_that_goes_back_is_found_although_its_digest_is_right() -> None:
    first = sealed_rows(Head(), "2026-01-02T00:00:00.000000Z", [])
    second = sealed_rows(Head(1, 0, first.recorded_at, first.digest), "2026-01-01T23:59:59.999999Z", [])
    assert await problem_with([first, second]) == (
        2,
        "its time 2026-01-01T23:59:59.999999Z is before 2026-01-02T00:00:00.000000Z",
    )


async def test_a_body_that_is_no_array_of_commands_is_found_although_its_digest_is_right() -> None:
    body: Any = msgspec.Raw(b'[{"type":"Deposit","events":5}]')
    number, problem = await problem_with([sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", body)])
    assert number == 1
    assert problem.startswith("its body is not that of a commit: Expected `array`, got `int`")


# The digest that was noted.


async def test_a_digest_that_was_noted_earlier_is_found_at_its_commit() -> None:
    for number, commit in enumerate(FIVE, 1):
        assert (await verify_log(in_memory(FIVE), expect=commit.digest)).expected_at == number


async def test_the_digest_of_the_empty_log_is_that_of_every_log() -> None:
    assert (await verify_log(in_memory(FIVE), expect=bytes(32))).expected_at == 0


async def test_a_log_that_was_cut_off_is_whole_by_itself_and_lacks_the_digest_that_was_noted(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    noted = (await verified(path)).digest
    change(path, "DELETE FROM commits WHERE number > 3")
    assert (await verified(path)).commits == 3
    with pytest.raises(DigestMissing) as raised:
        await verified(path, expect=noted)
    assert (raised.value.log, raised.value.commits, raised.value.expected) == (str(path), 3, noted)
    assert str(raised.value) == (
        f"log {path} has 3 commits, each following the one before, but none with the digest {noted.hex()}: "
        "it was cut off at its end, or written anew; restore a backup that has it"
    )


async def test_a_log_that_was_written_anew_lacks_the_digest_that_was_noted() -> None:
    anew = sealed(*([deposit("ann", 1_000)] for _ in FIVE))
    assert (await verify_log(in_memory(anew))).commits == 5
    with pytest.raises(DigestMissing):
        await verify_log(in_memory(anew), expect=FIVE[-1].digest)


# Files.


@pytest.mark.parametrize(
    ("statement", "named", "problem"),
    [
        ("UPDATE commits SET body = replace(body, '\"amount\":3', '\"amount\":4') WHERE number = 2", 2, "its digest"),
        ("UPDATE commits SET recorded_at = '2026-01-01T00:00:03.000001Z' WHERE number = 4", 4, "its digest"),
        ("UPDATE commits SET digest = zeroblob(32) WHERE number = 5", 5, "its digest"),
        ("UPDATE commits SET digest = hex(digest) WHERE number = 5", 5, "its row holds values of other types"),
        ("UPDATE commits SET position = 9 WHERE number = 4", 4, "its first event has position 9, but should have 4"),
        ("UPDATE commits SET body = CAST(body AS BLOB) WHERE number = 3", 3, "its body is not stored as text"),
        ("DELETE FROM commits WHERE number = 1", 1, "commit 2 stands where 1 should"),
        ("DELETE FROM commits WHERE number = 4", 4, "commit 5 stands where 4 should"),
        (
            "INSERT INTO commits SELECT 0, position, recorded_at, body, digest FROM commits LIMIT 1",
            1,
            "row with the number 0",
        ),
        (
            "INSERT INTO commits SELECT -7, 1, recorded_at, '[]', digest FROM commits LIMIT 1",
            1,
            "row with the number -7",
        ),
        ("INSERT INTO commits SELECT 6, 8, recorded_at, body, digest FROM commits WHERE number = 5", 6, "its digest"),
    ],
)
async def test_a_row_that_was_changed_is_found_and_its_commit_named(
    tmp_path: Path, statement: str, named: int, problem: str
) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    change(path, statement)
    with pytest.raises(LogCorrupt) as raised:
        await verified(path)
    assert (raised.value.commit, raised.value.log) == (named, str(path))
    assert problem in raised.value.problem


@pytest.mark.parametrize(
    ("name", "before", "after", "named"),
    [
        ("commits", "INTEGER PRIMARY", "INTEGERaPRIMARY", 1),  # makes a number NULL, and the log look empty
        ("events", "$.offset", "$.offsft", 6),
        ("meta", "value TEXT", "value BEXT", 6),
    ],
)
async def test_a_schema_that_is_not_what_millstream_made_is_found(
    tmp_path: Path, name: str, before: str, after: str, named: int
) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    edit = f"UPDATE sqlite_master SET sql = replace(sql, '{before}', '{after}') WHERE name = '{name}'"
    change(path, "PRAGMA writable_schema=1", edit)
    with pytest.raises(LogCorrupt) as raised:
        await verified(path)
    assert raised.value.commit == named
    assert f"what its schema says of {name!r} is not what millstream made" in raised.value.problem


async def test_damage_that_no_commit_shows_is_found_in_the_files_structure(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    with path.open("r+b") as file:
        file.seek(4096 + 7)  # how many bytes the page of `meta` wastes (https://www.sqlite.org/fileformat2.html)
        file.write(b"\x09")
    with pytest.raises(LogCorrupt) as raised:
        await verified(path)
    assert raised.value.commit == 6
    assert raised.value.problem.startswith("every commit that is found is whole, but the file is not: ")


async def test_a_changed_byte_of_the_file_is_found_or_changes_no_commit(tmp_path: Path) -> None:
    large = sealed(*([deposit(f"account {number}", *range(100 * (number % 3)))] for number in range(4)))
    path = await in_file(tmp_path / "log.db", large)
    whole, found = path.read_bytes(), 0
    for offset in range(0, len(whole), 1 if EVERY_OFFSET else 211):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x41]) + whole[offset + 1 :])
        try:
            await verified(path)
        except (LogCorrupt, LogRefused):
            found += 1
        else:
            assert await commits_in(path) == large, f"byte {offset}"
    assert found > len(whole) / 211 / 2  # more than half of the file is commits


async def test_verifying_leaves_no_trace(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    await verified(path)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


async def test_a_log_is_verified_while_it_is_written(tmp_path: Path) -> None:
    writer = SqliteLog(tmp_path / "log.db")
    await writer.open("bank")
    head = Head()

    async def append(count: int) -> None:
        nonlocal head
        for _ in range(count):
            commit = sealed_rows(head, "2026-01-01T00:00:00.000000Z", [deposit("ann", *range(100))])
            await writer.append(commit)
            head = Head(commit.number, commit.position + 99, commit.recorded_at, commit.digest)

    try:
        await append(20)
        async with anyio.create_task_group() as group:
            group.start_soon(append, 200)
            found = await verified(tmp_path / "log.db")
        assert 20 <= found.commits <= 220
        assert found.events == 100 * found.commits
    finally:
        await writer.close()


# Manners.


@pytest.fixture
def _tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page for each commit, and a rest after each."""
    monkeypatch.setattr(verify, "PAGE_BYTES", 1)
    monkeypatch.setattr(verify, "SLICE_MS", 0.0)


@pytest.mark.usefixtures("_tiny_steps")
async def test_progress_is_told_after_each_page() -> None:
    told: list[Verified] = []
    await verify_log(in_memory(FIVE), progress=told.append)
    assert [(found.commits, found.events) for found in told] == [(1, 2), (2, 3), (3, 3), (4, 6), (5, 7)]
    assert [found.digest for found in told] == [commit.digest for commit in FIVE]


@pytest.mark.usefixtures("_tiny_steps")
async def test_others_run_between_two_slices() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        await verify_log(in_memory(FIVE))
        group.cancel_scope.cancel()
    assert turns >= 4


async def test_a_log_that_is_open_in_this_program_is_verified_as_it_is() -> None:
    log = MemoryLog()
    await log.open("bank")
    for commit in FIVE:
        await log.append(commit)
    assert (await verify_log(log)).commits == 5
    await log.close()
