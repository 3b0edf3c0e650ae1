"""``millstream snapshot take``: beside a writer and without one, and what it refuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from millstream.engine import Engine, Limits, SqliteLog
from millstream.engine.client import Client
from millstream.engine.stores.sqlite.snapshots import SqliteSnapshots
from millstream.engine.upkeep import take_snapshots
from tests.engine.cli.running import Millstream, program, served
from tests.engine.recovery.held import broken_shop
from tests.shop import Add, StockOf, shop

ROOT = Path(__file__).parents[3]
PARTS = ["model Stock", "model Book", "ledger", "view Shelf", "view Pinboard", "view Fragile"]


@pytest.fixture
def millstream(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Millstream:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    return program(capsysbinary)


def written(adds: int, items: int = 1) -> None:
    """So many more events in a log whose snapshots nobody takes."""

    async def write() -> None:
        async with Engine(shop, log="shop.db", snapshots=False) as engine:
            await engine.execute_many([Add(f"a{index % items or ''}", 1) for index in range(adds)])

    anyio.run(write)


def stock(log_lines: list[Any], log: str = "shop.db") -> tuple[int, int]:
    """What an engine that opens the log says, and how many events it has replayed for that."""

    async def ask() -> int:
        async with Engine(shop, log=log) as engine:
            return await engine.ask(StockOf("a"))

    found = anyio.run(ask)
    return found, [line["replayed"] for line in log_lines if line["event"] == "opened"][-1]


def test_snapshots_are_taken_beside_a_running_writer_and_are_what_the_next_opening_begins_with(
    millstream: Millstream, tmp_path: Path, log_lines: list[Any]
) -> None:
    with served(shop, Path("shop.db"), tmp_path / "socket") as engine:
        anyio.run(three_added, tmp_path / "socket")
        ran = millstream("snapshot", "take", "tests.shop:shop", "shop.db", "--json")
        assert ran.code == 0
        assert engine.stats().snapshot_position == 0
        values = ran.values
        assert values.pop("seconds") > 0
        assert values.pop("size_bytes") > 50
        assert values.pop("parts") == PARTS
        assert values == {"log": "shop.db", "app": "tests.shop:shop", "position": 3, "is_whole": True}
        for name in ("shop.db", "shop.db-wal", "shop.db-snapshots"):
            (tmp_path / name.replace("shop", "crashed")).write_bytes((tmp_path / name).read_bytes())
    assert stock(log_lines, "crashed.db") == (3, 0)


async def three_added(socket: Path) -> None:

    async with Client(f"unix://{socket}") as client:
        for _ in range(3):
            await client.execute(Add("a", 1))


def test_snapshots_are_taken_without_a_writer_and_what_has_not_moved_is_not_stored_again(
    millstream: Millstream, log_lines: list[Any]
) -> None:
    written(5)
    ran = millstream("snapshot", "take", "tests.shop:shop", "shop.db")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("snapshots of shop.db are up to position 5\n")
    assert ran.figures["stored"] == ", ".join(PARTS)
    assert ran.figures["took"].endswith(" s")
    written(2)
    assert millstream("snapshot", "take", "tests.shop:shop", "sqlite:shop.db", "--json").values["position"] == 7
    again = millstream("snapshot", "take", "tests.shop:shop", "shop.db")
    assert (again.figures["stored"], again.figures["bytes"]) == ("nothing: they were there", "0")
    assert stock(log_lines) == (7, 0)


def test_a_log_without_commits_has_none(millstream: Millstream) -> None:
    written(0)
    ran = millstream("snapshot", "take", "tests.shop:shop", "shop.db", "--json")
    assert (ran.code, ran.values["position"], ran.values["parts"], ran.values["is_whole"]) == (0, 0, [], True)


def test_a_state_that_can_not_be_stored_is_exit_code_1_and_all_others_are(millstream: Millstream) -> None:
    written(5)
    ran = millstream("snapshot", "take", "tests.engine.recovery.held:broken_shop", "shop.db", "--json")
    assert ran.code == 1
    assert (ran.values["is_whole"], "view Complex" in ran.values["parts"]) == (False, False)
    assert len(ran.values["parts"]) == len(broken_shop.views) + 2
    assert "snapshot_failed" in ran.err
    assert "complex is unsupported" in ran.err


def test_where_somebody_takes_snapshots_already_it_is_refused(millstream: Millstream, tmp_path: Path) -> None:
    written(5)

    async def both() -> int:
        async with SqliteSnapshots(tmp_path / "shop.db-snapshots", like=tmp_path / "shop.db").taking():
            return (await anyio.to_thread.run_sync(millstream, "snapshot", "take", "tests.shop:shop", "shop.db")).code

    assert anyio.run(both) == 3
    assert not (tmp_path / "shop.db-snapshots").exists()
    assert millstream("snapshot", "take", "tests.shop:shop", "shop.db").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("tests.shop:shop", "memory:"), 3, "millstream: log memory: is refused: no other process can read it"),
        (("tests.shop:shop", "other.db"), 3, "millstream: log other.db is refused: it is not there"),
        (("tests.shop:nothing", "shop.db"), 5, "has no 'nothing'"),
        (("examples.bank:app", "shop.db"), 3, "millstream: log shop.db is refused: it belongs to application 'shop'"),
    ],
)
def test_what_can_not_be_done_is_one_line_and_an_exit_code(
    millstream: Millstream, arguments: tuple[str, str], code: int, said: str
) -> None:
    written(1)
    ran = millstream("snapshot", "take", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert said in ran.err


def test_a_damaged_log_is_exit_code_1_and_no_snapshot_is_taken_of_it(millstream: Millstream, tmp_path: Path) -> None:
    written(5)
    db = sqlite3.connect("shop.db")
    db.execute("UPDATE commits SET body = replace(body, '\"count\":1', '\"count\":9')")
    db.commit()
    db.close()
    ran = millstream("snapshot", "take", "tests.shop:shop", "shop.db")
    assert ran.code == 1
    assert "is damaged at commit" in ran.err


@pytest.mark.parametrize(
    ("bytes_max", "code", "said"), [(1, 4, "-lock"), (4_096, 4, ""), (70_000, 1, "snapshot_failed")]
)
def test_on_a_full_disk_the_file_that_can_not_be_written_is_named(
    millstream: Millstream, tmp_path: Path, bytes_max: int, code: int, said: str
) -> None:
    resource = pytest.importorskip("resource", reason="no limit for the size of files on this system")
    written(3_000, items=3_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        ran = millstream("snapshot", "take", "tests.shop:shop", "shop.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.code == code
    assert said in ran.err
    assert str(tmp_path / "shop.db-snapshots") in ran.err
    assert ": disk I/O error: the disk is full, or a quota" in ran.err


@pytest.mark.anyio
async def test_the_receipts_are_as_many_as_the_writer_remembers(tmp_path: Path, log_lines: list[Any]) -> None:
    path, limits = tmp_path / "shop.db", Limits(receipts_max=2)
    async with Engine(shop, log=path, limits=limits, snapshots=False) as engine:
        for number in range(5):
            await engine.execute(Add("a", 1), command_id=f"add-{number}")
    taken = await take_snapshots(SqliteLog(path), shop, limits=limits)
    assert (taken.position, taken.is_whole) == (5, True)
    async with Engine(shop, log=path, limits=limits) as engine:
        assert (await engine.execute(Add("a", 1), command_id="add-4")).repeated
        assert not (await engine.execute(Add("a", 1), command_id="add-0")).repeated
    assert [line["replayed"] for line in log_lines if line["event"] == "opened"] == [0, 0]
