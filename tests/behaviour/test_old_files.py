"""What 0.1 wrote, under the project's old name, opens unchanged: a log, its snapshots, an export.

The files are made from text that was dumped from real ones, so that a reader can see what is in them.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from millstream.engine import CommandIdReused, Engine, LogRefused, Metadata, Receipt, SqliteLog
from millstream.engine.commits.commit import Head, seal
from millstream.engine.commits.marks import LOG_APPLICATION_ID, SNAPSHOTS_APPLICATION_ID
from millstream.engine.stores.sqlite import schema
from millstream.engine.upkeep import Downgrade, attached, export_log, import_log, stored_events, verify_log
from tests.behaviour.written_by_0_1.bank import BalanceOf, Deposit, Transfer, app
from tests.support import remarkable

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
    assert remarkable(lines) == ["log_upgraded"]


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
    today, then = (path.read_bytes().split(b"\n") for path in (tmp_path / "again.jsonl", WRITTEN / "bank.jsonl"))
    assert today == [then[0].replace(b'"format":1', b'"format":2'), *then[1:]]


async def upgraded(log: Path) -> Receipt:
    """Open the log of 0.1 for writing, and let it go on."""
    async with Engine(app, log=log, snapshots=False) as engine:
        await engine.execute_many([Deposit("ann", 5), Deposit("bob", 6)], metadata=Metadata("eve", trace="00-1"))
        return await engine.execute(
            Transfer("bob", "ann", 1), command_id="t-2", metadata=Metadata("eve", extra={"a": "b"})
        )


def events_in_sql(log: Path, columns: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(log)) as db:
        return db.execute(f"SELECT {columns} FROM events ORDER BY position").fetchall()


async def test_a_log_that_began_in_format_1_goes_on_in_format_2_and_is_whole(log: Path) -> None:
    before = events_in_sql(log, "position, number, recorded_at, type, key, data, command_id")
    with capture_logs() as lines:
        receipt = await upgraded(log)
    (line,) = [line for line in lines if line["event"] == "log_upgraded"]
    assert (line["from_format"], line["to_format"]) == (1, 2)
    assert (receipt.position, receipt.version) == (9, 4)
    assert events_in_sql(log, "position, number, recorded_at, type, key, data, command_id")[:5] == before
    assert events_in_sql(log, "position, number, key, command, command_id, actor, trace, extra")[3:] == [
        (4, 3, "ann", "Transfer", "t-1", None, None, None),
        (5, 3, "bob", "Transfer", "t-1", None, None, None),
        (6, 4, "ann", "Deposit", None, "eve", "00-1", None),
        (7, 4, "bob", "Deposit", None, "eve", "00-1", None),
        (8, 5, "bob", "Transfer", "t-2", "eve", None, '{"a":"b"}'),
        (9, 5, "ann", "Transfer", "t-2", "eve", None, '{"a":"b"}'),
    ]
    async with attached(log) as (found, application):
        verified = await verify_log(found, expect=LAST_DIGEST)
        assert (application, found.id is not None, verified.commits, verified.expected_at) == ("bank", True, 5, 3)
        shown = [event async for event in stored_events(found, after=7)]
    assert [(event.command, event.actor, event.extra) for event in shown] == [("Transfer", "eve", {"a": "b"})] * 2
    with capture_logs() as lines:
        async with Engine(app, log=log) as engine:
            assert [await engine.ask(BalanceOf(name)) for name in ("ann", "bob")] == [76, 35]
            for command_id, command in (("t-1", Transfer("ann", "bob", 30)), ("t-2", Transfer("bob", "ann", 1))):
                actor = None if command_id == "t-1" else "eve"
                repeated = await engine.execute(command, command_id=command_id, metadata=Metadata(actor))
                assert repeated.repeated
                with pytest.raises(CommandIdReused):
                    await engine.execute(command, command_id=command_id, metadata=Metadata("mallory"))
    assert "log_upgraded" not in [line["event"] for line in lines]


async def test_reading_a_log_of_format_1_changes_nothing(log: Path) -> None:
    before = log.read_bytes()
    async with attached(log) as (found, _):
        assert (found.id, (await verify_log(found)).digest) == (None, LAST_DIGEST)
        assert [event.position async for event in stored_events(found)] == [1, 2, 3, 4, 5]
    assert (log.read_bytes(), marks_of(log)) == (before, (LOG_APPLICATION_ID, 1))


async def test_an_upgrade_that_fails_leaves_the_log_as_it_was(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise OSError("the disk went away")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "_write_meta", fails)
        with pytest.raises(LogRefused, match="the disk went away"):
            await upgraded(log)
    assert marks_of(log) == (LOG_APPLICATION_ID, 1)
    async with attached(log) as (found, _):
        assert (await verify_log(found)).digest == LAST_DIGEST
    assert (await upgraded(log)).position == 9


async def test_the_way_back_is_an_export_that_0_1_imports(log: Path, tmp_path: Path) -> None:
    """Byte for byte what 0.1 wrote, where it wrote it; and of what came since, what it has a place for."""
    await upgraded(log)
    downgrade = Downgrade("bank.db")
    async with attached(log) as (found, application):
        with (tmp_path / "back.jsonl").open("wb") as file:
            await export_log(found, application, file, downgrade=downgrade)
    lines = (tmp_path / "back.jsonl").read_bytes().splitlines()
    assert lines[:4] == (WRITTEN / "bank.jsonl").read_bytes().splitlines()
    assert downgrade.dropped == {"tenure": 1, "trace": 2, "extra": 1}
    *_, last = map(json.loads, lines)
    assert (last["number"], last["digest"]) == (5, downgrade.head.digest.hex())
    assert last["body"] == [
        {
            "type": "Transfer",
            "key": "bob",
            "id": "t-2",
            "payload": last["body"][0]["payload"],
            "actor": "eve",
            "keys": ["bob", "ann"],
            "events": [
                {"type": "Withdrawn", "account": "bob", "amount": 1},
                {"type": "Deposited", "account": "ann", "amount": 1},
            ],
        }
    ]
    with (tmp_path / "back.jsonl").open("rb") as file:
        imported = await import_log(file, tmp_path / "back.db")
    assert imported.digest == downgrade.head.digest
    assert events_in_sql(tmp_path / "back.db", "position, type, key, data, command_id, actor") == events_in_sql(
        log, "position, type, key, data, command_id, actor"
    )


async def test_what_needs_a_newer_format_has_no_way_back() -> None:
    for needs, problem in (("forgetting", "what this millstream does not know: 'forgetting'"), ("agenda", "'agenda'")):
        body = b'{"events":[],"commands":0,"needs":["%b"]}' % needs.encode()
        with pytest.raises(LogRefused, match=f"commit 1 needs {problem}"):
            Downgrade("bank.db").take(seal(Head(), "2026-01-01T00:00:00.000000Z", body))


async def test_new_files_have_the_marks_of_old_ones(tmp_path: Path, log: Path) -> None:
    made_from("bank-snapshots.sql", tmp_path / "old-snapshots")
    async with Engine(app, log=tmp_path / "new.db") as engine:
        await engine.execute_many([Deposit("nobody", 1)], metadata=Metadata(actor="ann"))
    assert (marks_of(tmp_path / "new.db"), marks_of(log)) == ((LOG_APPLICATION_ID, 2), (LOG_APPLICATION_ID, 1))
    assert marks_of(tmp_path / "old-snapshots") == (SNAPSHOTS_APPLICATION_ID, 2)
    assert marks_of(tmp_path / "new.db-snapshots") == (SNAPSHOTS_APPLICATION_ID, 3)
    assert (LOG_APPLICATION_ID.to_bytes(4), SNAPSHOTS_APPLICATION_ID.to_bytes(4)) == (b"PSTK", b"PSTS")
