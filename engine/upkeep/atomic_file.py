"""A new file that is there whole or not at all: written beside its place, made durable, then given its name.

Nothing that is there already is ever replaced.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from millstream.engine.loop.threads import in_thread
from millstream.engine.upkeep.errors import TargetRefused

__all__ = ["created_whole"]


@asynccontextmanager
async def created_whole(target: Path, like: Path | None = None) -> AsyncIterator[Path]:
    """An empty file beside ``target``. It gets that name when the block ends, and is removed if the block raises.

    Args:
        target: where the file shall be. It may not be there, nor what SQLite would take for its journal.
        like: a file whose permissions it gets when the block ends. Until then, and without one, only its owner may
            read it.

    Raises:
        TargetRefused: the target is there already, or its folder is not.
        OSError: the file system failed.
    """
    part, target, like = await in_thread(_start, target, like)
    try:
        yield part
        await in_thread(_finish, part, target, like)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await in_thread(_remove, part)
        raise


def _start(target: Path, like: Path | None) -> tuple[Path, Path, Path | None]:
    """The file that is written, and the paths as they are for a program that changes to another folder."""
    if not target.parent.is_dir():
        raise TargetRefused(str(target), f"there is no folder {str(target.parent)!r}", "make the folder first")
    for suffix in ("", "-wal", "-journal"):
        _require_absent(Path(f"{target}{suffix}"))
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".partial", dir=target.parent)
    os.close(handle)
    return Path(name).absolute(), target.absolute(), like and like.absolute()


def _require_absent(target: Path) -> None:
    if os.path.lexists(target):
        raise TargetRefused(str(target), "it is there already", "name a file that is not there, or remove it first")


def _finish(part: Path, target: Path, like: Path | None) -> None:
    if like is not None:  # not before: a copy of a file that is read-only could not be written
        shutil.copymode(like, part)
    _sync(part)
    try:
        os.link(part, target)  # unlike a rename, never over another file
    except FileExistsError:
        _require_absent(target)
        raise
    except OSError:  # a file system without links
        _require_absent(target)
        part.rename(target)
    else:
        part.unlink(missing_ok=True)  # who opens the target as a log removes its second name, too
    with suppress(OSError):  # where a folder can't be opened, as on Windows, it needs no syncing either
        _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
