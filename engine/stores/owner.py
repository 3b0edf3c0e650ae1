"""Whose log it is."""

from __future__ import annotations

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
        raise LogRefused(log, problem, "give App(name=…) the name that the log has, or name another log")
