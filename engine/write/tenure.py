"""What a log says of who writes it: once an opening, in its first commit."""

from __future__ import annotations

import os
import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from millstream.engine.application.app import App
from millstream.engine.commits.record import Tenure

__all__ = ["tenure_here", "tenure_of"]


def tenure_of(app: App, term: int) -> Tenure:
    """The tenure of this process.

    Args:
        app: the application.
        term: which opening it is, of those that have written.
    """
    return tenure_here(term, app.version)


def tenure_here(term: int, version: str | None = None) -> Tenure:
    """The tenure of this process, where it writes without an application: ``version`` is the application's own."""
    return Tenure(term, f"{socket.gethostname()}:{os.getpid()}", f"millstream {_release()}", version)


@cache
def _release() -> str:
    """Of the code that runs, whatever is installed meanwhile; to read it takes 1 ms."""
    try:
        return version("millstream")
    except PackageNotFoundError:  # it runs from a folder, and is not installed
        return "unknown"
