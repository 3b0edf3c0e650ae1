from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from millstream.engine import LogRefused, SqliteLog
from millstream.engine.stores.sqlite.names import Mount, mounted, mounts_in
from millstream.engine.testing.stores.written import APP, commits, read_all
from millstream.engine.upkeep import attached, backup_log, verify_log
from tests.engine.stores.sqlite import children
from tests.engine.stores.sqlite.children import child, in_own_mounts

pytestmark = pytest.mark.anyio

ALONE = "its file is mounted without the folder that holds it, so that what lies beside it is missing here"
APART = "its file lies on another device than its folder, so that what lies beside it is missing here"


async def written(path: Path, count: int = 3) -> Path:
    log = SqliteLog(path)
    await log.open(APP)
    for commit in commits(count):
        await log.append(commit)
    await log.close()
    return path


async def opened(path: Path) -> None:
    log = SqliteLog(path)
    await log.open(APP)
    await log.close()


async def verified(path: Path) -> None:
    async with attached(path) as (log, _):
        await verify_log(log)


async def copied(path: Path) -> None:
    await backup_log(path, path.with_name("copy.db"))


# Hard links.


@pytest.mark.parametrize("use", [opened, verified, copied])
async def test_a_file_with_two_names_is_refused_under_both_by_all_who_write_or_read_it(
    tmp_path: Path, use: Callable[[Path], Awaitable[None]]
) -> None:
    path, other = await written(tmp_path / "log.db"), tmp_path / "other.db"
    os.link(path, other)
    for name in (path, other):
        with pytest.raises(LogRefused) as raised:
            await use(name)
        assert str(raised.value) == (
            f"log {name} is refused: its file has 2 names (hard links), and what lies beside one of them is missing "
            "under another; close it everywhere, keep the name that has '-wal' or '-lock' beside it, and remove the others"
        )
    other.unlink()
    await use(path)


async def test_a_writer_that_finds_its_own_log_open_under_another_name_is_told_of_the_names(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    for commit in commits(2):
        await log.append(commit)
    os.link(tmp_path / "log.db", tmp_path / "other.db")
    for use in (opened, verified):
        with pytest.raises(LogRefused, match="has 2 names"):
            await use(tmp_path / "other.db")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("other")) == ["other.db"]
    await log.append(commits(3)[2])
    assert await read_all(log) == commits(3)
    await log.close()


async def test_the_second_name_of_a_copy_that_was_not_finished_is_removed_by_the_writer(tmp_path: Path) -> None:
    path = await written(tmp_path / "log.db")
    os.link(path, tmp_path / ".log.db-a1_b2c3.partial")
    (tmp_path / ".log.db-zzzz.partial").write_text("another copy, which is not this file")
    await verified(path)
    assert (tmp_path / ".log.db-a1_b2c3.partial").exists()  # a reader changes nothing
    await opened(path)
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == [".log.db-zzzz.partial"]
    await verified(path)


@pytest.mark.parametrize("other", [".log.db-zzzz.partial.db", ".log.dbzzzz.partial", "log.db-zzzz.partial"])
async def test_a_name_that_is_only_like_that_of_an_unfinished_copy_stays_and_counts(tmp_path: Path, other: str) -> None:
    path = await written(tmp_path / "log.db")
    os.link(path, tmp_path / other)
    with pytest.raises(LogRefused, match="has 2 names"):
        await opened(path)
    assert (tmp_path / other).exists()


async def test_a_symbolic_link_is_no_second_path(tmp_path: Path) -> None:
    path = await written(tmp_path / "log.db")
    (tmp_path / "link.db").symlink_to(path)
    await opened(tmp_path / "link.db")
    await verified(tmp_path / "link.db")
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("link")) == ["link.db"]


# Mounts.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_file_that_is_mounted_alone_is_refused_under_that_path(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "a log's.db").touch()
    alone = ["sh", "-c", f'touch "$0/mounted.db" && mount --bind "{tmp_path}/a log\'s.db" "$0/mounted.db" && exec "$@"']
    with child(children.mounted, inside, wrapper=[*in_own_mounts(inside, 400_000), *alone, str(inside)]) as process:
        for _ in ("open", "attach"):
            kind, _, text = process.said()
            assert kind == "LogRefused"
            assert text.endswith(f"is refused: {ALONE}; mount the folder that holds it, not the file alone")
        assert process.said() == ["nothing", None, ""]  # one beside it
        assert process.said() == ["mounted.db", "own.db", "own.db-lock"]


TABLE = rb"""21 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
28 1 0:35 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b
40 28 8:1 /bank.db /data/my\040bank.db rw - ext4 /dev/sda1 rw
41 28 8:2 / /data/inner rw - xfs /dev/sdb1 rw
42 28 8:2 / /data/inner rw - ext4 /dev/sdc1 rw
a line that is none
"""
MOUNTS = [
    Mount("/sys", "sysfs"),
    Mount("/", "overlay"),
    Mount("/data/my bank.db", "ext4"),
    Mount("/data/inner", "xfs"),
    Mount("/data/inner", "ext4"),
]


def test_a_table_of_mounts_is_read_with_its_escapes() -> None:
    assert mounts_in(TABLE) == MOUNTS
    assert mounts_in(b"") == []


@pytest.mark.parametrize(
    ("path", "is_apart", "mounts", "problem"),
    [
        ("/data/bank.db", False, MOUNTS, None),
        ("/data/my bank.db", False, MOUNTS, ALONE),
        ("/data/my bank.db", True, MOUNTS, ALONE),
        ("/data/my", False, MOUNTS, None),
        ("/data/inner/bank.db", True, MOUNTS, APART),
        ("/data/innermost/bank.db", True, MOUNTS, None),  # an overlay, whose files have the devices of its layers
        ("/bank.db", True, MOUNTS, None),
        ("/data/bank.db", False, [], None),
        ("/data/bank.db", True, [], APART),
    ],
)
def test_a_file_is_refused_where_what_lies_beside_it_is_somewhere_else(
    path: str, is_apart: bool, mounts: list[Mount], problem: str | None
) -> None:
    assert mounted(path, is_apart, mounts) == problem


def test_the_table_of_mounts_of_this_system_is_understood_where_there_is_one() -> None:
    table = Path("/proc/self/mountinfo")
    if not table.exists():
        pytest.skip("needs a table of mounts, which this system has not")
    assert "/" in [mount.place for mount in mounts_in(table.read_bytes())]
