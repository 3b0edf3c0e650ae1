"""What only a log in a SQLite file has: rows that no reader looks at, pages, and a way to copy all of it at once.

What is not async blocks, on a connection of its own that can't write, and is called in a thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from millstream.engine.errors import LogCorrupt
from millstream.engine.stores.sqlite.connection import Steps, steps_of
from millstream.engine.stores.sqlite.errors import ERRORS, is_damage, primary_code, text_of
from millstream.engine.stores.sqlite.resting import QuietFiles, reading_address
from millstream.engine.stores.sqlite.schema import META, SCHEMA, added_to, changed_in, meta_in

__all__ = ["check_rows", "check_structure", "copy_pages"]

_BUSY_SECONDS_MAX = 5.0

#: Rows that no reader comes to, and bodies that the view ``events`` can't read, because a column's type binds no writer
#: (https://www.sqlite.org/datatype3.html).
_STRANGE_ROW = "SELECT number FROM commits WHERE number < 1 OR typeof(body) <> 'text' ORDER BY number LIMIT 1"

T = TypeVar("T")


def check_rows(path: Path) -> None:
    """That no row of the table is one that readers pass over. Pages that can't be read are: reading comes to them.

    Raises:
        LogCorrupt: one is.
        sqlite3.Error, OSError: the file can't be read now.
    """
    try:
        found = _read(path, lambda db: db.execute(_STRANGE_ROW).fetchone())
    except ERRORS as error:
        if is_damage(error) and primary_code(error) != sqlite3.SQLITE_INTERRUPT:
            return
        if not is_damage(error):
            raise
        raise LogCorrupt(str(path), 1, text_of(error)) from error
    if found:
        number = found[0]
        problem = f"there is a row with the number {number}" if number < 1 else "its body is not stored as text"
        raise LogCorrupt(str(path), max(1, number), problem)


def check_structure(path: Path, commits: int) -> None:
    """That the file's pages make up a database (https://www.sqlite.org/pragma.html#pragma_integrity_check) with the
    tables and views of a log, nothing else, and the table ``meta`` as it was written.

    Args:
        path: the log's file.
        commits: how many commits were found to be whole; for the error.

    Raises:
        LogCorrupt: they don't.
        sqlite3.Error, OSError: the file can't be read now.
    """
    try:
        problem = _read(path, _problem_in)
    except ERRORS as error:
        if not is_damage(error):
            raise
        problem = text_of(error)
    if problem is not None:
        text = " ".join(problem.split())
        raise LogCorrupt(str(path), commits + 1, f"every commit that is found is whole, but the file is not: {text}")


def _problem_in(db: sqlite3.Connection) -> str | None:
    schema = db.execute(SCHEMA).fetchall()
    ((version,),) = db.execute("PRAGMA user_version")
    if changed := changed_in(schema, version):
        return changed
    if added := added_to(schema):
        return "its schema holds the {} {!r}, which millstream did not make".format(*added)
    _, wrong = meta_in(db.execute(META), version)
    if wrong:
        return wrong
    ((found,),) = db.execute("PRAGMA integrity_check(1)")
    return None if found == "ok" else str(found)


def copy_pages(path: Path, target: Path) -> None:
    """Copy a log's pages as they are at one moment into a file, which is durable when this returns.

    All in one step (https://www.sqlite.org/backup.html), so a commit that comes meanwhile does not make it begin again;
    a log in WAL mode is written on while it is read. The copy is one file, not in WAL mode: it can lie on a medium that
    can't be written, and opening it as a log puts it into WAL mode again.

    Raises:
        sqlite3.Error, OSError: one can't be read, or the other not be written. What ``target`` holds then is nothing.
    """
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous=OFF")  # synced below, once; if that is not reached, the copy is thrown away
        _read(path, lambda db: db.backup(copy))
        copy.execute("PRAGMA journal_mode=DELETE")
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _read(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """What ``work`` makes of a connection that leaves no trace; done again if a process began to write meanwhile."""
    while True:
        resting = QuietFiles.look(path)
        with closing(sqlite3.connect(reading_address(path, resting), uri=True, timeout=_BUSY_SECONDS_MAX)) as db:
            Steps(db, steps_of(os.stat(path).st_size))  # for all that is looked at together
            try:
                result = work(db)
            except ERRORS:
                if resting is None or resting.holds(path):
                    raise
                continue
        if resting is None or resting.holds(path):
            return result
