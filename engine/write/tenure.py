"""What a log says of who writes it: once an opening, in its first commit."""

from __future__ import annotations

import os
import socket
from importlib.metadata import PackageNotFoundError, version

from millstream.engine.application.app import App
from millstream.engine.commits.record import Tenure

__all__ = ["tenure_of"]


def tenure_of(app: App, term: int) -> Tenure:
    """That of this process.

    Args:
        app: the application.
        term: which opening it is, of those that have written.
    """
    try:
        release = version("millstream")
    except PackageNotFoundError:  # it runs from a folder that nobody installed
        release = "unknown"
    return Tenure(term, f"{socket.gethostname()}:{os.getpid()}", f"millstream {release}", app.version)
