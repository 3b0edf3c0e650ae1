"""What can be observed: a hook for each thing that happens once per commit or more rarely.

Here: the hooks, and what each is given. Not here: which are log lines (`log_lines`), and who calls them (`observers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["Observer", "has_hook"]


class Observer:
    """Derive from it, and define the hooks that are wanted: ``Engine(app, log="bank.db", observers=[MyMetrics()])``.

    A hook is called on the loop, between two steps of an actor, and must not take long: it neither awaits nor blocks.
    One that is ``async``, or yields, is a `DefinitionError`.
    None is ever called per command (`attempted` is, for each attempt at an effect), and one that is not defined costs
    nothing. A hook that raises is logged with its traceback (``observer_failed``), and changes nothing else.

    Everything is given by keyword. ``log``, ``view`` and ``part`` are names, ``position`` is that of an event,
    ``seconds`` is how long something took, ``error`` is what was raised, as it is.
    """

    # An engine.

    def opened(self, *, log: str, app: str, commits: int, events: int, replayed: int, seconds: float) -> None:
        """An engine is open; ``replayed`` of the log's events were in no snapshot."""

    def closed(self, *, log: str, app: str, commits: int, events: int) -> None:
        """An engine has closed its log."""

    def drain_timed_out(self, *, log: str, commands: int) -> None:
        """Closing has waited for ``drain_seconds_max``, and gives up on so many commands."""

    def waits_for_lock(self, *, log: str, seconds: float) -> None:
        """Another writer has the log open; opening waits for it, for so many seconds at most."""

    def stands_by(self, *, log: str, app: str, commits: int, events: int, leader: str | None) -> None:
        """Another writer has the log: this engine follows it, from so many commits and events on, until its turn."""

    def took_over(self, *, log: str, app: str, commits: int, events: int, seconds: float) -> None:
        """A standby has taken the log over: commands are decided here now. It took so many seconds from its turn on."""

    def standby_failed(self, *, log: str, position: int, error: BaseException) -> None:
        """A standby can't follow on behind this position, and so will not take over: its code may be too old."""

    def log_upgraded(self, *, log: str, from_format: int, to_format: int) -> None:
        """A log of an older format was brought to that of today: an older millstream can't open it any more."""

    # Its writer.

    def committed(
        self, *, commit: int, position: int, commands: int, events: int, size_bytes: int, seconds: float
    ) -> None:
        """A commit is durable and was offered to all that follow the log; its callers are answered next.

        Args:
            commit: its number.
            position: that of its last event.
            commands: how many were accepted in it.
            events: how many it holds.
            size_bytes: of its body.
            seconds: from handing it to the store until the writer saw that it is durable.
        """

    def traced(
        self, *, commit: int, position: int, commands: int, events: int, seconds: float, traces: Sequence[str]
    ) -> None:
        """Called right after `committed`, with ``traces``: where the commands of the commit that say so stand in a
        distributed trace (`Metadata.trace`), each once, in their order. Empty if none says so.
        """

    def slow_commit(self, *, commit: int, ms: int, bytes: int) -> None:  # noqa: A002 - the line has that word
        """A commit took longer than ``slow_commit_ms``."""

    def commit_failed(self, *, log: str, commit: int, error: BaseException, cause: BaseException | None) -> None:
        """The store did not take a commit, or can't say whether it did."""

    def commit_found(self, *, log: str, commit: int) -> None:
        """A commit in doubt was in the log after all."""

    def log_ahead(self, *, log: str, seconds: float) -> None:
        """A log that is opened was written to at a time that is ahead of the clock: timers wait for the clock."""

    def clock_leaps(self, *, log: str, seconds: float, believed: bool) -> None:
        """The time of day has leapt by so much. Not ``believed``: time goes on as measured. Else it had lasted."""

    def store_failed(self, *, log: str, error: BaseException) -> None:
        """The store takes nothing at opening."""

    def store_recovered(self, *, log: str, commit: int) -> None:
        """The store takes commits again; ``commit`` is the last one that it has."""

    def state_rebuilt(self, *, log: str, events: int, replayed: int, seconds: float) -> None:
        """The write models were made anew after a failure."""

    def rebuild_failed(self, *, log: str, error: BaseException) -> None:
        """They could not be: callers that wait are refused, and it is tried again with the next command."""

    def fenced(self, *, log: str, commit: int, head: int) -> None:
        """Another writer has appended: the log is at commit ``head``, and this writer has stopped before ``commit``."""

    def commits_lost(self, *, log: str, commit: int, head: int) -> None:
        """The log ends at commit ``head``, and ``commit`` was durable: the store lost it; this writer has stopped."""

    def writer_stopped(self, *, log: str, commit: int, error: BaseException) -> None:
        """The writer has died of ``error``, which closing the engine raises; ``commit`` is the last durable one."""

    # The application's own code.

    def application_failed(
        self, *, place: str, message: str, error: BaseException, left_out: int, correlation: str | None
    ) -> None:
        """A handler, an applier of a write model, or an answer has raised. Ten are reported in a second at most.

        Args:
            place: the method.
            message: the type of the command, event or query that it was given.
            error: what it has raised; or what is wrong with what it gave.
            left_out: how many were not reported since the last one that was.
            correlation: what the caller has given whose command led to it; None for a question.
        """

    # Its views.

    def applied(self, *, view: str, commit: int, position: int, lag: int) -> None:
        """A view has applied a commit, or passed it over because it has nothing for this view.

        ``lag`` is how many events were published that the view has not applied.
        """

    def event_parked(
        self,
        *,
        view: str,
        position: int,
        event_type: str,
        key: str | None,
        error: str,
        raised: BaseException,
        correlation: str | None,
    ) -> None:
        """A view could not apply an event, and keeps it."""

    def event_skipped(
        self,
        *,
        view: str,
        position: int,
        event_type: str,
        key: str | None,
        error: str,
        raised: BaseException,
        correlation: str | None,
    ) -> None:
        """A view could not apply an event, and goes on without it."""

    def parked_replayed(self, *, view: str, events: int, parked: int) -> None:
        """A view has applied so many of the events that it had parked; so many are parked still."""

    def view_rebuilt(self, *, view: str, position: int, seconds: float, differences: int, left_out: int) -> None:
        """A state that was made anew from the log has taken a view's place.

        Args:
            view: its name.
            position: at which it did: so many events were replayed.
            seconds: how long that took.
            differences: how many of the questions that were given the new one answers differently.
            left_out: how many events it has parked or skipped.
        """

    def view_detached(self, *, view: str, position: int, lag: int, queued: int) -> None:
        """A view's queue is full: it reads on from the log."""

    def view_caught_up(self, *, view: str, position: int) -> None:
        """A view takes commits from its queue again."""

    def view_catch_up_failed(self, *, view: str, position: int, error: BaseException) -> None:
        """A view could not read the log; it tries again."""

    def view_faulted(self, *, view: str, position: int, error: BaseException) -> None:
        """A view could not apply the event at ``position``, and answers no more."""

    # What is done to the outside world.

    def attempted(
        self,
        *,
        effect: str,
        key: str | None,
        position: int,
        number: int,
        seconds: float,
        error: BaseException | None,
        trace: str | None,
    ) -> None:
        """An attempt at an effect has ended; what came of it is not durable yet.

        Args:
            effect: the name of its method.
            key: the event's.
            position: the event's.
            number: of the attempt: 1, 2, 3 … since the engine was opened.
            seconds: how long it took.
            error: what it failed with, if it has.
            trace: where the command that led to it stands in a distributed trace, as its caller said.
        """

    def effect_superseded(
        self, *, effect: str, how: str, commands: Sequence[str], problem: str, correlation: str | None
    ) -> None:
        """An effect was performed, and is not owed any more: it was dropped meanwhile. What came of it, the types
        of its commands or the problem, is not decided.
        """

    def effects_cut_off(self, *, effects: Sequence[str]) -> None:
        """Closing has waited for ``drain_seconds_max``, and these are not settled: they are owed still."""

    def effects_gone(self, *, app: str, effects: Mapping[str, int]) -> None:
        """By name how many effects are owed for which today's code has no method: they wait."""

    # Snapshots.

    def snapshots_taken(self, *, position: int, parts: int, seconds: float) -> None:
        """So many parts were stored, as they are at ``position``."""

    def snapshot_failed(self, *, part: str, error: BaseException) -> None:
        """A part could not be stored; ``all``: none could."""

    def snapshot_set_aside(self, *, part: str, reason: str) -> None:
        """A snapshot does not fit: its part is made from the log alone."""

    def snapshots_damaged(self, *, file: str, error: BaseException) -> None:
        """The file of snapshots was renamed, and a new one begun."""

    def snapshots_unavailable(self, *, log: str, error: BaseException) -> None:
        """Snapshots can't be used; opening goes on without."""

    # A replica.

    def replica_opened(self, *, log: str, app: str, commits: int, events: int, replayed: int, seconds: float) -> None:
        """A replica is open."""

    def replica_closed(self, *, log: str, app: str, commits: int, events: int) -> None:
        """A replica has closed its log."""

    def replica_cut_off(self, *, log: str, position: int, error: BaseException) -> None:
        """A replica can't read its log, and tries again."""

    def replica_rejoined(self, *, log: str, position: int) -> None:
        """It follows its log again."""

    def replica_stopped(self, *, log: str, position: int, error: BaseException) -> None:
        """It can't read its log on: its views are faulted."""

    # A server.

    def server_listening(self, *, addresses: Sequence[str], tokens: bool) -> None:
        """A server takes connections."""

    def server_stopped(self, *, addresses: Sequence[str], connections: int, connections_lost: int) -> None:
        """It has closed the connections that it had; ``connections_lost`` did not end in time."""

    def connections_dropped(self, *, reason: str, connections: int) -> None:
        """Within the last second it has ended so many connections for this reason."""

    def accept_failed(self, *, error: BaseException, connections: int) -> None:
        """It could not take a connection, and tries again."""

    def request_failed(self, *, error: BaseException) -> None:
        """A request failed unexpectedly."""

    def front_started(self, *, front: int, pid: int) -> None:
        """One of its front processes takes connections."""

    def front_lost(self, *, front: int, error: BaseException, retry_seconds: float) -> None:
        """One has ended by itself, or could not be started again; that is tried after so many seconds."""

    # A client.

    def connection_lost(self, *, address: str, problem: str, waiting: int) -> None:
        """A client's connection is gone; so many calls wait for the next one."""

    def connected_again(self, *, address: str) -> None:
        """It has one again."""


def has_hook(observer: Observer, hook: str) -> bool:
    """Whether an observer defines a hook. Code that would call it at each commit asks once, and then need not call."""
    return hook in vars(observer) or getattr(type(observer), hook) is not getattr(Observer, hook)
