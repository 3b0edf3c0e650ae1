"""Servers as child processes: begun, listened to until they are ready, stopped, and never left behind.

Here also: where a command is, and the processor time that a process has used.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from millstream.bench.job import WorkerFailed

__all__ = ["Child", "cpu_seconds", "found", "running", "running_on_a_free_port", "spent", "thread_seconds"]

#: Says its process id and becomes the program.
_NAMED = ("sh", "-c", 'echo $$; exec "$@"', "named")
#: Runs that, and stops it when no process holds the other end of standard input any more: also when this one is killed.
_LEASH = ("sh", "-c", '"$@" & exec >/dev/null 2>&1; read -r _; kill $!; wait $!', "leash")
_STOP_SECONDS_MAX = 60.0
_STOPPED = (0, 128 + signal.SIGTERM)
_PORT_TRIES = 3
_TAKEN = re.compile("address (already )?in use", re.IGNORECASE)


class Child(NamedTuple):
    """A server that is ready."""

    pid: int
    #: The line by which it said so.
    line: str
    #: Everything that it had said until then.
    said: str


def found(command: str) -> str | None:
    """Where a command is: beside this Python, where packages put theirs, or on the path; None if nowhere."""
    return shutil.which(command, path=sysconfig.get_path("scripts")) or shutil.which(command)


@contextmanager
def running_on_a_free_port(
    name: str, command: Callable[[int], Sequence[str]], ready: str
) -> Iterator[tuple[Child, int]]:
    """Run a server that can't take a free port itself; ``command`` makes its command line for a port."""
    for attempt in range(_PORT_TRIES):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        try:
            with running(name, command(port), ready, errors_too=True) as child:
                yield child, port
            return
        except WorkerFailed as error:  # another may have the port by now
            if not _TAKEN.search(str(error)) or attempt == _PORT_TRIES - 1:
                raise


@contextmanager
def running(name: str, command: Sequence[str], ready: str, *, errors_too: bool = False) -> Iterator[Child]:
    """Run a server until the block is left; then it gets SIGTERM.

    Args:
        name: what to call it in an error.
        command: what to run.
        ready: part of the line on its standard output by which it says that it is ready.
        errors_too: its standard error is listened to as well, until then; else it goes where this process's goes.

    Raises:
        WorkerFailed: it ended before it was ready, or badly, or did not end.
    """
    with subprocess.Popen(
        [*_LEASH, *_NAMED, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors_too else None,
        text=True,
    ) as leash:
        assert leash.stdin is not None
        assert leash.stdout is not None
        pid, said = int(leash.stdout.readline()), list[str]()
        try:
            for line in leash.stdout:
                said.append(line)
                if ready in line:
                    break
            else:
                raise WorkerFailed(name, f"it ended before it was ready\n{''.join(said)}")
            yield Child(pid, line.strip(), "".join(said))
            leash.stdin.close()
            code = leash.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise WorkerFailed(name, f"it has not ended {_STOP_SECONDS_MAX:g} seconds after SIGTERM") from error
        finally:
            leash.stdin.close()
            if leash.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if code not in _STOPPED:
            raise WorkerFailed(name, f"exit {code}")


def cpu_seconds(pid: int) -> float | None:
    """Processor time of a process with its threads, in steps of some milliseconds; None where there is no ``/proc``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_seconds(pid: int) -> float | None:
    """Processor time of a process' main thread alone; None where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return None


def spent(before: float | None, after: float | None) -> float | None:
    """What lies between two such times; None where one of them is not known."""
    return None if before is None or after is None else after - before
