"""Several questions at one position: answers that fit each other, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import (
    App,
    Command,
    Engine,
    Event,
    InvalidMessage,
    Key,
    Limits,
    NotYetVisible,
    Query,
    Replica,
    UnknownMessage,
    ViewFaulted,
)
from millstream.engine.testing import Simulation, simulate
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.support import views_of

pytestmark = pytest.mark.anyio


class Count(Command):
    key: Key
    times: int = 1


class Note(Command):
    text: str


class Counted(Event):
    key: Key


class Noted(Event):
    text: str


class HowMany(Query[int]):
    pass


class Last(Query[str]):
    pass


class Notes(Query[tuple[str, ...]]):
    pass


class Counting(WriteModel):
    @handles
    def count(self, command: Count) -> Iterator[Counted]:
        for _ in range(command.times):
            yield Counted(command.key)

    @handles
    def note(self, command: Note) -> Iterator[Noted]:
        yield Noted(command.text)

    @applies
    def counted(self, event: Counted) -> None:
        pass

    @applies
    def noted(self, event: Noted) -> None:
        pass


class Totals(View):
    total: int = 0

    @applies
    def counted(self, event: Counted) -> None:
        if event.key == "bad":
            raise ValueError("bad")
        self.total += 1

    @answers
    def how_many(self, query: HowMany) -> int:
        return self.total


class Lists(View):
    """As many as `Totals` counts; it has more to do."""

    keys: dict[str, int] = {}
    notes: tuple[str, ...] = ()

    @applies
    def counted(self, event: Counted) -> None:
        self.keys[event.key] = self.keys.get(event.key, 0) + 1

    @applies
    def noted(self, event: Noted) -> None:
        self.notes += (event.text,)

    @answers
    def last(self, query: Last) -> str:
        return str(sum(self.keys.values()))

    @answers
    def all_notes(self, query: Notes) -> tuple[str, ...]:
        return self.notes


app = App(models=[Counting], views=[Totals, Lists], name="counting")


async def test_answers_come_in_the_order_of_the_questions_and_are_typed() -> None:
    async with Engine(app, log="memory:") as engine:
        receipt = await engine.execute(Count("a", 3))
        many, last = await engine.ask_all(HowMany(), Last(), after=receipt)
        assert many + len(last) == 4
        notes, again, once_more = await engine.ask_all(Notes(), HowMany(), HowMany())
        assert (notes, again, once_more) == ((), 3, 3)
        assert await engine.ask_all(*[HowMany()] * 6) == (3,) * 6


async def test_a_replica_answers_them_too(tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    async with Engine(app, log=log) as engine, Replica(app, log=log) as replica:
        receipt = await engine.execute(Count("a", 3))
        assert await replica.ask_all(HowMany(), Last(), after=receipt) == (3, "3")


def test_whatever_is_written_meanwhile_they_fit_each_other() -> None:
    async def scenario(world: Simulation) -> int:
        waited, writing = 0, 4
        few = Limits(slice_ms_max=0.01, view_queue_commits_max=world.random.choice((2, 1_024)))
        async with Engine(app, log="memory:", limits=few) as engine, anyio.create_task_group() as group:

            async def write(caller: int) -> None:
                nonlocal writing
                for number in range(40):
                    if world.random.random() < 0.2:
                        await engine.execute(Note(f"{caller}/{number}"))
                    await engine.execute(Count(str(caller), world.random.choice((1, 1, 200))))
                writing -= 1

            async def look() -> None:
                nonlocal waited
                while writing:
                    waited += len({view.position for view in views_of(engine)}) > 1
                    many, last, notes = await engine.ask_all(HowMany(), Last(), Notes())
                    assert str(many) == last
                    assert len(notes) == len(set(notes))
                    await anyio.lowlevel.checkpoint()

            async def hinder() -> None:
                """One view or the other has more to do for a while."""
                while writing:
                    async with world.random.choice(views_of(engine)).still:
                        for _ in range(world.random.randrange(60)):
                            await anyio.lowlevel.checkpoint()

            group.start_soon(hinder)
            for caller in range(4):
                group.start_soon(write, caller)
            for _ in range(3):
                group.start_soon(look)
        return waited

    assert sum(simulate(scenario, seed=seed).result for seed in range(10)) > 30, "views were apart"


async def test_a_view_that_waits_for_another_goes_on_after_its_time_and_the_writer_waits_for_nobody() -> None:
    async with Engine(app, log="memory:", limits=Limits(ask_all_ms_max=1)) as engine:
        totals, lists = views_of(engine)
        async with totals.still:
            receipt = await engine.execute(Count("a"))
            assert await engine.ask(Last(), after=receipt) == "1"
            with pytest.raises(NotYetVisible, match="Totals"):
                await engine.ask_all(HowMany(), Last())
            assert lists.head.number == 1
            receipt = await engine.execute(Count("a"))
            assert await engine.ask(Last(), after=receipt) == "2"
        assert await engine.ask_all(HowMany(), Last(), after=receipt) == (2, "2")


async def test_a_view_stands_still_while_another_comes_after_it() -> None:
    async with (
        Engine(app, log="memory:", limits=Limits(ask_all_ms_max=60_000)) as engine,
        anyio.create_task_group() as group,
    ):
        totals, lists = views_of(engine)
        found: list[tuple[int, str]] = []

        async def ask() -> None:
            found.append(await engine.ask_all(HowMany(), Last()))

        async with totals.still:
            first = await engine.execute(Count("a"))
            await engine.ask(Last(), after=first)
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            for command in (Note("x"), Count("a")):
                await engine.execute(command)
            await anyio.wait_all_tasks_blocked()
            assert lists.position == first.position
        await engine.ask(Last(), after=first.position + 2)
        assert found == [(1, "1")]


async def test_a_commit_that_waits_for_its_view_to_be_free_is_held_too() -> None:
    found: list[tuple[int, str]] = []

    async def ask(engine: Engine) -> None:
        found.append(await engine.ask_all(HowMany(), Last()))

    async with (
        Engine(app, log="memory:", limits=Limits(ask_all_ms_max=60_000)) as engine,
        anyio.create_task_group() as group,
    ):
        totals, lists = views_of(engine)
        async with lists.still:
            receipt = await engine.execute(Count("a"))
            await engine.ask(HowMany(), after=receipt)
            async with totals.still:  # as while parked events are replayed
                await engine.execute(Count("a"))
                await anyio.wait_all_tasks_blocked()
                group.start_soon(ask, engine)
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
    assert found == [(1, "1")]


async def test_two_who_ask_at_different_positions_do_not_wait_for_each_other() -> None:
    found: list[tuple[int, str]] = []

    async def ask(engine: Engine) -> None:
        found.append(await engine.ask_all(HowMany(), Last()))

    async with (
        Engine(app, log="memory:", limits=Limits(ask_all_ms_max=60_000)) as engine,
        anyio.create_task_group() as group,
    ):
        totals, _ = views_of(engine)
        async with totals.still:
            first = await engine.execute(Count("a"))
            await engine.ask(Last(), after=first)
            group.start_soon(ask, engine)
            await anyio.wait_all_tasks_blocked()
            second = await engine.execute(Count("a"))
            group.start_soon(partial(engine.ask_all, HowMany(), Last(), after=second))
            await anyio.wait_all_tasks_blocked()
    assert found == [(1, "1")]


async def test_what_is_wrong_with_one_is_said_and_nobody_is_held_any_more() -> None:
    async with Engine(app, log="memory:") as engine:
        receipt = await engine.execute(Count("bad"))
        with pytest.raises(ViewFaulted, match="Totals"):
            await engine.ask_all(Last(), HowMany(), after=receipt)
        receipt = await engine.execute(Count("good"))
        assert await engine.ask(Last(), after=receipt) == "2"
        with pytest.raises(UnknownMessage):
            await engine.ask_all(Last(), Unknown())
        with pytest.raises(InvalidMessage):
            await engine.ask_all(Last(), timeout=float("nan"))
        with pytest.raises(InvalidMessage):
            await engine.ask_all(Last(), after=99)


class Unknown(Query[int]):
    pass
