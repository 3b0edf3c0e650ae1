from __future__ import annotations

import sqlite3

import pytest

from millstream.engine import LogCorrupt, LogRefused
from millstream.engine.stores.sqlite.errors import nothing_written, refusal


def failed(code: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite puts it")
    error.sqlite_errorcode = getattr(sqlite3, code)
    return error


@pytest.mark.parametrize(
    ("code", "certain"),
    [
        ("SQLITE_FULL", True),
        ("SQLITE_BUSY", True),
        ("SQLITE_BUSY_SNAPSHOT", True),
        ("SQLITE_LOCKED", True),
        ("SQLITE_READONLY", True),
        ("SQLITE_READONLY_DBMOVED", True),
        ("SQLITE_TOOBIG", True),
        ("SQLITE_CANTOPEN", True),
        ("SQLITE_CANTOPEN_ISDIR", True),
        ("SQLITE_AUTH", True),
        ("SQLITE_IOERR_READ", True),
        ("SQLITE_IOERR_SHORT_READ", True),
        ("SQLITE_IOERR_CORRUPTFS", True),
        ("SQLITE_IOERR_WRITE", True),
        ("SQLITE_IOERR_LOCK", True),
        ("SQLITE_IOERR_SHMLOCK", True),
        ("SQLITE_IOERR_SHMOPEN", True),
        ("SQLITE_IOERR", False),
        ("SQLITE_IOERR_FSYNC", False),
        ("SQLITE_IOERR_DIR_FSYNC", False),
        ("SQLITE_IOERR_TRUNCATE", False),
        ("SQLITE_IOERR_SHMSIZE", False),
        ("SQLITE_IOERR_SHMMAP", False),
        ("SQLITE_IOERR_NOMEM", False),
        ("SQLITE_IOERR_CLOSE", False),
        ("SQLITE_CORRUPT", False),
        ("SQLITE_NOMEM", False),
        ("SQLITE_INTERNAL", False),
    ],
)
def test_only_what_fails_before_the_commit_is_whole_on_the_disk_is_certain(code: str, certain: bool) -> None:
    assert nothing_written(failed(code)) is certain


def test_what_the_driver_refuses_by_itself_never_reached_the_store() -> None:
    with sqlite3.connect(":memory:") as db, pytest.raises(sqlite3.Error) as raised:
        db.execute("SELECT ?", (object(),))
    assert nothing_written(raised.value)
    db.close()
    with pytest.raises(sqlite3.ProgrammingError) as closed:
        db.execute("SELECT 1")
    assert nothing_written(closed.value)
    assert not nothing_written(MemoryError())


def test_what_the_driver_could_not_even_quote_says_nothing_about_the_commit() -> None:
    with pytest.raises(UnicodeDecodeError) as raised:
        b"\xff".decode()
    assert not nothing_written(raised.value)
    assert nothing_written(ValueError("Connection closed"))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("SQLITE_NOTADB", "log bank.db is refused: it is not a database; name another file"),
        (
            "SQLITE_READONLY",
            "log bank.db is refused: it can't be written: as SQLite puts it; "
            "make the file, and its -wal if there is one, writable; or attach to read it",
        ),
        (
            "SQLITE_READONLY_ROLLBACK",
            "log bank.db is refused: a crash left a change half done, which only a writer can undo; "
            "open it with its engine",
        ),
        (
            "SQLITE_CANTOPEN",
            "log bank.db is refused: SQLite can't open it: as SQLite puts it; see that file and folder can be written",
        ),
        *(
            (
                code,
                "log bank.db is refused: the disk is full, or a quota or a limit on the size of files is reached: "
                "as SQLite puts it; make room, or attach to read it, which takes none",
            )
            for code in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")
        ),
        (
            "SQLITE_INTERRUPT",
            "log bank.db is damaged at commit 1: reading it takes more steps than a log of its size can need; "
            "no commit before it: restore a backup",
        ),
        (
            "SQLITE_CORRUPT",
            "log bank.db is damaged at commit 1: as SQLite puts it; no commit before it: restore a backup",
        ),
    ],
)
def test_what_can_not_be_opened_is_told_with_the_next_step(code: str, text: str) -> None:
    error = refusal("bank.db", failed(code))
    assert isinstance(error, LogRefused | LogCorrupt)
    assert str(error) == text
