"""What is decided beside events: timers that are set and called off.

Here: telling them from events, and checking them before anything is applied. Not here: entering them (`rows`), when one
is due (`timetable`), and sending it (`cascade`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from millstream.engine.application.app import App
from millstream.engine.application.schedules import Schedule, Timing, Unschedule
from millstream.engine.commits.commit import timestamp
from millstream.engine.errors import CommitTooLarge, InvalidMessage, LimitReached
from millstream.engine.limits import Limits
from millstream.engine.write.agenda import Agenda

__all__ = ["Checked", "apart", "checked", "own_timing"]

_KINDS = (Schedule, Unschedule)


class Checked(NamedTuple):
    """A timer as it is set or called off, once nothing can be wrong with it any more."""

    timing: Timing
    #: When it is due, as the log has it, and its command's JSON; None of one that is called off.
    due: str | None
    command: bytes | None


def apart(yielded: Sequence[Any]) -> tuple[Sequence[Any], list[Timing]]:
    """What was yielded, without the timers; and these."""
    timings = [each for each in yielded if type(each) in _KINDS]
    return ([each for each in yielded if type(each) not in _KINDS] if timings else yielded), timings


def checked(
    timings: Iterable[Timing], app: App, agenda: Agenda, clock: datetime, limits: Limits, tag: str
) -> list[Checked]:
    """Timers as they can be entered.

    Args:
        timings: in the order in which they were yielded.
        app: whose commands they are.
        agenda: which they are to be on.
        clock: the time of day: what ``after`` counts from.
        limits: ``timers_max`` and ``commit_bytes_max`` are honoured.
        tag: of the command, for errors.

    Raises:
        CommitTooLarge: their commands are more bytes than a commit may have.
        UnknownMessage, InvalidMessage: a command is none of the application; or a time is none that the log can hold.
        LimitReached: there are as many timers as there may be.
        ValueError: no handler of the application says that it sets timers, so it keeps none.
    """
    found: list[Checked] = []
    for timing in timings:
        if not app.keeps_agenda:
            raise ValueError(
                f"it yielded {type(timing).__name__}, and no handler of {app.name!r} says so: write "
                "-> Iterator[Event | Schedule] or -> Decision"
            )
        if isinstance(timing, Unschedule):
            found.append(Checked(timing, None, None))
            continue
        command = app.encode_command(app.own_command(timing.command))
        found.append(Checked(timing, _due(timing, clock), command))
    size = sum(len(each.command) for each in found if each.command is not None)
    if size > limits.commit_bytes_max:
        raise CommitTooLarge(tag, size, limits.commit_bytes_max)
    new = sum(each.command is not None for each in found)
    if new and agenda.unsettled >= limits.agenda_entries_max:
        raise LimitReached("agenda_entries_max", limits.agenda_entries_max)
    if new and len(agenda.timers) + new > limits.timers_max:
        raise LimitReached("timers_max", limits.timers_max)
    return found


def own_timing(found: Checked, app: App) -> Timing:
    """A timer for the caller of a preview: what can be changed of it is a copy."""
    if isinstance(found.timing, Unschedule) or found.command is None:
        return found.timing
    command = app.command_today(found.command)
    assert command is not None, "it is one of today's"
    return replace(found.timing, command=command)


def _due(timing: Schedule, clock: datetime) -> str:
    try:
        if timing.after is not None:
            return timestamp(clock + timing.after)
        assert timing.at is not None
        return timestamp(timing.at.astimezone(UTC))
    except OverflowError as error:
        raise InvalidMessage("Schedule", "it is due at a time that no calendar has") from error
