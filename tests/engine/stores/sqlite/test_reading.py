from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from millstream.engine import LogRefused, SqliteLog
from millstream.engine.testing.stores.written import APP


async def refused(path: Path, message: str) -> None:
    log = SqliteLog(path)
    with pytest.raises(LogRefused, match=message):
        await log.attach()
    with pytest.raises(LogRefused, match=message):
        await log.open(APP)


def test_what_can_not_be_opened_leaves_no_thread_behind_when_the_loop_is_closed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    (tmp_path / "log.db").mkdir()
    for _ in range(20):
        asyncio.run(refused(tmp_path / "log.db", "SQLite can't open it"))
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and "worker" in thread.name:
            thread.join()
    assert raised == []


@pytest.mark.anyio
async def test_a_log_that_another_program_took_out_of_wal_mode_and_changes_is_refused_to_a_reader(
    tmp_path: Path,
) -> None:
    log = SqliteLog(tmp_path / "log.db")
    await log.open(APP)
    await log.close()
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as db:
        assert db.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        db.execute("BEGIN")
        db.execute("CREATE TABLE notes (text)")
        with pytest.raises(LogRefused, match=r"its files changed meanwhile: .*log\.db-wal'; open it again"):
            await log.attach()
        db.execute("ROLLBACK")
    assert await log.attach() == APP
    await log.close()
