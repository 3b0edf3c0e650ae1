"""When next, by the calendar: for timers that come back each morning, or on the first of each month.

Here: one function over a library that knows cron expressions and what becomes of them when clocks change. Not here:
timers (`millstream.engine.application.schedules`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from millstream.engine.errors import DefinitionError, InvalidMessage

try:
    from cronsim import CronSim, CronSimError
except ImportError as error:
    raise DefinitionError(
        "timers by the calendar need the extra: pip install 'millstream[calendar]'", "millstream.handlers.calendar"
    ) from error

__all__ = ["next_at"]


def next_at(cron: str, after: datetime, *, zone: str) -> datetime:
    """The first time after a moment that a cron expression names, in the local time of a zone, as UTC.

        yield Schedule(Remind(command.user), at=next_at("0 9 * * MON-FRI", context.now, zone="Europe/Lisbon"))

    Where clocks go forward, what names a time that is skipped comes right after the gap; where they go back, what names
    one time of the day comes once. Needs the extra ``calendar``.

    Args:
        cron: five fields, minute to day of the week; six begin with the second.
        after: an aware datetime: ``context.now``, so that a replay would say the same.
        zone: its name in the time zone database.

    Raises:
        InvalidMessage: the expression is none, or names no time; the zone is not known; or ``after`` is not aware.
    """
    moment: object = after
    if not (isinstance(moment, datetime) and moment.utcoffset() is not None):
        raise InvalidMessage("next_at", f"after is an aware datetime, not {after!r:.80}")
    text: object = cron
    if not isinstance(text, str):
        raise InvalidMessage("next_at", f"a cron expression is a text, not {cron!r:.80}")
    try:
        local = after.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError, OverflowError) as error:
        raise InvalidMessage("next_at", f"there is no time zone {zone!r} here") from error
    try:
        return next(CronSim(cron, local)).astimezone(UTC)
    except CronSimError as error:
        raise InvalidMessage("next_at", f"{cron!r} is no cron expression: {error}") from error
    except (StopIteration, OverflowError) as error:
        raise InvalidMessage("next_at", f"{cron!r} names no time in the next 50 years") from error
