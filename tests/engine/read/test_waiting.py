from __future__ import annotations

import asyncio

import pytest

from millstream.engine.read.waiting import Waiting
from tests.support import settled

pytestmark = pytest.mark.anyio


class Line:
    """Tasks that wait, by name, and who had a turn in which order."""

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.came: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, position: int) -> None:
        self.tasks[name] = asyncio.create_task(self._wait(name, position))
        await settled()

    async def _wait(self, name: str, position: int) -> None:
        await self.waiting.until(self.waiting.join(position))
        self.came.append(name)


async def test_each_is_woken_at_its_position_and_nobody_before() -> None:
    line = Line()
    for name, position in (("nine", 9), ("three", 3), ("five", 5), ("three again", 3)):
        await line.add(name, position)
    for position, came in (
        (2, []),
        (3, ["three", "three again"]),
        (4, ["three", "three again"]),
        (9, ["three", "three again", "five", "nine"]),
    ):
        line.waiting.moved_to(position)
        await settled()
        assert line.came == came
    assert len(line.waiting) == 0


async def test_all_are_woken_wherever_the_view_is() -> None:
    line = Line()
    await line.add("nine", 9)
    await line.add("three", 3)
    line.waiting.wake_all()
    await settled()
    assert sorted(line.came) == ["nine", "three"]
    assert len(line.waiting) == 0


async def test_only_those_who_wait_for_more_than_there_will_be_are_woken() -> None:
    line = Line()
    for name, position in (("nine", 9), ("three", 3), ("four", 4)):
        await line.add(name, position)
    line.waiting.wake_beyond(3)
    await settled()
    assert (sorted(line.came), len(line.waiting)) == (["four", "nine"], 1)
    line.waiting.moved_to(3)
    await settled()
    assert line.came[-1] == "three"


async def test_who_is_cancelled_waits_no_more_and_the_others_do() -> None:
    line = Line()
    for name, position in (("two", 2), ("one", 1), ("three", 3)):
        await line.add(name, position)
    line.tasks["one"].cancel()
    await settled()
    assert (line.tasks["one"].cancelled(), len(line.waiting)) == (True, 2)
    line.waiting.moved_to(3)
    await settled()
    assert line.came == ["two", "three"]


async def test_many_who_are_cancelled_at_once_are_not_looked_for_one_by_one() -> None:
    waiting = Waiting()
    tasks = [asyncio.create_task(waiting.until(waiting.join(position))) for position in range(1_000)]
    await settled()
    for task in tasks[1:]:
        task.cancel()
    await settled()
    assert len(waiting) == 1
    assert len(waiting._line) < 100
    waiting.moved_to(0)
    await settled()
    assert tasks[0].done()
    assert len(waiting) == 0


async def test_who_is_cancelled_when_its_turn_has_come_harms_nobody() -> None:
    line = Line()
    await line.add("one", 1)
    await line.add("two", 2)
    line.waiting.moved_to(1)
    line.tasks["one"].cancel()
    await settled()
    assert (line.came, len(line.waiting)) == ([], 1)
    line.waiting.moved_to(2)
    await settled()
    assert line.came == ["two"]
