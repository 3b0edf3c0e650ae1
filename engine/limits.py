"""Every bound of the engine, by name and with its unit last. Nothing in millstream grows beyond one of these."""

from __future__ import annotations

import msgspec

from millstream.engine.errors import DefinitionError

__all__ = ["BATCH_COMMANDS_MAX", "COMMIT_BYTES_MIN", "Limits"]


#: The most that ``batch_commands_max`` can be.
BATCH_COMMANDS_MAX = 1_000
#: The least that ``commit_bytes_max`` can be, and that a store must take: a commit says more than events.
COMMIT_BYTES_MIN = 64 * 1024
#: What a commit has room for beside a batch and what follows from its last command.
_BESIDE_BYTES = COMMIT_BYTES_MIN // 4


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's bounds. The defaults favour short stalls of the loop over the last few percent of throughput.

    A batch closes at the first of ``batch_commands_max`` and ``batch_bytes_max`` that it reaches. One command alone may
    exceed the latter; one that does not fit beside those before it opens the next commit, and one that would not fit
    there, with ``cascade_bytes_max`` for what follows from it, fails with `CommitTooLarge`.

    Raises:
        DefinitionError: a limit is not positive, or two contradict each other.
    """

    #: Commands that were taken and not yet decided; past it `execute` waits, or raises `Overloaded`.
    mailbox_commands_max: int = 10_000
    #: Callers that may wait to get into a full mailbox; past it they get `Overloaded` too.
    mailbox_entering_max: int = 100_000
    #: Bytes of the commands that were taken and not yet decided, of those that came over sockets on lines of more than
    #: 16 kB; past it a server's connections wait, or get `Overloaded`. A caller in process holds its own.
    mailbox_bytes_max: int = 64 * 1024 * 1024
    #: Commands in one commit, at most `BATCH_COMMANDS_MAX`.
    batch_commands_max: int = 500
    #: How long a commit may wait for the next commands of those who were just answered, where these come back soon.
    gather_ms_max: float = 1.0
    #: Encoded bytes at which a batch closes.
    batch_bytes_max: int = 256 * 1024
    #: Bytes of one commit, at least `COMMIT_BYTES_MIN`. Where the log's store takes less, that counts.
    commit_bytes_max: int = 4 * 1024 * 1024
    #: Commands that may follow from one command by reactions; the reaction that would send more is parked.
    cascade_commands_max: int = 500
    #: Bytes of what the commit says of them. Of a command that an effect returns, too.
    cascade_bytes_max: int = 1024 * 1024
    #: Reactions that are owed or parked, and timers and effects that are parked. While there are so many, a command
    #: whose events have reactions or effects is refused with `LimitReached`.
    agenda_entries_max: int = 100_000
    #: Timers that wait for their time; a command that would set more is refused with `LimitReached`.
    timers_max: int = 1_000_000
    #: Effects that are owed; a command whose events would owe more is refused with `LimitReached`.
    effects_owed_max: int = 100_000
    #: A time of day that runs from the measured one by more is not believed until it has stayed for as long.
    clock_jump_seconds_max: float = 60.0
    #: How long a store that fails is asked again before callers get `OutcomeUnknown` or `WriterUnavailable`.
    #: After that the next command asks it; in an application that has reactions, timers or effects the writer does so,
    #: too, and waits for so long at most.
    store_retry_seconds: float = 5.0
    #: Commands with an id whose receipts are remembered; the same id after so many others is a new command.
    receipts_max: int = 100_000
    #: Encoded bytes that the answer of one command may have; past it the command is refused with `AnswerTooLarge`.
    answer_bytes_max: int = 16 * 1024
    #: Encoded bytes of the answers that are remembered with those receipts; past it the oldest receipts are forgotten.
    receipts_bytes_max: int = 64 * 1024 * 1024
    #: How long the writer decides, or a view applies, before it lets others run.
    slice_ms_max: float = 0.5
    #: Commits that may wait for a view before it is detached and catches up from the log.
    view_queue_commits_max: int = 1_024
    #: Encoded bytes that may wait for a view before it is detached.
    view_queue_bytes_max: int = 64 * 1024 * 1024
    #: Queries that may wait for one view to reach their position; past it `ask` raises `ViewBehind`.
    view_waiters_max: int = 10_000
    #: Questions that are asked at once of one view whose state lies in a database: as many connections.
    stored_questions_max: int = 8
    #: How long such a question may take; past it `ask` raises `AnswerFailed`, and the database is interrupted.
    stored_answer_seconds_max: float = 30.0
    #: How long a view waits for others that are asked with it, at one position; past it `ask_all` raises
    #: `NotYetVisible`.
    ask_all_ms_max: float = 200.0
    #: Watches that are open at once, on all views together; past it `watch` raises `WatchesFull`.
    watches_max: int = 20_000
    #: Earlier states of views, made for callers that ask with ``at=``, that are kept for the next ones; the one that
    #: was not asked for longest is dropped. Each takes what the view itself takes.
    past_states_max: int = 4
    #: Who follows the log in this process at once, each with a page of it in memory, which is some times
    #: ``read_bytes_max`` once it is decoded; past it `follow` raises `LimitReached`.
    followers_max: int = 1_000
    #: Answers that may wait for a watcher of every change; past it that watch ends with `WatchOverrun`.
    watch_answers_max: int = 1_000
    #: Bytes of the answers that wait for all who watch every change of one view; one who has as many of them as are
    #: left to all others gets `WatchOverrun`. An answer that several wait for counts once, and one may always wait.
    watch_answers_bytes_max: int = 64 * 1024 * 1024
    #: Events that one view may have parked, those that wait behind them included; past it the view faults.
    view_parked_max: int = 10_000
    #: Events after which a snapshot is taken.
    snapshot_events_every: int = 1_000_000
    #: Snapshots that are kept of each view, the latest included, for those who ask `at` an earlier position. The
    #: further back, the further apart. Of write models and receipts one is kept.
    snapshots_kept: int = 4
    #: Commits at the log's end whose digests are checked at opening, even if a snapshot makes replaying them needless.
    verify_commits_min: int = 1_000
    #: About how many encoded bytes are read from the log at once: replay, rebuild and catch-up.
    read_bytes_max: int = 1024 * 1024
    #: A commit that takes longer to write is worth a log line.
    slow_commit_ms: float = 1_000.0
    #: How long a view that could not read the log waits before it tries again.
    catch_up_retry_seconds: float = 1.0
    #: How long closing waits for effects that run, and then for accepted commands to become durable, before it fails
    #: the rest.
    drain_seconds_max: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise DefinitionError(f"{name} must be positive, not {getattr(self, name)!r}", "Limits")
        if self.batch_commands_max > BATCH_COMMANDS_MAX:
            raise DefinitionError(
                f"batch_commands_max is at most {BATCH_COMMANDS_MAX:,}, not {self.batch_commands_max:,}: "
                "a log's SQL view takes time with its square",
                "Limits",
            )
        if self.commit_bytes_max < COMMIT_BYTES_MIN:
            problem = f"commit_bytes_max is at least {COMMIT_BYTES_MIN:,}, not {self.commit_bytes_max:,}"
            raise DefinitionError(f"{problem}: a commit says more than events", "Limits")
        room = self.commit_bytes_max - _BESIDE_BYTES
        if self.batch_bytes_max + 2 * self.cascade_bytes_max > room:
            raise DefinitionError(
                f"batch_bytes_max + 2 * cascade_bytes_max is {self.batch_bytes_max + 2 * self.cascade_bytes_max:,}, "
                f"and commit_bytes_max={self.commit_bytes_max:,} has room for {room:,} of them",
                "Limits",
            )

    def within(self, body_bytes_max: int | None) -> Limits:
        """These, for a store that takes bodies of so many bytes: a commit, a batch, and what follows are smaller.

        Raises:
            DefinitionError: it takes less than `COMMIT_BYTES_MIN`.
        """
        if body_bytes_max is None or body_bytes_max >= self.commit_bytes_max:
            return self
        if body_bytes_max < COMMIT_BYTES_MIN:
            raise DefinitionError(f"a store must take {COMMIT_BYTES_MIN:,} bytes, not {body_bytes_max:,}", "Limits")
        part = body_bytes_max // 4
        return msgspec.structs.replace(
            self,
            commit_bytes_max=body_bytes_max,
            batch_bytes_max=min(self.batch_bytes_max, part),
            cascade_bytes_max=min(self.cascade_bytes_max, part),
        )
