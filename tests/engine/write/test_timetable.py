"""When timers are due, by two clocks that somebody moves; and what is due still when all was made anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from millstream.engine.commits.commit import timestamp
from millstream.engine.loop.clock import replaced_clocks, utc_now
from millstream.engine.loop.steady import SteadyClock
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Timer
from millstream.engine.write.timetable import Timetable

START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A clock that measures, one on the wall, an agenda, and the timetable of that."""

    def __init__(self) -> None:
        self.measured = 0.0
        self.ahead = 0.0
        self.agenda = Agenda()
        self.timetable = Timetable(SteadyClock(utc_now, 60, lambda **_: None))
        self.timetable.follow(self.agenda)

    def day(self) -> datetime:
        return START + timedelta(seconds=self.measured + self.ahead)

    def set(self, title: str, seconds: float, *, is_measured: bool) -> None:
        timer = Timer(title, None, timestamp(self.day() + timedelta(seconds=seconds)), "{}", 1)
        self.agenda.enter(timer)
        self.timetable.add(timer, is_measured=is_measured)

    def due(self) -> list[str]:
        """What is due, once nothing is to be looked at further at once."""
        while self.timetable.look() and not self.timetable.due:
            pass
        return [name[1] for name, _ in self.timetable.due]

    def sent(self) -> None:
        """Whoever sends has taken all that is due; the agenda is not told."""
        self.timetable.due.clear()

    def made_anew(self) -> None:
        """After a failure: what was sent is on the agenda still."""
        again = Agenda()
        for timer in self.agenda.timers.values():
            again.enter(timer)
        self.agenda = again
        self.timetable.follow(again)


@pytest.fixture
def world() -> Iterator[World]:
    made: list[World] = []
    with replaced_clocks(lambda: made[0].measured if made else 0.0, lambda: made[0].day() if made else START):
        made.append(World())
        yield made[0]


def test_each_is_due_at_its_time_the_earliest_first(world: World) -> None:
    world.set("late", 3, is_measured=True)
    world.set("early", 1, is_measured=True)
    world.set("dated", 2, is_measured=False)
    found = []
    for _ in range(4):
        found.append(world.due())
        world.measured += 1
    assert found == [[], ["early"], ["early", "dated"], ["early", "dated", "late"]]


def test_a_clock_that_is_set_moves_what_waits_for_a_time_and_not_what_counts_from_a_moment(world: World) -> None:
    world.set("measured", 30, is_measured=True)
    world.set("dated", 30, is_measured=False)
    assert world.due() == []
    world.ahead = 40
    assert world.due() == [], "the day's clock is looked at each second"
    world.measured = 1
    assert world.due() == ["dated"]
    world.ahead = -40
    world.measured = 30
    assert world.due() == ["dated", "measured"]


def test_none_is_due_before_its_time_by_a_clock_that_was_slowed_down_a_little(world: World) -> None:
    world.set("measured", 10, is_measured=True)
    world.measured, world.ahead = 10, -0.25
    assert world.due() == []
    world.measured = 10.2
    assert world.due() == []
    world.measured = 10.25
    assert world.due() == ["measured"]


def test_what_counts_from_a_moment_goes_on_when_all_is_made_anew_and_is_due_still_if_it_was(world: World) -> None:
    world.set("sent", 5, is_measured=True)
    world.set("waits", 50, is_measured=True)
    world.measured = 5
    assert world.due() == ["sent"]
    world.sent()
    world.ahead = -30
    world.made_anew()
    assert world.due() == ["sent"]
    world.made_anew()  # not even taken
    assert world.due() == ["sent"]
    world.measured = 50
    assert world.due() == ["sent", "waits"]


def test_so_many_at_once_are_handed_over_bit_by_bit_each_kind_in_order(world: World) -> None:
    for number in range(2_500):
        world.set(f"{number:04}", 1 + number / 10_000, is_measured=bool(number % 2))
    world.made_anew()
    world.measured = 5
    found: list[str] = []
    while more := world.due():
        assert len(more) <= 1_000
        found += more
        world.sent()
    for kind in (0, 1):
        ours = [f"{number:04}" for number in range(2_500) if number % 2 == kind]
        assert [title for title in found if int(title) % 2 == kind] == ours


def test_those_that_were_called_off_are_forgotten(world: World) -> None:
    for number in range(5_000):
        world.set("same", 100 + number, is_measured=True)
    assert len(world.timetable._measured) < 1_100
    world.measured = 99 + 5_000
    assert world.due().count("same") < 1_100
