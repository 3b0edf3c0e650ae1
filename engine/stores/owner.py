"""Whose log it is."""

from __future__ import annotations

from millstream.engine.application.app import App
from millstream.engine.errors import LogRefused
from millstream.engine.stores.port import Log

__all__ = ["require_owner"]


def require_owner(log: Log, owner: str, app: App) -> None:
    """That a log is the application's.

    Raises:
        LogRefused: it belongs to another one.
    """
    if owner != app.name:
        problem = f"it belongs to application {owner!r}, not to {app.name!r}"
        raise LogRefused(log.name, problem, "give App(name=…) the name that the log has, or name another log")
