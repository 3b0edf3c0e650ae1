from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.engine import Engine, SqliteLog
from millstream.engine.testing.stores.written import APP
from millstream.engine.upkeep import attached, backup_log, export_log, import_log
from tests.shop import Add, shop

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name != "posix", reason="only POSIX has these permissions")]

FILES = {
    "log.db",
    "log.db-lock",
    "log.db-snapshots",
    "log.db-wal",
    "log.db-shm",
    "log.db-snapshots-wal",
    "log.db-snapshots-lock",
}


@pytest.fixture(autouse=True, params=[0o022, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield int(request.param)
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def used(log: SqliteLog) -> dict[str, int]:
    """What lies there while an engine is open that has put a snapshot aside before."""
    async with Engine(shop, log=log) as engine:
        await engine.execute(Add("tea", 1))
    again = SqliteLog(log.path)
    async with Engine(shop, log=again) as engine:
        await engine.execute(Add("tea", 1))
        assert again.snapshots is not None
        await again.snapshots.kept()  # else its file rests
        return modes(log.path.parent)


@pytest.mark.parametrize(
    ("told", "mode"), [({}, 0o600), ({"permissions": 0o660}, 0o660), ({"permissions": 0o644}, 0o644)]
)
async def test_all_files_of_a_new_log_are_its_owners_alone_unless_something_else_was_said(
    tmp_path: Path, told: dict[str, int], mode: int
) -> None:
    found = await used(SqliteLog(tmp_path / "log.db", **told))
    assert found == dict.fromkeys(found, mode)
    assert found.keys() >= FILES


async def test_an_empty_file_keeps_its_permissions_and_gives_them_to_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    (tmp_path / "log.db").chmod(0o640)
    assert set((await used(SqliteLog(tmp_path / "log.db"))).values()) == {0o640}


async def test_a_log_that_others_may_read_stays_so(tmp_path: Path) -> None:
    await used(SqliteLog(tmp_path / "log.db", permissions=0o644))
    for name in ("log.db-lock", "log.db-snapshots", "log.db-snapshots-lock"):
        (tmp_path / name).unlink()
    assert set((await used(SqliteLog(tmp_path / "log.db"))).values()) == {0o644}


async def test_snapshots_that_are_made_anew_have_the_permissions_of_the_log(tmp_path: Path) -> None:
    await used(SqliteLog(tmp_path / "log.db", permissions=0o640))
    (tmp_path / "log.db-snapshots").write_bytes(b"damaged" * 1_000)
    found = await used(SqliteLog(tmp_path / "log.db"))
    assert found["log.db-snapshots"] == found["log.db-snapshots-damaged"] == 0o640


async def test_a_log_behind_a_link_that_leads_to_no_file_yet_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "log.db")
    log = SqliteLog(tmp_path / "link.db")
    await log.open(APP)
    assert set(modes(tmp_path / "real").values()) == {0o600}
    await log.close()


async def test_a_backup_and_a_log_that_is_imported_are_their_owners_alone_too(tmp_path: Path) -> None:
    await used(SqliteLog(tmp_path / "log.db"))
    (tmp_path / "copies").mkdir()
    await backup_log(tmp_path / "log.db", tmp_path / "copies" / "backup.db")
    with (tmp_path / "export").open("w+b") as file:
        async with attached(tmp_path / "log.db") as (log, application):
            await export_log(log, application, file)
        file.seek(0)
        await import_log(file, tmp_path / "copies" / "imported.db")
    assert modes(tmp_path / "copies") == dict.fromkeys(["backup.db", "imported.db", "imported.db-lock"], 0o600)
