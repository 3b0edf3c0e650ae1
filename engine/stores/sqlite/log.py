"""The log in one SQLite file: the default store.

One commit is one row, written by one statement in its own transaction, with one fsync: ``journal_mode=WAL`` and
``synchronous=FULL`` (https://www.sqlite.org/pragma.html#pragma_synchronous). Row-at-a-time inserts from a worker
thread collapse a hundredfold under a busy event loop, because the interpreter lock changes hands at every row.

Three connections: one appends; one reads, so that a view that catches up never delays a commit; one holds the lock.
The lock is an exclusive transaction on an empty database beside the log (``bank.db-lock``): the operating system drops
it when the process ends, however it ends, and readers of the log itself are not disturbed.

What may not happen, whatever fails: a commit is acknowledged and gone later, or refused and there later.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import anyio

from millstream.engine.commits.commit import FORMAT, Commit, Head
from millstream.engine.errors import CommitFailed, Fenced, LogCorrupt, LogLocked, LogRefused
from millstream.engine.loop.threads import in_thread
from millstream.engine.stores.following import AppendSignal, followed
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.settling import settled_by_probe
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.stores.sqlite import inspection
from millstream.engine.stores.sqlite.appending import Appender, checked_alone, settle_promise
from millstream.engine.stores.sqlite.connection import Database, connect, require_version, runs_no_trigger, steps_of
from millstream.engine.stores.sqlite.errors import (
    ERRORS,
    MAKE_ROOM,
    WRITABLE,
    no_room,
    nothing_written,
    refusal,
    text_of,
)
from millstream.engine.stores.sqlite.files import NEXT_STEP, FileWatch
from millstream.engine.stores.sqlite.leader import forget_leader, leader_beside, say_leader
from millstream.engine.stores.sqlite.locks import free, locked
from millstream.engine.stores.sqlite.names import require_one_path
from millstream.engine.stores.sqlite.permissions import OWNER_ONLY, make_like, make_with
from millstream.engine.stores.sqlite.reading import SqliteReader
from millstream.engine.stores.sqlite.resting import lacking_room
from millstream.engine.stores.sqlite.schema import (
    BODY_BYTES_MAX,
    PROBE,
    Writing,
    check_pages,
    create,
    is_empty,
    meta_of,
    upgrade,
)
from millstream.engine.stores.sqlite.snapshots import SqliteSnapshots
from millstream.engine.stores.sqlite.wal import WalSize, missing_from

__all__ = ["CHECKPOINT_PAGES", "SqliteLog"]

#: Pages in the ``-wal`` from which a commit moves them into the database, while its callers wait: 3.5 ms for so many,
#: 25 ms for 4,000. Commits of one command are faster, too, with a short ``-wal``.
CHECKPOINT_PAGES = 500
#: How often a lock that another writer has is tried.
_TURN_SECONDS = 0.1
_WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "fullfsync=1",  # macOS, where fsync alone leaves it in the drive's cache; nothing elsewhere
    f"wal_autocheckpoint={CHECKPOINT_PAGES}",
    f"journal_size_limit={_WAL_BYTES_KEPT_MAX}",
)

T = TypeVar("T")
_Arguments = TypeVarTuple("_Arguments")


class SqliteLog:
    """The `Log` port on a SQLite file.

    Args:
        path: the file; made when it is not there. A relative one is meant from where the program is when the log is
            opened or attached to first, whatever folder it changes to later. Beside the file lie ``-wal`` and ``-shm``
            while it is open, and ``-lock``. So it must have one path only: one with hard links, or mounted without its
            folder, is refused.
        busy_seconds_max: how long a commit waits for another program that has the file locked before it fails.
        checked_bytes_max: up to this size of the file, opening and attaching also check that its pages are whole, at 1
            to 3 GB/s (https://www.sqlite.org/pragma.html#pragma_quick_check). Larger ones are to be verified at times.
        permissions: of a log that is made, whatever the umask. An empty file that is there already keeps its own, and
            what lies beside a log has those of the log.
        alone_ms_max: write a commit of up to 64 commands on the loop's own thread while no other command waits and
            commits usually take less than so many milliseconds: callers are answered sooner, and whatever becomes
            ready meanwhile waits until the disk has answered, for as long as that takes. After one that took four times
            as long the store's thread writes again, for a second. None: never.

    Raises:
        DefinitionError: ``alone_ms_max`` is no such number.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        busy_seconds_max: float = 5.0,
        checked_bytes_max: int = 256 * 1024 * 1024,
        permissions: int = OWNER_ONLY,
        alone_ms_max: float | None = None,
    ) -> None:
        self.path = Path(path)
        self._name = str(self.path)
        self._permissions = permissions
        self._alone_ms_max = checked_alone(alone_ms_max)
        self._busy_seconds_max = busy_seconds_max
        self._checked_bytes_max = checked_bytes_max
        self._snapshots = SqliteSnapshots(f"{self.path}-snapshots", like=self.path)
        self._place()
        self._lock: sqlite3.Connection | None = None
        self._address: str | None = None
        self._writer: Appender | None = None
        self._writing: Writing
        self._appended = AppendSignal()
        #: The format that it had, if opening has brought it to that of today.
        self.upgraded_from: int | None = None
        self._wal = WalSize()
        #: A commit that was written, and that a look at the file could not be taken for.
        self._unseen = 0
        #: A commit that was written found it so, and nothing is taken any more.
        self._is_cut = False

    body_bytes_max: int | None = BODY_BYTES_MAX

    @property
    def name(self) -> str:
        return self._name

    @property
    def id(self) -> str | None:
        return None if self._reader.meta is None else self._reader.meta.log

    @property
    def needs(self) -> Collection[str]:
        """The features that its commits name, as of when it was opened."""
        return () if self._reader.meta is None else self._reader.meta.needs

    @property
    def snapshots(self) -> SnapshotStore:
        return self._snapshots

    async def open(self, application: str, address: str | None = None) -> Leadership:
        require_version(self.name)
        self._stay()
        if not self.path.parent.is_dir():
            raise LogRefused(self.name, f"there is no folder {str(self.path.parent)!r}", "make the folder first")
        self._lock = await in_thread(self._take_lock)
        return await self._or_close(lambda: self._open(application, address))

    async def wait_for_turn(self) -> None:
        self._stay()
        await free(self.path, _TURN_SECONDS)

    async def leader(self) -> str | None:
        return await in_thread(leader_beside, self.path)

    async def attach(self) -> str:
        require_version(self.name)
        self._stay()
        return await self._or_close(self._reader.attach)

    async def append(self, commit: Commit) -> None:
        promise: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.launch(commit, partial(settle_promise, promise, None))
        await promise

    def launch(self, commit: Commit, landed: Callable[[Exception | None], None], *, alone: bool = False) -> None:
        if self._writer is None:
            raise CommitFailed(commit.number, "this log is not open for writing")
        # Here and not in the store's thread: a call there gives up the interpreter's lock, and a busy loop takes 5 ms
        # to give it back.
        if lost := self._watch.lost():
            raise CommitFailed(commit.number, f"{lost}: {NEXT_STEP}")
        if self._is_cut:
            raise CommitFailed(commit.number, str(self._cut("there is a gap in it")))
        work = partial(self._writing.write, commit)
        if self._wal.is_shorter():
            work = partial(_after_a_look, self._wal_is_whole, commit.number - 1, work)
        self._writer.launch(work, partial(self._landed, commit.number, landed), alone=alone)

    def _landed(
        self,
        number: int,
        landed: Callable[[Exception | None], None],
        head: int | None,
        error: BaseException | None,
    ) -> None:
        """What came of a commit: the log's head, if that is another one, or an error."""
        if error is None:
            self._written(number, landed, head)
        elif isinstance(error, LogCorrupt) or (
            isinstance(error, sqlite3.Error | ValueError) and nothing_written(error)
        ):
            failed = CommitFailed(number, text_of(error))
            failed.__cause__ = error
            landed(failed)
        else:  # also a CommitFailed: that is one
            landed(error if isinstance(error, Exception) else RuntimeError(f"the store's thread ended: {error!r}"))

    def _written(self, number: int, landed: Callable[[Exception | None], None], head: int | None) -> None:
        """It is written, unless another program has cut the ``-wal`` meanwhile."""
        try:
            if self._wal.has_gap():
                landed(self._failed_by(number, self._cut("there is a gap in it, before what was written last")))
                return
            is_shorter = self._wal.is_shorter()
            if not is_shorter:
                self._wal.note()
        except OSError as unclear:  # what it means is asked, as after any unclear failure
            landed(unclear)
            return
        told = None if head is None else Fenced(self.name, number, head)
        if not is_shorter:
            self._appended.tell()
            landed(told)
        else:
            self._look_again(number if head is None else 0, partial(self._looked, number, landed, told))

    def _look_again(self, number: int, looked: Callable[[object, BaseException | None], None]) -> None:
        """The program that cut it may have taken what was written last. What can't be seen stays in doubt."""
        self._unseen = number
        try:
            if self._writer is None:
                raise ValueError("it is closed")
            self._writer.launch(lambda _: self._wal_is_whole(number), looked)
        except ValueError as closing:
            looked(None, closing)

    def _looked(
        self,
        number: int,
        landed: Callable[[Exception | None], None],
        told: Fenced | None,
        _: object,
        problem: BaseException | None,
    ) -> None:
        self._appended.tell()
        if problem is None:
            problem = self._noted()
        if isinstance(problem, LogCorrupt):
            landed(self._failed_by(number, problem))
        elif problem is not None:
            unclear = RuntimeError(f"commit {number:,} was written, and can't be seen in {self.name}: {problem}")
            unclear.__cause__ = problem
            landed(unclear)
        else:
            landed(told)

    def _noted(self) -> OSError | None:
        """All that was written is there: so is the ``-wal``, as short as it is."""
        try:
            self._wal.note()
        except OSError as unclear:
            return unclear
        self._unseen = 0
        return None

    def _failed_by(self, number: int, problem: Exception) -> CommitFailed:
        self._is_cut = True
        failed = CommitFailed(number, str(problem))
        failed.__cause__ = problem
        return failed

    def _wal_is_whole(self, number: int) -> None:
        if problem := missing_from(self.path, number, self._busy_seconds_max):
            raise self._cut(problem)

    def _cut(self, problem: str) -> LogCorrupt:
        return LogCorrupt(self.name, 1, f"its -wal was cut while it was open: {problem}")

    async def probe(self) -> None:
        if self._writer is None:
            raise RuntimeError("this log is not open for writing: Engine opens it, or call open()")
        self._watch.require(self.name)
        if self._is_cut:
            raise self._cut("there is a gap in it")
        if self._wal.is_shorter():
            await self._writer.done(lambda _: self._wal_is_whole(self._unseen))
            if unclear := self._noted():
                raise unclear
        await self._writer.rows(PROBE)
        self._appended.tell()  # of a commit whose append failed, and which is there after all

    async def settle(self, commit: Commit) -> bool:
        return await settled_by_probe(self, commit)

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        return await self._reader.read(after, bytes_max)

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        if self._writer is None:
            return self._reader.follow(after, bytes_max)
        return followed(self.read, self._appended, after, bytes_max)

    def look_now(self) -> None:
        if self._writer is None:
            self._reader.look_now()

    async def head(self) -> Head:
        self._watch.require(self.name)
        return await self._reader.head()

    async def close(self) -> None:
        self._appended.end()
        await self._reader.close()
        self._watch.end()
        self._wal.end()
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        if self._lock is not None:
            if self._address is not None:
                await in_thread(forget_leader, self.path, self._address)
                self._address = None
            await in_thread(self._lock.close)
            self._lock = None

    # What other stores can't do: `stores.capabilities`.

    @property
    def address(self) -> str:
        return f"sqlite:{self.path.absolute()}"

    def size_bytes(self) -> int:
        files = (self.path, Path(f"{self.path}-wal"))
        return sum(file.stat().st_size for file in files if file.is_file())

    def unchecked(self) -> SqliteLog:
        return SqliteLog(self.path, checked_bytes_max=0)

    async def check_rows(self) -> None:
        await self._inspected(inspection.check_rows, self.path)

    async def check_structure(self, commits: int) -> None:
        await self._inspected(inspection.check_structure, self.path, commits)

    async def copy_to(self, target: Path) -> SqliteLog:
        source = self.unchecked()  # this handle may be open, or be closed meanwhile
        try:
            await source.attach()
            await self._inspected(inspection.copy_pages, self.path, target)
        finally:
            with anyio.CancelScope(shield=True):
                await source.close()
        return SqliteLog(target, checked_bytes_max=0)

    async def _inspected(self, look: Callable[[*_Arguments], None], *arguments: *_Arguments) -> None:
        """What fails there is not what the log holds: an error of the operating system's kind."""
        try:
            await in_thread(look, *arguments)
        except ERRORS as error:
            raise OSError(str(error)) from error

    # Opening.

    def _stay(self) -> None:
        """From now on the file is meant that this path leads to now."""
        if not self.path.is_absolute():
            try:
                self.path = self.path.absolute()
            except FileNotFoundError as error:
                problem = "the folder that the program is in is not there any more"
                raise LogRefused(self.name, problem, "name the log by an absolute path") from error
            self._place()

    def _place(self) -> None:
        self._watch = FileWatch(self.path)
        self._reader = SqliteReader(
            self.path, self._watch, self._busy_seconds_max, self._checked_bytes_max, name=self._name
        )
        self._snapshots.place(Path(f"{self.path}-snapshots"), self.path)

    async def _or_close(self, opening: Callable[[], Awaitable[T]]) -> T:
        """What ``opening`` returns; if it fails, everything is closed and SQLite's errors are raised as the log's."""
        try:
            return await opening()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self.close()
            if isinstance(error, ERRORS):
                raise refusal(self.name, error) from error
            if isinstance(error, OSError):
                raise LogRefused(self.name, f"its files changed meanwhile: {error}", "open it again") from error
            raise

    def _take_lock(self) -> sqlite3.Connection:
        require_one_path(self.name, self.path, tidy=True)
        # Before SQLite makes a -wal for it, which would be read-only, too, and stay so.
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise LogRefused(self.name, "it can't be written", WRITABLE)
        lock = self._locked(f"{os.path.realpath(self.path)}-lock")  # one for all names that it has by symbolic links
        try:
            if full := lacking_room(self.path):
                raise LogRefused(self.name, full, MAKE_ROOM)
            self._made("file", lambda: make_with(self.path, self._permissions))
        except LogRefused:
            lock.close()
            raise
        return lock

    def _made(self, what: str, make: Callable[[], None]) -> None:
        try:
            make()
        except OSError as error:
            problem = f"its {what} can't be made: {error.strerror or error}"
            raise LogRefused(self.name, problem, "the folder must be writable") from error

    def _locked(self, path: str) -> sqlite3.Connection:
        try:
            lock = locked(path, lambda: self._made("lock", lambda: make_like(path, self.path, self._permissions)))
        except sqlite3.DatabaseError as error:
            if no_room(error):
                raise refusal(self.name, error) from error
            raise LogRefused(self.name, f"its lock can't be taken: {error}", "the folder must be writable") from error
        if lock is None:
            raise LogLocked(self.name)
        return lock

    async def _open(self, application: str, address: str | None) -> Leadership:
        steps_max = steps_of(self._checked_bytes_max)
        db = await connect(self.path, busy_seconds_max=self._busy_seconds_max, steps_max=steps_max)
        try:
            if await is_empty(db):
                meta = await create(db, application)
            else:
                meta = await meta_of(self.name, db)
                require_owner(self.name, meta.application, application)
            for pragma in _PRAGMAS:
                await db.rows(f"PRAGMA {pragma}")
            await self._settle(db)
            await check_pages(self.name, db, self._checked_bytes_max)
            if meta.format < FORMAT:
                self.upgraded_from, meta = meta.format, await upgrade(db, meta)
            self._reader.meta = meta
            self._writing = Writing(meta)
            ((page_bytes,),) = await db.rows("PRAGMA page_size")
            await self._reader.open()
            self._writer = await Appender.opened(
                self._connect,
                steps_max=steps_max,
                busy_seconds_max=self._busy_seconds_max,
                here_ms_max=self._alone_ms_max,
            )
        finally:
            await db.close()  # the last thing: while another one is open, closing it checkpoints nothing
        self._watch.begin()
        self._wal.begin(self.path, page_bytes)
        self._is_cut, self._unseen = False, 0
        self._appended = AppendSignal()
        self._address = address
        return Leadership(address, took_over=await in_thread(say_leader, self.path, address))

    def _connect(self) -> sqlite3.Connection:
        """The connection that appends."""
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=self._busy_seconds_max, check_same_thread=False
        )
        runs_no_trigger(connection)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    async def _settle(self, db: Database) -> None:
        """Make what a crash left in the ``-wal`` as durable as the rest, and see that both files can be written.

        What can be read there need not be on the disk yet: the process that wrote it may have died before its fsync, or
        that one may have failed, and then the system takes for clean what it never wrote. A checkpoint syncs the
        ``-wal`` and writes its pages anew, into the database, and syncs that.
        """
        try:
            await db.rows("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as error:
            if not no_room(error):  # the -wal is synced before the first page is written
                raise


def _after_a_look(
    look: Callable[[int], None], number: int, work: Callable[[sqlite3.Connection], int | None], db: sqlite3.Connection
) -> int | None:
    try:
        look(number)
    except sqlite3.Error as error:
        raise CommitFailed(number + 1, f"its file can't be looked at: {text_of(error)}") from error
    return work(db)
