"""What somebody did to a log's file beside its commits: it is refused by name, and nobody waits for it."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from millstream.engine import CommitFailed, LogCorrupt, LogRefused, SqliteLog
from millstream.engine.stores.sqlite.connection import STEPS_MIN, connect
from millstream.engine.testing.stores.written import APP, commits, read_all
from millstream.engine.upkeep import attached, verify_log
from tests.behaviour.test_old_files import made_from
from tests.engine.stores.sqlite.test_log import change, opened, written
from tests.loops import one_loop

pytestmark = pytest.mark.anyio

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS number FROM n"


async def verified(path: Path) -> None:
    async with attached(path) as (log, _):
        await verify_log(log)


both = pytest.mark.parametrize("find", [opened, verified])


@both
@pytest.mark.parametrize(
    ("statement", "added"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON commits BEGIN DELETE FROM commits WHERE number = 1; END", "the trigger 't'"),
        ("CREATE TRIGGER commits AFTER INSERT ON meta BEGIN DELETE FROM commits; END", "the trigger 'commits'"),
        ("CREATE TRIGGER t INSTEAD OF INSERT ON events BEGIN DELETE FROM commits; END", "the trigger 't'"),
        ("CREATE UNIQUE INDEX one_time ON commits (recorded_at)", "the index 'one_time'"),
        ("CREATE TABLE notes (text)", "the table 'notes'"),
        (f"CREATE VIEW later AS {ENDLESS}", "the view 'later'"),
    ],
)
async def test_whatever_somebody_added_to_the_schema_is_refused_by_name(
    tmp_path: Path, statement: str, added: str, find: Callable[[Path], Awaitable[None]]
) -> None:
    await written(tmp_path / "log.db")
    change(tmp_path / "log.db", statement)
    with pytest.raises(LogRefused) as raised:
        await find(tmp_path / "log.db")
    kind = added.split()[1].upper()
    assert str(raised.value) == (
        f"log {tmp_path / 'log.db'} is refused: its schema holds {added}, which millstream did not make; "
        f"remove it (DROP {kind} in the SQLite shell) and verify the log; what is yours goes into another file"
    )


@both
async def test_what_is_removed_again_leaves_a_log_that_opens(
    tmp_path: Path, find: Callable[[Path], Awaitable[None]]
) -> None:
    await written(tmp_path / "log.db")
    change(tmp_path / "log.db", "CREATE TABLE notes (text)", "DROP TABLE notes", "ANALYZE")  # statistics do nothing
    await find(tmp_path / "log.db")
    log = SqliteLog(tmp_path / "log.db")
    assert await log.attach() == APP
    await log.close()


async def test_a_trigger_that_is_made_while_the_log_is_open_never_runs(tmp_path: Path) -> None:
    path, log, written = tmp_path / "log.db", SqliteLog(tmp_path / "log.db"), commits(3)
    await log.open(APP)
    for commit in written[:2]:
        await log.append(commit)
    change(path, "CREATE TRIGGER t AFTER INSERT ON commits BEGIN DELETE FROM commits WHERE number = 1; END")
    with pytest.raises(
        CommitFailed, match="its schema holds a trigger, which millstream did not make and does not run"
    ):
        await log.append(written[2])
    assert await read_all(log) == written[:2]
    with pytest.raises(LogCorrupt, match="its schema holds the trigger 't', which millstream did not make"):
        await verify_log(log)
    change(path, "DROP TRIGGER t")
    await log.append(written[2])
    assert await read_all(log) == written
    await log.close()


@both
async def test_a_view_that_never_ends_in_the_place_of_the_commits_is_not_read(
    tmp_path: Path, find: Callable[[Path], Awaitable[None]]
) -> None:
    await written(tmp_path / "log.db")
    change(tmp_path / "log.db", "DROP TABLE commits", f"CREATE VIEW commits AS {ENDLESS}")
    with anyio.fail_after(20), pytest.raises(LogCorrupt, match="says of 'commits' is not what millstream made"):
        await find(tmp_path / "log.db")


async def test_a_statement_that_never_ends_is_stopped_and_the_next_one_has_all_of_its_steps() -> None:
    db = await connect(":memory:", steps_max=STEPS_MIN)
    await db.rows("CREATE TABLE t (i)")
    await db.rows(f"INSERT INTO t SELECT value FROM json_each('{list(range(1_000))}')")
    with anyio.fail_after(60):
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                await db.rows("SELECT sum(a.i) FROM t a, t b, t c, t d")
            assert await db.rows("SELECT sum(a.i * b.i) FROM t a, t b") == [(499_500**2,)]
    await db.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_pages_that_lead_to_the_same_rows_again_and_again_are_damage(tmp_path: Path) -> None:
    path, log = tmp_path / "log.db", SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    for commit in commits(40, events=20):
        await log.append(commit)
    await log.close()
    loop(path)
    with anyio.fail_after(60), pytest.raises(LogCorrupt, match="takes more steps than a log of its size can need"):
        await verified(path)


def loop(path: Path) -> None:
    """Make the table's root lead to the same page 300 times, that one to the next one, and so on: 2 billion rows."""
    db = sqlite3.connect(path)
    ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'commits'")
    db.close()
    data = bytearray(path.read_bytes())
    first = 4096 * (root - 1)
    assert data[first] == 5, "the root has children"
    (children,) = struct.unpack_from(">H", data, first + 3)
    places = struct.unpack_from(f">{children}H", data, first + 12)
    pages = [root, *(struct.unpack_from(">I", data, first + place)[0] for place in places)]
    for page, child in pairwise(pages[:5]):
        data[4096 * (page - 1) : 4096 * page] = inner_page(child)
    path.write_bytes(data)


def inner_page(child: int) -> bytes:
    """A page of a table with 300 cells that lead to one page (https://www.sqlite.org/fileformat2.html#b_tree_pages)."""
    cells, start = 300, 4096 - 5 * 300
    header = struct.pack(">BHHHBI", 5, 0, cells, start, 0, child)
    pointers = struct.pack(f">{cells}H", *range(start, 4096, 5))
    body = header + pointers
    return body + bytes(start - len(body)) + struct.pack(">IB", child, 1) * cells


# Whose it is.


def meta(path: Path) -> dict[str, str]:
    db = sqlite3.connect(path)
    found = dict(db.execute("SELECT name, value FROM meta").fetchall())
    db.close()
    return found


@one_loop
@both
async def test_each_changed_character_of_what_says_whose_log_it_is_is_found(
    tmp_path: Path, find: Callable[[Path], Awaitable[None]]
) -> None:
    await written(tmp_path / "log.db")
    whole = (tmp_path / "log.db").read_bytes()
    looked_at = 0
    for name, value in meta(tmp_path / "log.db").items():
        for index in range(len(value)):
            changed = value[:index] + chr(ord(value[index]) ^ 1) + value[index + 1 :]
            change(tmp_path / "log.db", f"UPDATE meta SET value = '{changed}' WHERE name = '{name}'")
            with pytest.raises((LogCorrupt, LogRefused), match="meta table"):
                await find(tmp_path / "log.db")
            (tmp_path / "log.db").write_bytes(whole)
            looked_at += 1
    assert looked_at == len("conformance") + len("2") + 32 + 32
    for statement in (
        "UPDATE meta SET name = 'formau' WHERE name = 'format'",
        "DELETE FROM meta WHERE name = 'format'",
        "INSERT INTO meta VALUES ('more', '')",
        "DELETE FROM meta WHERE name = 'log'",
        "PRAGMA user_version=0",
    ):
        change(tmp_path / "log.db", statement)
        with pytest.raises(LogCorrupt, match="its meta table and its header say different things about its format"):
            await find(tmp_path / "log.db")
        (tmp_path / "log.db").write_bytes(whole)
    await find(tmp_path / "log.db")


async def test_a_log_of_0_1_gets_its_id_and_its_checksum_from_the_first_writer_whose_log_it_is(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    made_from("bank.sql", path)
    before = meta(path)
    assert before == {"application": "bank", "format": "1"}
    await verified(path)
    log = SqliteLog(path)
    with pytest.raises(LogRefused, match="belongs to application 'bank', not to 'other'"):
        await log.open("other")
    assert meta(path) == before
    await log.open("bank")
    await log.close()
    after = meta(path)
    assert after == {"application": "bank", "format": "2", "log": log.id, "checksum": after["checksum"]}
    await log.open("bank")
    await log.close()
    assert meta(path) == after
    await verified(path)


@both
async def test_a_log_that_needs_what_is_not_known_is_refused_by_name(
    tmp_path: Path, find: Callable[[Path], Awaitable[None]]
) -> None:
    """A snapshot may cover the commits that need it, so the log says so itself."""
    await written(tmp_path / "log.db")
    rows = {name: value for name, value in meta(tmp_path / "log.db").items() if name != "checksum"} | {
        "needs": "forgetting"
    }
    text = "".join(f"{name}={value}\n" for name, value in sorted(rows.items()))
    checksum = blake2b(text.encode(), digest_size=16).hexdigest()
    change(
        tmp_path / "log.db",
        "INSERT INTO meta VALUES ('needs', 'forgetting')",
        f"UPDATE meta SET value = '{checksum}' WHERE name = 'checksum'",
    )
    with pytest.raises(
        LogRefused, match="it needs what this millstream does not know: 'forgetting'; update millstream"
    ):
        await find(tmp_path / "log.db")
