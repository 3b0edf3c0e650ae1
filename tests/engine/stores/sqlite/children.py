"""Programs that the tests run as processes of their own: what they do to themselves would hurt the process of the tests.

Each is a function of a folder, here and not in the tests because a process can't be handed one. `Child` talks to it: it
says a line when it has come to a point, and goes on when it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog

from millstream.engine import Engine, MillstreamError, Receipt, SqliteLog
from millstream.engine.commits.body import events_in
from millstream.engine.commits.commit import Commit
from millstream.engine.testing.stores.written import APP, commits, head_of, read_all
from tests.shop import Add, shop

__all__ = ["Child", "child", "in_own_mounts"]

ROOT = Path(__file__).resolve().parents[4]
NOBODY = 65534
DISK_BYTES = 400_000
FRAME_BYTES = 24 + 4096
#: What the writer wrote that is killed.
CRASHED = [*commits(3), *commits(2, head_of(commits(3)[-1]), events=2_000)]


class Child:
    """A program below that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def said(self) -> Any:
        """The next thing that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            import pytest

            pytest.fail(f"the child ended with exit code {self.process.wait()}")
        return json.loads(line)

    def go_on(self, told: Any = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Tell it that nothing more comes, and wait until it is over."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait() == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def child(program: Callable[..., Any], folder: Path, *, wrapper: Sequence[str] = ()) -> Iterator[Child]:
    """Run one of the programs below on a folder, and end it with the block.

    Args:
        program: which one.
        folder: where it works.
        wrapper: the command line in front of Python's.
    """
    command = [*wrapper, sys.executable, "-m", "tests.engine.stores.sqlite.children", program.__name__, str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield Child(process)
        finally:
            with contextlib.suppress(ProcessLookupError):  # the wrapper, and the child of it, which outlives it
                os.killpg(process.pid, signal.SIGKILL)


def in_own_mounts(folder: Path, size_bytes: int) -> list[str]:
    """The wrapper of a child that sees a small file system in memory at ``folder``. Skips where there can be none."""
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f'mount -t tmpfs -o size={size_bytes} tmpfs "$0"'
    try:
        tried = subprocess.run([*alone, "sh", "-c", mount, str(folder)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        import pytest

        pytest.skip("needs a small file system of its own, and there is no program 'unshare' to make one")
    if tried.returncode:
        import pytest

        pytest.skip(f"needs a small file system of its own, and may not mount one here: {tried.stderr.strip()}")
    return [*alone, "sh", "-c", f'{mount} && exec "$@"', str(folder)]


# The programs.


def say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def wait() -> None:
    sys.stdin.readline()


async def failure(awaitable: Awaitable[Any]) -> list[Any]:
    """What it raised: the class, SQLite's name for it, and the text."""
    try:
        await awaitable
    except (MillstreamError, sqlite3.Error, OSError) as error:
        cause = error if isinstance(error, sqlite3.Error) else error.__cause__
        return [type(error).__name__, getattr(cause, "sqlite_errorname", None), str(error)]
    return ["nothing", None, ""]


async def numbers(log: SqliteLog) -> list[int]:
    return [commit.number for commit in await read_all(log)]


def big(after: Commit, events: int = 500) -> Commit:
    """A commit that follows the given one; 500 events are 25 kB."""
    return commits(1, head_of(after, events_in(after.body)), events=events)[0]


async def file_limit(folder: Path) -> None:
    """The system lets the ``-wal`` grow no more in the middle of a commit, and later it does."""
    log, written = SqliteLog(folder / "log.db"), commits(3)
    await log.open(APP)
    for commit in written:
        await log.append(commit)
    more = big(written[-1])
    size = (folder / "log.db-wal").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, limits[1]))
    for _ in range(2):
        say([await failure(log.append(more)), (await log.head()).number, await numbers(log)])
    wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await log.append(more)
    say(await numbers(log))
    await log.close()


async def full_disk(folder: Path) -> None:
    """The file system that holds the log is full, and later it is not."""
    log, written = SqliteLog(folder / "log.db"), commits(3)
    (folder / "ballast").write_bytes(bytes(DISK_BYTES // 2))
    await log.open(APP)
    for commit in written:
        await log.append(commit)
    while (failed := await failure(log.append(more := big(written[-1], events=100))))[0] == "nothing":
        written.append(more)
    say([failed, (await log.head()).number == len(written), await read_all(log) == written])
    say(await failure(log.append(more)))
    (folder / "ballast").unlink()
    await log.append(more)
    say(await read_all(log) == [*written, more])
    await log.close()
    again = SqliteLog(folder / "log.db")
    await again.open(APP)
    say(await read_all(again) == [*written, more])
    await again.close()


async def full_reopened(folder: Path) -> None:
    """What a crash left in the ``-wal`` can't be moved into the database for lack of room, and is read all the same."""
    with child(crash, folder) as crashing:
        crashing.said()
        crashing.kill()
    size = (folder / "log.db-wal").stat().st_size
    ballast = (folder / "ballast").open("wb", buffering=0)
    with contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(4096))
    ballast.truncate(ballast.tell() - 40_000)  # the index is made anew
    log = SqliteLog(folder / "log.db")
    await log.open(APP)
    say([await read_all(log) == CRASHED, (folder / "log.db-wal").stat().st_size == size])
    more = big(CRASHED[-1], events=5_000)
    say(await failure(log.append(more)))
    ballast.truncate(0)
    await log.append(more)
    say(await read_all(log) == [*CRASHED, more])
    await log.close()


async def full_attached(folder: Path) -> None:
    """A log that a crash left is read on a disk that has no room for a byte, with the index of its ``-wal`` and without."""
    with child(crash, folder) as crashing:
        crashing.said()
        crashing.kill()
    with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        (folder / "log.db-shm").unlink()
        while True:
            ballast.write(bytes(4096))
    log = SqliteLog(folder / "log.db")
    for _ in range(2):
        await log.attach()
        say([await read_all(log) == CRASHED, (await log.head()).number == len(CRASHED)])
        await log.close()
        say(await failure(log.open(APP)))
    (folder / "ballast").unlink()
    await log.open(APP)
    await log.append(big(CRASHED[-1], events=100))
    say(len(await read_all(log)) - len(CRASHED))
    await log.close()


async def full_index(folder: Path) -> None:
    """The disk is full when the index of the ``-wal`` must grow: the commit is in that file, and nobody sees it."""
    log, written = SqliteLog(folder / "log.db"), commits(1)
    await log.open(APP)
    await log.append(written[0])
    reader = sqlite3.connect(folder / "log.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM commits").fetchone()  # so that the -wal is not begun anew at a checkpoint
    while frames(folder) < 4_062 - 60:
        written.append(big(written[-1], events=1_000))
        await log.append(written[-1])
    before = frames(folder)
    written.append(big(written[-1], events=100))
    await log.append(written[-1])
    each = frames(folder) - before
    room = -(-(4_063 - frames(folder)) // each) * each * FRAME_BYTES + 16_384  # the index grows by 32 kB
    ballast = (folder / "ballast").open("wb", buffering=0)
    disk = os.statvfs(folder)
    ballast.write(bytes(disk.f_bavail * disk.f_frsize - room))
    while (failed := await failure(log.append(more := big(written[-1], events=100))))[0] == "nothing":
        written.append(more)
    say([failed, (await log.head()).number == len(written)])
    say(image_head(folder, "after the failure") - len(written))
    await log.probe()  # one frame, where the commit's first one was: the disk is as full as before
    say([image_head(folder, "after the probe") - len(written), (await log.head()).number == len(written)])
    ballast.close()
    (folder / "ballast").unlink()
    await log.append(more)
    say(await read_all(log) == [*written, more])
    reader.close()
    await log.close()


def frames(folder: Path) -> int:
    return ((folder / "log.db-wal").stat().st_size - 32) // FRAME_BYTES


def image_head(folder: Path, name: str) -> int:
    """The head that a crash at this moment would leave: what a program finds that has only the two files."""
    image = folder.parent / name
    image.mkdir()
    for file in ("log.db", "log.db-wal"):
        subprocess.run(["cp", str(folder / file), str(image / file)], check=True)
    db = sqlite3.connect(image / "log.db")
    number = db.execute("SELECT max(number) FROM commits").fetchone()[0]
    db.close()
    return int(number)


async def mounted(folder: Path) -> None:
    """A file that is mounted alone is opened, attached to, and another one in the same folder is opened."""
    log = SqliteLog(folder / "mounted.db")
    say(await failure(log.open(APP)))
    say(await failure(log.attach()))
    own = SqliteLog(folder / "own.db")
    say(await failure(own.open(APP)))
    await own.close()
    say(sorted(path.name for path in folder.iterdir()))


async def forbidden(folder: Path) -> None:
    """An unprivileged user opens files and folders that it may only read.

    Root gives its rights up. Whatever is imported late is imported before that, by doing all of it once: an unprivileged
    user may not be able to read the checkout, nor Python itself.
    """
    if os.geteuid() == 0:
        with tempfile.TemporaryDirectory() as own:
            await _rehearsed(SqliteLog(Path(own, "log.db")))
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for name in ("file", "wal", "folder"):
        log = SqliteLog(folder / name / "log.db")
        say(await failure(log.open(APP)))
        await log.close()
        say([await log.attach(), await numbers(log)])
        await log.close()


async def _rehearsed(log: SqliteLog) -> None:
    """All that `forbidden` does, where it is allowed; and an error, as it meets one."""
    await log.open(APP)
    await log.append(commits(1)[0])
    rival = SqliteLog(log.path)
    assert (await failure(rival.open(APP)))[0] == "LogLocked"
    await log.close()
    await log.attach()
    await numbers(log)
    await log.close()


async def failed_sync(folder: Path) -> None:
    """Whoever traces this makes the sync of commit 4 fail; every other one succeeds."""
    log, written = SqliteLog(folder / "log.db"), commits(4)
    await log.open(APP)
    for commit in written[:3]:
        await log.append(commit)
    say("ready")
    wait()
    say([await failure(log.append(written[3])), (await log.head()).number])
    wait()
    await log.probe()
    say((await log.head()).number)
    wait()
    await log.append(written[3])
    say(await numbers(log))


async def failed_read(folder: Path) -> None:
    """Whoever traces this makes the first reads of the ``-wal`` fail."""
    await _failed(folder, lambda log: log.read(0, 1_000))


async def failed_head(folder: Path) -> None:
    await _failed(folder, SqliteLog.head)


async def _failed(folder: Path, ask: Callable[[SqliteLog], Awaitable[Any]]) -> None:
    log = SqliteLog(folder / "log.db")
    await log.open(APP)
    for commit in commits(3):
        await log.append(commit)
    say(await failure(ask(log)))
    say(await numbers(log))
    await log.close()


def lock(folder: Path) -> None:
    """Holds the database's write lock, as another program might."""
    db = sqlite3.connect(folder / "log.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    say("locked")
    wait()
    db.execute("ROLLBACK")
    say("free")
    wait()


async def crash(folder: Path) -> None:
    """A writer that is about to be killed."""
    log = SqliteLog(folder / "log.db")
    await log.open(APP)
    for commit in CRASHED:
        await log.append(commit)
    say("written")
    wait()


async def write_on(folder: Path) -> None:
    """A writer that appends a commit each time that it is told to, until nobody can tell it any more."""
    log = SqliteLog(folder / "log.db")
    await log.open(APP)
    say((await log.head()).number)
    while sys.stdin.readline():
        commit = commits(1, await log.head())[0]
        await log.append(commit)
        say(commit.number)
    await log.close()


async def keep_shop(folder: Path) -> None:
    """An engine that adds to its stock what it is told to, until nobody can tell it any more."""
    async with Engine(shop, log=folder / "log.db") as engine:
        say(engine.position)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            receipts = await engine.execute_many(Add(item, 1) for item in json.loads(line))
            say([receipt.position for receipt in receipts if isinstance(receipt, Receipt)])


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # what is said is for the tests
    chosen = globals()[sys.argv[1]](Path(sys.argv[2]))
    if chosen is not None:
        asyncio.run(chosen)
