from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from millstream.engine import Engine, LogCorrupt, LogRefused, MemoryLog, SqliteLog
from millstream.engine.upkeep import TargetRefused, Verified, attached, backup_log, verify_log
from tests.engine.upkeep.chains import FIVE, change, commits_in, in_file
from tests.shop import Add, StockOf, shop

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def test_a_backup_is_a_log_with_the_same_commits_in_one_file(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    before = names(tmp_path)
    found = await backup_log(path, tmp_path / "copy.db")
    assert (found.commits, found.events, found.digest) == (5, 7, FIVE[-1].digest)
    assert await commits_in(tmp_path / "copy.db") == FIVE
    assert names(tmp_path) == sorted([*before, "copy.db"])
    assert (tmp_path / "copy.db").read_bytes()[
        18:20
    ] == b"\x01\x01"  # not in WAL mode: readable where nothing can be written


async def test_a_backup_under_load_holds_what_was_acknowledged_before_it_and_is_a_beginning(tmp_path: Path) -> None:
    acknowledged = 0
    copies: list[tuple[int, Verified]] = []

    async def caller(name: str) -> None:
        nonlocal acknowledged
        for _ in range(60):
            receipt = await engine.execute(Add(name, 1))
            acknowledged = max(acknowledged, receipt.commit)

    async def back_up() -> None:
        for number in range(4):
            before = acknowledged
            copies.append((before, await backup_log(log, tmp_path / f"copy{number}.db")))

    log = SqliteLog(tmp_path / "log.db")
    async with Engine(shop, log=log) as engine:
        await engine.execute(Add("first", 1))
        acknowledged = 1
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(caller, f"item {number}")
            group.start_soon(back_up)
    whole = await commits_in(tmp_path / "log.db")
    assert len(copies) == 4
    for number, (before, found) in enumerate(copies):
        copied = await commits_in(tmp_path / f"copy{number}.db")
        assert before <= found.commits == len(copied) <= len(whole)
        assert copied == whole[: len(copied)]
        assert found.digest == copied[-1].digest


async def test_a_backup_of_a_log_that_another_process_writes_is_whole(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from millstream.engine import Engine\n"
        "from tests.shop import Add, shop\n"
        "async def main():\n"
        "    async with Engine(shop, log=sys.argv[1]) as engine:\n"
        "        while True:\n"
        "            receipts = [await engine.execute(Add('item', 1)) for _ in range(50)]\n"
        "            sys.stderr.write(f'{receipts[-1].commit}\\n')\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log.db")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as child:
        try:
            assert child.stderr is not None
            assert child.stderr.readline() == b"50\n"
            found = await backup_log(tmp_path / "log.db", tmp_path / "copy.db")
            assert child.stderr.readline().strip().isdigit()  # and it goes on
        finally:
            child.kill()
    assert found.commits >= 50
    copied = await commits_in(tmp_path / "copy.db")
    assert copied == (await commits_in(tmp_path / "log.db"))[: found.commits]


async def test_a_backup_opens_as_the_log_that_it_was(tmp_path: Path) -> None:
    async with Engine(shop, log=tmp_path / "log.db") as engine:
        await engine.execute(Add("nail", 7))
        await backup_log(tmp_path / "log.db", tmp_path / "copy.db")
        await engine.execute(Add("nail", 1))
    async with Engine(shop, log=tmp_path / "copy.db") as engine:
        assert await engine.ask(StockOf("nail")) == 7
        await engine.execute(Add("nail", 2))
        assert await engine.ask(StockOf("nail")) == 9


async def test_a_backup_is_restored_by_backing_it_up_to_the_logs_place(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE[:4])
    await backup_log(path, tmp_path / "copy.db")
    change(path, "UPDATE commits SET body = '[]' WHERE number = 2")
    path.rename(tmp_path / "damaged.db")
    assert (await backup_log(tmp_path / "copy.db", path)).digest == FIVE[3].digest
    await in_file(path, FIVE[4:])
    assert await commits_in(path) == FIVE


async def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    (tmp_path / "copy.db").write_text("the only copy of something", "utf-8")
    with pytest.raises(TargetRefused, match=r"copy\.db can't be made: it is there already"):
        await backup_log(path, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text("utf-8") == "the only copy of something"
    with pytest.raises(TargetRefused):
        await backup_log(path, path)


async def test_a_log_without_a_file_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(LogRefused, match=r"log memory: is refused: it has no file that could be copied; export it"):
        await backup_log(MemoryLog(), tmp_path / "copy.db")


async def test_a_log_that_is_not_there_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(LogRefused, match="it is not there"):
        await backup_log(tmp_path / "log.db", tmp_path / "copy.db")
    assert names(tmp_path) == []


async def test_a_damaged_log_gives_no_backup_and_its_own_name_in_the_error(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    change(path, "UPDATE commits SET body = replace(body, '4', '9') WHERE number = 4")
    before = names(tmp_path)
    with pytest.raises(LogCorrupt) as raised:
        await backup_log(path, tmp_path / "copy.db")
    assert (raised.value.log, raised.value.commit) == (str(path), 4)
    assert names(tmp_path) == before


async def test_a_backup_that_does_not_fit_fails_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="the limit that is reached is one of POSIX")
    path = await in_file(tmp_path / "log.db", FIVE)
    before = names(tmp_path)
    program = (
        "import asyncio, resource, sys\n"
        "from millstream.engine.upkeep import BackupFailed, backup_log\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    asyncio.run(backup_log(sys.argv[1], sys.argv[2]))\n"
        "except BackupFailed as error:\n"
        "    print(error)\n"
    )
    copy = tmp_path / "copy.db"
    done = subprocess.run([sys.executable, "-c", program, path, copy], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"log {path} was not copied to {copy}: ")
    assert names(tmp_path) == before


async def test_a_backup_tells_its_progress_and_verifies_as_the_log_does(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    told: list[Verified] = []
    await backup_log(path, tmp_path / "copy.db", progress=told.append)
    assert told[-1].commits == 5
    async with attached(tmp_path / "copy.db") as (copy, application):
        assert application == "bank"
        assert (await verify_log(copy, expect=FIVE[-1].digest)).expected_at == 5
