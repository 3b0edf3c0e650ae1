"""Fakes of a scenario live on one loop: they are entered, hold what belongs to that loop, and are left at the end."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
import pytest
from anyio.abc import TaskGroup

from millstream.engine import App, Command, Event, Key
from millstream.engine.testing import Scenario, SimulationError, Stuck
from millstream.handlers import Effects, WriteModel, applies, handles, performs


class Send(Command):
    to: Key


class Sent(Event):
    to: Key


class Post(WriteModel):
    @handles
    def send(self, command: Send) -> Iterator[Sent]:
        yield Sent(command.to)

    @applies
    def sent(self, event: Sent) -> None: ...


async def passed(seconds: float) -> None:
    """So much simulated time has."""
    with anyio.move_on_after(seconds):
        await anyio.Event().wait()


class Plain(Effects):
    """It is no context manager, and holds what belongs to a loop all the same."""

    def __init__(self) -> None:
        self.line: asyncio.Queue[str] = asyncio.Queue()
        self.lock = asyncio.Lock()
        self.heard: list[str] = []
        self.reader: asyncio.Task[None] | None = None

    @performs
    async def deliver(self, event: Sent) -> None:
        if self.reader is None:
            self.reader = asyncio.create_task(self.read())
        async with self.lock:
            self.line.put_nowait(event.to)
            await passed(1)

    async def read(self) -> None:
        while True:
            self.heard.append(await self.line.get())


class Held(Effects):
    """As an engine would have it: entered once, with a task group that is held open."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.fails_at = ""

    def step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.fails_at:
            raise ConnectionError(name)

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        self.group: TaskGroup = await self.stack.enter_async_context(anyio.create_task_group())
        self.group.start_soon(self.tick)
        if self.fails_at == "enter":
            self.group.cancel_scope.cancel()
            await self.stack.aclose()
        self.step("enter")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.group.cancel_scope.cancel()
        await self.stack.aclose()
        if self.fails_at == "hang":
            await asyncio.Event().wait()
        self.step("leave")

    async def tick(self) -> None:
        await passed(60)
        self.step("tick")

    @performs(timeout_seconds=50)
    async def deliver(self, event: Sent) -> None:
        self.step(event.to)
        if event.to == "slow":
            await passed(40)


def app_of(*effects: type[Effects]) -> App:
    return App(models=[Post], effects=effects, name="post")


def test_a_fake_keeps_a_lock_a_queue_and_a_task_between_two_effects() -> None:
    fake = Plain()
    with Scenario(app_of(Plain), effects=[fake]) as scenario:
        scenario.given(Send("o1"))
        scenario.perform()
        scenario.given(Send("o2"))
        scenario.perform()
        assert fake.heard == ["o1", "o2"]
        assert fake.reader is not None
        assert not fake.reader.done()
    assert fake.reader.cancelled()


def test_a_fake_is_entered_before_the_first_effect_and_left_at_the_end() -> None:
    fake = Held()
    with Scenario(app_of(Held), effects=[fake]) as scenario:
        scenario.given(Send("o1"))
        scenario.perform("Held.deliver")
        scenario.given(Send("o2"))
        scenario.perform()
        assert fake.steps == ["enter", "o1", "o2"]
    assert fake.steps == ["enter", "o1", "o2", "leave"]
    scenario.close()


def test_where_nothing_is_performed_nobody_is_entered() -> None:
    fake = Held()
    with Scenario(app_of(Held), effects=[fake]) as scenario:
        scenario.given(Sent("o1"))
        scenario.perform()
    assert fake.steps == []


def performed(fake: Held, fails_at: str, *expected: Event) -> None:
    """A whole test: it fails where its events are not the expected ones."""
    with Scenario(app_of(Held), effects=[fake]) as scenario:
        scenario.given(Send("o1"))
        scenario.perform()
        fake.fails_at = fails_at
        scenario.then(*expected)


def test_a_test_that_fails_leaves_its_fakes_and_is_told_why_it_failed() -> None:
    fake = Held()
    with pytest.raises(AssertionError, match="what happened") as raised:
        performed(fake, "leave", Sent("o2"))
    assert fake.steps == ["enter", "o1", "leave"]
    assert raised.value.__notes__ == ["and when its fakes were left: ConnectionError('leave')"]


def test_what_a_fake_waits_for_comes_with_the_time_of_the_scenario() -> None:
    fake = Held()
    with Scenario(app_of(Held), effects=[fake]) as scenario:
        scenario.given(Send("o1"))
        scenario.perform()
        scenario.advance(minutes=1)
        scenario.given(Send("o2"))
        scenario.perform()
        assert fake.steps == ["enter", "o1", "o2", "tick"]
        scenario.advance(days=365)
        scenario.given(Send("o3"))
        scenario.perform()


@pytest.mark.parametrize(
    ("at", "act"),
    [("enter", lambda scenario: None), ("tick", lambda scenario: scenario.given(Send("slow"), Send("slow")))],
)
def test_a_fake_that_can_not_be_entered_or_fails_beside_an_effect_fails_the_step(
    at: str, act: Callable[[Scenario], None]
) -> None:
    fake = Held()
    fake.fails_at = at
    with Scenario(app_of(Held), effects=[fake]) as scenario:
        scenario.given(Send("o1"))
        act(scenario)
        with pytest.raises((ConnectionError, ExceptionGroup)) as raised:
            scenario.perform()
        assert at in repr(raised.value)
        if at == "enter":
            fake.fails_at = ""
            scenario.perform()
            assert fake.steps == ["enter", "enter", "o1"]


def test_a_fake_that_fails_to_leave_fails_the_scenario_and_one_that_never_does_is_named() -> None:
    for at, error in (("leave", ConnectionError), ("hang", Stuck)):
        with pytest.raises(error):
            performed(Held(), at)


def test_a_fake_that_is_to_be_entered_needs_somebody_who_says_when_it_is_left() -> None:
    scenario = Scenario(app_of(Held), effects=[Held()])
    scenario.given(Send("o1"))
    with pytest.raises(SimulationError, match=r"Held is an async context manager.*with Scenario\(…\) as scenario"):
        scenario.perform()


def test_a_scenario_that_nobody_closes_leaves_no_loop_open() -> None:
    class Quiet(Effects):
        @performs
        async def deliver(self, event: Sent) -> None: ...

    scenario = Scenario(app_of(Quiet), effects=[Quiet()])
    scenario.given(Send("o1"))
    scenario.perform()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del scenario
        gc.collect()
    assert told == [], "an open loop that is let go of is a ResourceWarning"
