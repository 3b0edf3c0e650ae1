"""Where the writer of a SQLite log can be reached: a line in a file beside it, ``bank.db-leader``.

Here: writing that file, reading it, and taking it away. Not here: who is the writer, which the lock says (`locks`).
What a writer leaves behind that was killed is the address of one who is gone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from millstream.engine.stores.sqlite.permissions import OWNER_ONLY, make_like

__all__ = ["forget_leader", "leader_beside", "say_leader"]

_ADDRESS_BYTES_MAX = 4_096


def say_leader(path: Path, address: str | None) -> bool:
    """Say where the writer can be reached, if it can be. True if the one before had not taken back its word.

    Where it can't be said it is not: a full disk keeps no writer from beginning.
    """
    file = _beside(path)
    new = f"{file}-new"
    was_left = os.path.exists(file)
    with suppress(OSError):
        if address is not None:
            make_like(new, path, OWNER_ONLY)
            Path(new).write_text(address, encoding="utf-8")
            os.replace(new, file)
        elif was_left:
            os.unlink(file)
    return was_left


def leader_beside(path: Path) -> str | None:
    """What the last writer has said; None if none has, or it has gone in good order.

    Raises:
        OSError: it can't be read.
    """
    try:
        with open(_beside(path), "rb") as file:
            return file.read(_ADDRESS_BYTES_MAX).decode("utf-8", "replace") or None
    except FileNotFoundError:
        return None


def forget_leader(path: Path, address: str) -> None:
    """Take away what this writer has said, while it has the lock."""
    with suppress(OSError):
        if leader_beside(path) == address:
            os.unlink(_beside(path))


def _beside(path: Path) -> str:
    return f"{os.path.realpath(path)}-leader"
