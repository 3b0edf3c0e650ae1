"""Timers by the calendar: cron expressions in the local time of a zone, also when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import App, Command, Context, Event, InvalidMessage
from millstream.engine.testing import Scenario
from millstream.handlers import Decision, Schedule, WriteModel, applies, handles
from millstream.handlers.calendar import next_at


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 9 * * *", "Europe/Lisbon", "2026-01-10T08:59", "2026-01-10T09:00"),
        ("0 9 * * *", "Europe/Lisbon", "2026-01-10T09:00", "2026-01-11T09:00"),
        ("0 9 * * *", "Europe/Lisbon", "2026-07-10T07:00", "2026-07-10T08:00"),
        ("0 9 * * MON-FRI", "Europe/Berlin", "2026-01-09T08:00", "2026-01-12T08:00"),
        ("0 0 1 * *", "UTC", "2026-01-31T23:59", "2026-02-01T00:00"),
        ("0 0 L * *", "UTC", "2026-02-01T00:00", "2026-02-28T00:00"),
        ("*/10 * * * * *", "UTC", "2026-01-01T00:00:03", "2026-01-01T00:00:10"),
        # Clocks go forward from 2:00 to 3:00, at 1:00 UTC; and back from 3:00 to 2:00.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00", "2026-03-30T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),
    ],
)
def test_the_next_time_is_that_of_the_local_calendar(cron: str, zone: str, after: str, expected: str) -> None:
    assert next_at(cron, utc(after), zone=zone) == utc(expected)


@given(
    st.datetimes(naive("2020-01-01"), naive("2040-01-01"), timezones=st.just(UTC)),
    st.sampled_from(["Europe/Lisbon", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    st.integers(0, 23),
)
def test_once_a_day_is_once_a_day_and_always_later(after: datetime, zone: str, hour: int) -> None:
    found = next_at(f"15 {hour} * * *", after, zone=zone)
    assert timedelta() < found - after <= timedelta(hours=25, minutes=15)
    local = found.astimezone(ZoneInfo(zone))
    assert (local.hour, local.minute) == (hour, 15) or local.hour in (hour, hour + 1), "else it is right after a gap"


@pytest.mark.parametrize(
    ("cron", "zone", "after", "problem"),
    [
        ("0 9 * *", "UTC", utc("2026-01-01"), "no cron expression"),
        ("61 9 * * *", "UTC", utc("2026-01-01"), "no cron expression"),
        ("0 0 30 2 *", "UTC", utc("2026-01-01"), "no cron expression|names no time"),
        ("0 9 * * *", "Nowhere/Else", utc("2026-01-01"), "no time zone"),
        ("0 9 * * *", "../../etc/passwd", utc("2026-01-01"), "no time zone"),
        ("0 9 * * *", "UTC", naive("2026-01-01"), "aware"),
    ],
)
def test_what_names_no_time_is_refused(cron: str, zone: str, after: datetime, problem: str) -> None:
    with pytest.raises(InvalidMessage, match=problem):
        next_at(cron, after, zone=zone)


class Wake(Command):
    days: int


class Woken(Event):
    at: datetime


class Clock(WriteModel):
    @handles
    def wake(self, command: Wake, context: Context) -> Decision:
        yield Woken(context.now)
        if command.days:
            at = next_at("0 9 * * *", context.now, zone="Europe/Berlin")
            yield Schedule(Wake(command.days - 1), at=at, name="wake")

    @applies
    def woken(self, event: Woken) -> None: ...


def test_a_timer_that_comes_back_each_morning_keeps_the_local_time_over_a_change_of_clocks() -> None:
    with Scenario(App(models=[Clock]), now=utc("2026-03-27T12:00")) as scenario:
        scenario.when(Wake(3))
        scenario.advance(days=5)
        scenario.then(
            Woken(utc("2026-03-28T08:00")),
            Woken(utc("2026-03-29T07:00")),
            Woken(utc("2026-03-30T07:00")),
        )
