"""A relative path means what it meant when it was used first, whatever folder the program changes to afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import Engine, LogRefused, Replica, SqliteLog
from millstream.engine.client import Client
from millstream.engine.server import Server
from millstream.engine.upkeep import backup_log, verify_log
from millstream.engine.upkeep.atomic_file import created_whole
from tests.shop import Add, StockOf, shop

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test begins in a folder ``data``, and may go to this one."""
    for name in ("data", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "data")
    return tmp_path / "elsewhere"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_replica_follows_its_log_through_writers_that_come_and_go(tmp_path: Path, elsewhere: Path) -> None:
    log = tmp_path / "data" / "log.db"
    async with Engine(shop, log=log) as engine:
        await engine.execute(Add("tea", 1))
    async with Replica(shop, log="log.db") as replica:  # attached while nobody writes
        os.chdir(elsewhere)
        for stock in (2, 3):
            async with Engine(shop, log=log) as engine:
                receipt = await engine.execute(Add("tea", 1))
                assert await replica.ask(StockOf("tea"), after=receipt, timeout=10) == stock
        log.rename(tmp_path / "data" / "away.db")
        with anyio.fail_after(10):
            while replica.stats().problem is None:
                await anyio.lowlevel.checkpoint()
        (tmp_path / "data" / "away.db").rename(log)  # what was lost is attached to again
        async with Engine(shop, log=log) as engine:
            receipt = await engine.execute(Add("tea", 1))
            assert await replica.ask(StockOf("tea"), after=receipt, timeout=10) == 4
            assert replica.stats().lag_events == 0
    assert files(elsewhere) == []


async def test_an_engine_reads_writes_and_takes_snapshots_where_it_was_opened(tmp_path: Path, elsewhere: Path) -> None:
    log = SqliteLog("log.db")
    async with Engine(shop, log=log) as engine:
        os.chdir(elsewhere)
        await engine.execute(Add("tea", 1))
        assert (await verify_log(log)).commits == 1
        assert (await backup_log(log, "copy.db")).commits == 1
        assert log.size_bytes() > 0
    assert log.name == "log.db"
    assert files(tmp_path / "data") == ["log.db", "log.db-lock", "log.db-snapshots", "log.db-snapshots-lock"]
    assert files(elsewhere) == ["copy.db"]
    async with Engine(shop, log=tmp_path / "data" / "log.db") as engine:
        assert await engine.ask(StockOf("tea")) == 1


async def test_a_log_is_opened_where_the_program_is_then_and_not_where_it_was_named(
    tmp_path: Path, elsewhere: Path
) -> None:
    engine = Engine(shop, log="log.db")
    os.chdir(elsewhere)
    async with engine:
        await engine.execute(Add("tea", 1))
    assert (files(tmp_path / "data"), files(elsewhere)) == (
        [],
        ["log.db", "log.db-lock", "log.db-snapshots", "log.db-snapshots-lock"],
    )


async def test_a_folder_that_is_gone_is_named(elsewhere: Path) -> None:
    os.chdir(elsewhere)
    elsewhere.rmdir()
    for begin in (lambda: SqliteLog("log.db").open("shop"), SqliteLog("log.db").attach):
        with pytest.raises(
            LogRefused, match="the folder that the program is in is not there any more; name the log by"
        ):
            await begin()


async def test_a_client_finds_a_unix_socket_again_and_its_server_removes_it(tmp_path: Path, elsewhere: Path) -> None:
    async with Engine(shop, log="log.db") as engine:
        async with Server(engine, listen=["unix://socket"]) as server, Client("unix://socket") as client:
            await client.execute(Add("tea", 1))
            os.chdir(elsewhere)
            (connection,) = server.connections
            connection.abort("by the test")
            with anyio.fail_after(10):
                assert await client.ask(StockOf("tea")) == 1
                await client.execute(Add("tea", 1), command_id="again")
        assert "socket" not in files(tmp_path / "data")
    assert files(elsewhere) == []


async def test_a_file_that_is_made_whole_gets_its_name_where_it_was_begun(tmp_path: Path, elsewhere: Path) -> None:
    Path("like").touch(0o640)
    async with created_whole(Path("made"), like=Path("like")) as part:
        os.chdir(elsewhere)
        part.write_text("whole")
    assert (files(tmp_path / "data"), files(elsewhere)) == (["like", "made"], [])
