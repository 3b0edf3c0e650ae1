"""Whose log it is."""

from __future__ import annotations

from millstream.engine.application.shards import Shard
from millstream.engine.errors import LogRefused

__all__ = ["require_owner"]


def require_owner(log: str, owner: str, application: str) -> None:
    """That a log is the application's.

    Args:
        log: what errors call it.
        owner: the name that the log has.
        application: the application's name.

    Raises:
        LogRefused: it belongs to another one.
    """
    if owner != application:
        problem = f"it belongs to application {owner!r}, not to {application!r}"
        _, shard = Shard.named(owner)
        next_step = "give App(name=…) the name that the log has, or name another log"
        if shard is not None:
            next_step = f"it is one of several logs: give app.sharded({shard.place}, {shard.of}), or name another log"
        raise LogRefused(log, problem, next_step)
