"""The time of day that timers and records go by: it follows its clock, and does not leap with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from millstream.engine.loop.clock import replaced_clocks, utc_now
from millstream.engine.loop.steady import SteadyClock

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clocks:
    """One that measures, and one on a wall that somebody may set."""

    def __init__(self) -> None:
        self.measured = 100.0
        self.ahead = 0.0
        self.leaps: list[tuple[float, bool]] = []

    def pass_by(self, seconds: float) -> None:
        self.measured += seconds

    def day(self) -> datetime:
        return START + timedelta(seconds=self.measured - 100 + self.ahead)

    def leapt(self, *, seconds: float, believed: bool) -> None:
        self.leaps.append((round(seconds), believed))


@pytest.fixture
def clocks() -> Iterator[Clocks]:
    made = Clocks()
    with replaced_clocks(lambda: made.measured, made.day):
        yield made


def seconds(clock: SteadyClock) -> float:
    return round((clock.now() - START).total_seconds(), 3)


def test_it_is_the_time_of_day_and_follows_small_steps_at_once(clocks: Clocks) -> None:
    clock = SteadyClock(utc_now, 60, clocks.leapt)
    shown = []
    for ahead in (0, 30, -20, -79):
        clocks.ahead = ahead
        shown.append(seconds(clock))
        clocks.pass_by(10)
    assert shown == [0, 40, 0, -49]
    assert clocks.leaps == []


@pytest.mark.parametrize("leap", [86_400, -86_400, 61])
def test_a_leap_is_believed_when_it_has_lasted_and_told_of_twice(clocks: Clocks, leap: int) -> None:
    clock = SteadyClock(utc_now, 60, clocks.leapt)
    assert seconds(clock) == 0
    clocks.ahead = leap
    for passed in range(60):
        assert seconds(clock) == passed
        clocks.pass_by(1)
    assert seconds(clock) == 60 + leap
    assert clocks.leaps == [(leap, False), (leap, True)]


def test_a_leap_there_and_back_changes_nothing(clocks: Clocks) -> None:
    clock = SteadyClock(utc_now, 60, clocks.leapt)
    assert seconds(clock) == 0
    for passed, ahead in enumerate([86_400] * 50 + [0] * 50):
        clocks.ahead = ahead
        assert seconds(clock) == passed
        clocks.pass_by(1)
    assert clocks.leaps == [(86_400, False)]


def test_one_leap_after_another_is_waited_for_anew(clocks: Clocks) -> None:
    clock = SteadyClock(utc_now, 60, clocks.leapt)
    assert seconds(clock) == 0
    clocks.ahead = 1_000
    assert seconds(clock) == 0
    clocks.pass_by(50)
    clocks.ahead = 5_000
    assert seconds(clock) == 50
    clocks.pass_by(59)
    assert seconds(clock) == 109
    clocks.pass_by(1)
    assert seconds(clock) == 5_110
    assert clocks.leaps == [(1_000, False), (5_000, False), (5_000, True)]


def test_a_clock_that_is_not_guarded_is_always_believed(clocks: Clocks) -> None:
    clock = SteadyClock(utc_now, None, clocks.leapt)
    clocks.ahead = 86_400
    assert (seconds(clock), clock.is_guarded, clocks.leaps) == (86_400, False, [])
