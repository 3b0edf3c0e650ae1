"""What is planned from a seed, and how a WAL is read and torn: pure functions, the WAL's beside SQLite itself."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from millstream.bench.proofs.torture.plan import Ending, round_of, shots
from millstream.bench.proofs.torture.wal import (
    HEADER_BYTES,
    Damage,
    Tear,
    lost_transactions,
    torn,
    transactions,
)

# The plan.


def test_a_seed_gives_the_same_plan_always_and_another_seed_another_one() -> None:
    assert [round_of(7, number) for number in range(50)] == [round_of(7, number) for number in range(50)]
    assert [round_of(7, number) for number in range(50)] != [round_of(8, number) for number in range(50)]
    assert shots(7, 50, 50) == shots(7, 50, 50)
    assert shots(7, 50, 50) != shots(8, 50, 50)


def test_a_long_run_does_everything_in_all_ways() -> None:
    rounds = [round_of(1, number) for number in range(200)]
    assert {plan.ending for plan in rounds} == set(Ending)
    assert {plan.loop for plan in rounds} == {"asyncio", "uvloop"}
    for feature in ("again", "checkpoints", "on_copy", "at_answer", "at_call"):
        assert {getattr(plan, feature) for plan in rounds} == {True, False}, feature
    assert {plan.stopped_ms > 0 for plan in rounds} == {plan.stalled_ms > 0 for plan in rounds} == {True, False}
    assert {plan.ending for plan in rounds if plan.at_call} == {Ending.LOAD}
    rivals = [plan for plan in rounds if plan.rival_after_ms is not None]
    assert len(rivals) > 10
    assert {plan.ending for plan in rivals} == {Ending.LOAD}
    assert not any(plan.under_load for plan in rivals)
    assert 10 < sum(plan.fresh for plan in rounds) < 30
    assert {plan.ending for plan in rounds if plan.fresh} >= {Ending.OPENING, Ending.LOAD}


@pytest.mark.parametrize("seed", range(20))
def test_the_shortest_run_has_a_round_in_which_images_can_be_taken(seed: int) -> None:
    first = round_of(seed, 0)
    assert (first.fresh, first.ending, first.rival_after_ms, first.under_load) == (True, Ending.LOAD, None, True)
    assert {number: len(dealt) for number, dealt in shots(seed, 1, 5).items()} == {0: 5}


def test_as_many_images_are_dealt_as_were_asked_for_and_only_to_rounds_that_have_time() -> None:
    for count in (0, 1, 99, 500):
        dealt = shots(3, 100, count)
        assert sum(map(len, dealt.values())) == count
        assert all(round_of(3, number).under_load for number, those in dealt.items() if those)
    tears = [shot.tear for those in shots(3, 100, 500).values() for shot in those]
    assert {tear.damage for tear in tears if tear} == set(Damage)
    assert {tear.late for tear in tears if tear} == {True, False}
    assert 80 < tears.count(None) < 170


# The WAL.


def wal_with(folder: Path, commits: int) -> Path:
    """A database with so many transactions in its WAL, one row each, every third one longer than a page."""
    original = folder / "original.db"
    with closing(sqlite3.connect(original, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL").fetchall()
        db.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, body TEXT)")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for number in range(1, commits + 1):
            db.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * (10_000 if number % 3 == 0 else 100)))
        copy = folder / "copy.db"
        for part in ("", "-wal"):
            shutil.copyfile(f"{original}{part}", f"{copy}{part}")
    return copy


def rows_in(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as db:
        return [number for (number,) in db.execute("SELECT number FROM t ORDER BY number")]


@pytest.mark.parametrize("damage", list(Damage))
def test_sqlite_finds_the_transactions_before_a_tear_and_none_behind_it(tmp_path: Path, damage: Damage) -> None:
    copy, commits = wal_with(tmp_path, 7), 7
    wal = Path(f"{copy}-wal").read_bytes()
    ends = transactions(wal)
    assert len(ends) == commits
    assert ends[-1] == len(wal)
    places = [0, 5, HEADER_BYTES, *(end + by for end in ends for by in (-1, 0, 1) if end + by <= len(wal))]
    for place in places:
        database = tmp_path / f"torn {place}.db"
        shutil.copyfile(copy, database)
        Path(f"{database}-wal").write_bytes(torn(wal, place, damage, Random(1)))
        left = commits - lost_transactions(ends, place)
        assert rows_in(database) == list(range(1, left + 1)), place


def test_frames_from_before_the_wal_was_begun_anew_do_not_count(tmp_path: Path) -> None:
    original = tmp_path / "original.db"
    with closing(sqlite3.connect(original, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL").fetchall()
        db.execute("CREATE TABLE t (number INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(1, 6)])
        long = len(transactions(Path(f"{original}-wal").read_bytes()))
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        db.execute("INSERT INTO t VALUES (6)")
        wal = Path(f"{original}-wal").read_bytes()
    assert (long, len(transactions(wal))) == (6, 1)
    assert transactions(b"\0" + wal[1:]) == []
    assert transactions(wal)[0] < len(wal)


@pytest.mark.parametrize("wal", [b"", b"short", bytes(4_096), b"no header " * 500])
def test_what_is_no_wal_has_no_transactions(wal: bytes) -> None:
    assert transactions(wal) == []


def test_a_tear_lies_where_its_share_says() -> None:
    ends = [100, 200, 300, 400]
    assert [Tear(Damage.CUT, share, late=False).place(ends, 1_000) for share in (0, 0.5, 1)] == [0, 200, 400]
    assert [Tear(Damage.CUT, share, late=True).place(ends, 1_000) for share in (0, 0.5, 1)] == [200, 600, 1_000]
    assert [Tear(Damage.CUT, 0.5, late).place([], 1_000) for late in (True, False)] == [500, 500]
    assert [lost_transactions(ends, place) for place in (0, 99, 100, 399, 400, 999)] == [4, 4, 3, 1, 0, 0]


def test_a_torn_file_is_the_same_before_the_tear_and_as_long_unless_it_is_cut() -> None:
    wal = bytes(range(1, 101))
    assert torn(wal, 60, Damage.CUT, Random(1)) == wal[:60]
    assert torn(wal, 60, Damage.ZEROED, Random(1)) == wal[:60] + bytes(40)
    garbage = torn(wal, 60, Damage.GARBAGE, Random(1))
    assert (garbage[:60], len(garbage)) == (wal[:60], 100)
    assert garbage[60:] not in (wal[60:], bytes(40))
