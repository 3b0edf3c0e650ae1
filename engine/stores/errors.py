"""What can go wrong at a store, and is a kind of an error that `millstream.engine.errors` has.

    LogLocked
    └── SnapshotsLocked          another process takes snapshots of this log at this moment

It keeps its values as fields and renders its text itself.
"""

from __future__ import annotations

from millstream.engine.errors import LogLocked

__all__ = ["SnapshotsLocked"]


class SnapshotsLocked(LogLocked):
    """Snapshots of the log are taken already, in this process or in another. Nothing was taken or changed."""

    def __str__(self) -> str:
        return f"snapshots of log {self.log} are being taken already, and by one at a time: wait until that one is done"
