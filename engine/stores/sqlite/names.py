"""That a log's file has one path only.

SQLite puts ``-wal`` beside the path by which a file was opened, and ``-lock`` lies there, too. Where one file has two
paths, what was acknowledged under the one is missing under the other after a crash, and two writers have it open at
once (https://www.sqlite.org/howtocorrupt.html#multiple_links). Symbolic links are no second path: SQLite and we follow
them.

Here: what a file's attributes and the table of mounts say, and our own unfinished copies. Not here: locks (`log`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from millstream.engine.errors import LogRefused
from millstream.engine.stores.sqlite.resting import stat_of

__all__ = ["Mount", "mounted", "mounts_in", "require_one_path"]

#: Where Linux says what is mounted, as this process sees it (https://man7.org/linux/man-pages/man5/proc.5.html). A bind
#: mount of a single file is known by nothing else: its device and its number of links are those of the file.
_MOUNT_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")

#: What `tempfile.mkstemp` puts between prefix and suffix.
_PARTIAL = re.compile(r"[a-z0-9_]+\.partial")

_KEEP_ONE = "close it everywhere, keep the name that has '-wal' or '-lock' beside it, and remove the others"
_MOUNT_THE_FOLDER = "mount the folder that holds it, not the file alone"


class Mount(NamedTuple):
    """A place where something is mounted, and the kind of its file system."""

    place: str
    kind: str


def require_one_path(log: str, path: Path, *, tidy: bool) -> None:
    """That whatever is written beside ``path`` is found by everybody who opens that file. One that is not there passes.

    An unfinished copy that `upkeep` left beside it, ``.NAME-….partial``, does not count: that name is never opened.

    Args:
        log: what errors call the log.
        path: the file.
        tidy: remove such a copy's name. The file keeps its own.

    Raises:
        LogRefused: the file has another name, is mounted alone, or lies on another device than its folder.
    """
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    file, beside = stat_of(real), stat_of(folder)
    if file is None or beside is None or not stat.S_ISREG(file.st_mode):
        return  # opening it says what is wrong
    if file.st_nlink > 1 and (names := _names_of(real, tidy)) > 1:
        problem = f"its file has {names} names (hard links), and what lies beside one of them is missing under another"
        raise LogRefused(log, problem, _KEEP_ONE)
    if alone := mounted(real, file.st_dev != beside.st_dev, mounts_in(_mount_table())):
        raise LogRefused(log, alone, _MOUNT_THE_FOLDER)


def mounted(path: str, is_apart: bool, mounts: Sequence[Mount]) -> str | None:
    """What is wrong with how a file is mounted; None where nothing is.

    Args:
        path: the file's own, without symbolic links.
        is_apart: whether it lies on another device than its folder. In an overlay any file may.
        mounts: all that is mounted; none where that is not known.
    """
    if any(mount.place == path for mount in mounts):
        return "its file is mounted without the folder that holds it, so that what lies beside it is missing here"
    if is_apart and _kind_at(os.path.dirname(path), mounts) != "overlay":
        return "its file lies on another device than its folder, so that what lies beside it is missing here"
    return None


def mounts_in(table: bytes) -> list[Mount]:
    """What a table of mounts in Linux's form says. Lines that are none are passed over."""
    found: list[Mount] = []
    for line in table.splitlines():
        place, _, kind = line.partition(b" - ")
        fields, kinds = place.split(b" "), kind.split(b" ")
        if len(fields) >= 6 and kinds[0]:
            found.append(Mount(_unescaped(fields[4]), os.fsdecode(kinds[0])))
    return found


def _mount_table() -> bytes:
    try:
        return _MOUNT_TABLE.read_bytes()
    except OSError:  # another system, or one that hides it
        return b""


def _unescaped(place: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda octal: bytes((int(octal[1], 8) & 0xFF,)), place))


def _kind_at(folder: str, mounts: Sequence[Mount]) -> str | None:
    """The kind of the file system that a folder lies on: that of the longest place, of equal ones the last."""
    above = [mount for mount in mounts if (folder + "/").startswith(mount.place.rstrip("/") + "/")]
    return max(reversed(above), key=lambda mount: len(mount.place)).kind if above else None


def _names_of(real: str, tidy: bool) -> int:
    """How many names a file has, but for those of unfinished copies."""
    partials = [partial for partial in _partials_beside(real) if _is_same(partial, real)]
    if tidy:
        for partial in partials:
            partial.unlink(missing_ok=True)  # the process that made the copy may be finishing it now
    file = stat_of(real)
    return 0 if file is None else file.st_nlink - (0 if tidy else len(partials))


def _partials_beside(real: str) -> list[Path]:
    folder, name = os.path.split(real)
    try:
        return [Path(folder, each) for each in os.listdir(folder) if _PARTIAL.fullmatch(each.removeprefix(f".{name}-"))]
    except OSError:  # a folder that may not be listed
        return []


def _is_same(partial: Path, real: str) -> bool:
    one, other = stat_of(str(partial)), stat_of(real)
    return one is not None and other is not None and os.path.samestat(one, other)
