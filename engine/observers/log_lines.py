"""The log lines: an observer that writes what it is called with as structured lines, and is always there.

Here: which hooks are lines, and at which level. What each line means to an operator: `docs/reference/log-lines.md`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from millstream.engine.errors.said import said_by
from millstream.engine.observers.observer import Observer

__all__ = ["LEVELS", "LogLines", "log_observer_failure"]

_log = structlog.get_logger("millstream")

#: By hook: the level of its line, which has the hook's name. The others have none: `committed`, `traced`, `applied` and
#: `attempted` are called as often as the application works.
LEVELS: Mapping[str, str] = {
    "opened": "info",
    "closed": "info",
    "waits_for_lock": "info",
    "stands_by": "info",
    "took_over": "warning",
    "standby_failed": "error",
    "log_upgraded": "warning",
    "log_ahead": "warning",
    "clock_leaps": "warning",
    "drain_timed_out": "error",
    "slow_commit": "warning",
    "commit_failed": "error",
    "commit_found": "warning",
    "store_failed": "error",
    "store_recovered": "info",
    "state_rebuilt": "info",
    "rebuild_failed": "error",
    "fenced": "error",
    "commits_lost": "critical",
    "writer_stopped": "critical",
    "application_failed": "error",
    "effect_superseded": "error",
    "effects_cut_off": "warning",
    "effects_gone": "warning",
    "event_parked": "error",
    "event_skipped": "error",
    "parked_replayed": "info",
    "view_rebuilt": "info",
    "view_detached": "warning",
    "view_caught_up": "info",
    "view_catch_up_failed": "warning",
    "view_faulted": "error",
    "snapshots_taken": "info",
    "snapshot_failed": "error",
    "snapshot_set_aside": "warning",
    "snapshots_damaged": "warning",
    "snapshots_unavailable": "warning",
    "replica_opened": "info",
    "replica_closed": "info",
    "replica_cut_off": "error",
    "replica_rejoined": "info",
    "replica_stopped": "error",
    "server_listening": "info",
    "server_stopped": "info",
    "connections_dropped": "warning",
    "accept_failed": "error",
    "request_failed": "error",
    "front_started": "info",
    "front_lost": "error",
    "connection_lost": "warning",
    "connected_again": "info",
    "observer_failed": "error",
}
#: The lines that have the traceback of their error.
_WITH_TRACEBACK = frozenset({"application_failed", "request_failed", "view_faulted", "writer_stopped"})


class LogLines(Observer):
    """Writes a line for each hook in `LEVELS`."""


def _line(hook: str) -> Callable[..., None]:
    def write(_: LogLines, **facts: Any) -> None:
        shown = {name: _shown(name, fact) for name, fact in facts.items()}
        if "replayed" in facts and hook != "state_rebuilt":
            shown["events_per_second"] = round(facts["replayed"] / facts["seconds"]) if facts["seconds"] else 0
        if hook in _WITH_TRACEBACK:
            shown |= _traceback_of(facts["error"])
        elif "raised" in facts:
            del shown["raised"]
            shown |= _traceback_of(facts["raised"])
        if shown.get("correlation", "") is None:
            del shown["correlation"]
        getattr(_log, LEVELS[hook])(hook, **shown)

    return write


def _traceback_of(error: BaseException | None) -> dict[str, Any]:
    """An error for whatever renders the line. Until the program configures structlog, as a plain text.

    What structlog takes then is rich where that is installed: it holds the loop for ten milliseconds and more for each,
    and prints what all variables held, secrets among them.
    """
    if error is None:
        return {}
    if structlog.is_configured():
        return {"exc_info": error}
    return {"stack": "".join(traceback.format_exception(error)).rstrip()}


def _shown(name: str, fact: Any) -> Any:
    if name == "raised":
        return None
    if isinstance(fact, BaseException):
        return said_by(fact)
    if name == "cause":
        return repr(fact)
    return round(fact, 3) if name == "seconds" else fact


for _hook in LEVELS.keys() & vars(Observer).keys():
    setattr(LogLines, _hook, _line(_hook))


def log_observer_failure(observer: str, hook: str, error: Exception) -> None:
    """Write the line for an observer that has raised."""
    _log.error("observer_failed", observer=observer, hook=hook, error=repr(error), **_traceback_of(error))
