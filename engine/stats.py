"""What `stats` and `health` return, of an engine, a replica or a client: figures of one moment."""

from __future__ import annotations

import msgspec

__all__ = ["EffectStats", "EngineStats", "Health", "RebuildStats", "ReplicaStats", "ViewStats", "WriterStats"]


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
    #: Timers that were to be called off and were not there: sent before, called off already, or never set.
    timers_not_there: int = 0
    #: How long commits took, all together, from handing them to the store until they were durable.
    commits_seconds: float = 0.0
    #: How far the log's last commit is ahead of the clock, if by more than ``clock_jump_seconds_max``; else 0. Timers
    #: wait for the clock then, and what is written is recorded as of the time of that commit.
    seconds_ahead: float = 0.0


class RebuildStats(msgspec.Struct, frozen=True):
    """How far a state is that is made anew beside a view's live one."""

    #: Events that were replayed, of so many.
    events: int
    of: int
    events_per_second: float
    #: As far as that can be known: None before the first event.
    seconds_left: float | None


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
    #: While `rebuild` makes its state anew.
    rebuild: RebuildStats | None = None


class EffectStats(msgspec.Struct, frozen=True):
    """The effects of one method. Counts of attempts are since the engine was opened."""

    #: Effects that are owed, those that are being performed among them; and parked, with what came of others.
    owed: int
    running: int
    parked: int
    #: None is to begin.
    is_paused: bool
    #: Attempts.
    succeeded: int
    failed: int


class EngineStats(msgspec.Struct, frozen=True):
    """The whole engine."""

    writer: WriterStats
    views: dict[str, ViewStats]
    #: Up to which event the states are in snapshots; what comes after it is replayed at opening.
    snapshot_position: int
    #: By name of a method that performs effects.
    effects: dict[str, EffectStats] = {}


class ReplicaStats(msgspec.Struct, frozen=True):
    """A replica, and how far behind the log it is."""

    #: ``open`` while it follows, or what it does instead, and why.
    status: str
    problem: str | None
    #: The last commit that it has read, and its last event.
    commit: int
    position: int
    #: The last event of the log, as far as is known: while commits come it looks once a second.
    log_position: int
    #: How many of the log's events its slowest view has not applied, and how long ago the first of them was recorded.
    lag_events: int
    lag_seconds: float
    views: dict[str, ViewStats]


class Health(msgspec.Struct, frozen=True):
    """``live``: the process answers at all; restart it if it does not. ``ready``: it does what it is for; ``reasons``
    say what is missing. ``role`` is ``writer`` or ``replica``. ``position`` is that of the last event that it knows to
    be durable, ``lag_events`` how many of those its slowest view has not applied. ``seconds_ahead`` is how far the
    writer's log is ahead of the clock, where that is worth a word: timers wait for the clock, all else is done.
    """

    live: bool
    ready: bool
    role: str
    position: int
    lag_events: int
    reasons: list[str]
    seconds_ahead: float = 0.0
