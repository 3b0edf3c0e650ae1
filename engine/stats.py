"""What `Engine.stats` returns: figures of one moment, for metrics and for people."""

from __future__ import annotations

import msgspec

__all__ = ["EngineStats", "ViewStats", "WriterStats"]


class WriterStats(msgspec.Struct, frozen=True):
    """The write side. Counts are since the engine was opened."""

    status: str
    #: The last durable commit, and its last event.
    commit: int
    position: int
    #: Commands that wait in the mailbox, its limit, and callers that wait to get in.
    mailbox_commands: int
    mailbox_commands_max: int
    mailbox_entering: int
    commits: int
    #: Commands made durable; refused by a handler or a check; failed for the store's sake.
    commands: int
    commands_refused: int
    commands_failed: int
    #: Commands in the last commit, in the largest, and on average.
    batch_last: int
    batch_max: int
    batch_mean: float


class ViewStats(msgspec.Struct, frozen=True):
    """One view."""

    status: str
    #: The last event applied, and how many more were published.
    position: int
    lag_events: int
    queued_commits: int
    #: How often its queue was full, so that it had to catch up from the log.
    detached: int
    #: Events that it could not apply: parked, with those that wait behind them, and skipped.
    parked: int = 0
    skipped: int = 0
    #: Watches that are open.
    watches: int = 0


class EngineStats(msgspec.Struct, frozen=True):
    """The whole engine."""

    writer: WriterStats
    views: dict[str, ViewStats]
    #: Up to which event the states are in snapshots; what comes after it is replayed at opening.
    snapshot_position: int
