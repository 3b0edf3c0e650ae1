"""What 0.1 wrote, under the project's old name, opens unchanged: a log, its snapshots, an export.

The files are made from text that was dumped from real ones, so that a reader can see what is in them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from millstream.engine import Engine, Metadata, Receipt, SqliteLog
from millstream.engine.commits.marks import LOG_APPLICATION_ID, SNAPSHOTS_APPLICATION_ID
from millstream.engine.upkeep import export_log, import_log, verify_log
from tests.behaviour.written_by_0_1.bank import BalanceOf, Deposit, Transfer, app

pytestmark = pytest.mark.anyio

WRITTEN = Path(__file__).parent / "written_by_0_1"
LAST_DIGEST = bytes.fromhex("3ba35ca722e697c5668adbdb6bae6e93d0c0d55afd810ceb8fe7cb2f533490c3")


def made_from(text: str, file: Path) -> None:
    db = sqlite3.connect(file)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript((WRITTEN / text).read_text("utf-8"))
    finally:
        db.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    made_from("bank.sql", tmp_path / "bank.db")
    return tmp_path / "bank.db"


def marks_of(file: Path) -> tuple[int, int]:
    db = sqlite3.connect(file)
    try:
        return db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]
    finally:
        db.close()


async def test_a_log_and_its_snapshots_open_and_the_snapshots_are_used(log: Path) -> None:
    made_from("bank-snapshots.sql", log.with_name("bank.db-snapshots"))
    with capture_logs() as lines:
        async with Engine(app, log=log) as engine:
            assert await engine.ask(BalanceOf("ann")) == 70
            repeated = await engine.execute(Transfer("ann", "bob", 30), command_id="t-1")
            receipt = await engine.execute(Deposit("bob", 1))
            assert await engine.ask(BalanceOf("bob"), after=receipt) == 31
    assert repeated == Receipt(commit=3, position=5, events=2, command_id="t-1", version=3, repeated=True)
    (opened,) = [line for line in lines if line["event"] == "opened"]
    assert (opened["commits"], opened["events"], opened["replayed"]) == (3, 5, 0)
    assert not [line for line in lines if line["log_level"] != "info"]


async def test_without_its_snapshots_the_log_says_the_same(log: Path) -> None:
    with capture_logs() as lines:
        async with Engine(app, log=log) as engine:
            assert (await engine.ask(BalanceOf("ann")), await engine.ask(BalanceOf("bob"))) == (70, 30)
    assert next(line["replayed"] for line in lines if line["event"] == "opened") == 5


async def test_an_export_is_imported_and_a_log_exported_as_it_was(log: Path, tmp_path: Path) -> None:
    with (WRITTEN / "bank.jsonl").open("rb") as file:
        imported = await import_log(file, tmp_path / "imported.db")
    store = SqliteLog(tmp_path / "imported.db")
    application = await store.attach()
    try:
        verified = await verify_log(store, expect=LAST_DIGEST)
        assert (imported.digest, imported.commits, imported.events) == (verified.digest, 3, 5)
        with (tmp_path / "again.jsonl").open("wb") as file:
            await export_log(store, application, file)
    finally:
        await store.close()
    assert (tmp_path / "again.jsonl").read_bytes() == (WRITTEN / "bank.jsonl").read_bytes()


async def test_new_files_have_the_marks_of_old_ones(tmp_path: Path, log: Path) -> None:
    made_from("bank-snapshots.sql", tmp_path / "old-snapshots")
    async with Engine(app, log=tmp_path / "new.db") as engine:
        await engine.execute_many([Deposit("nobody", 1)], metadata=Metadata(actor="ann"))
    assert marks_of(tmp_path / "new.db") == marks_of(log) == (LOG_APPLICATION_ID, 1)
    assert marks_of(tmp_path / "new.db-snapshots") == marks_of(tmp_path / "old-snapshots")
    assert (LOG_APPLICATION_ID.to_bytes(4), SNAPSHOTS_APPLICATION_ID.to_bytes(4)) == (b"PSTK", b"PSTS")
