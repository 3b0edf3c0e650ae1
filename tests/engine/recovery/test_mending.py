"""A view's state made anew beside the live one: what differs, and that nothing is lost or done twice when it swaps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar, Literal

import anyio
import msgspec
import pytest

from millstream.engine import (
    About,
    App,
    Command,
    Difference,
    Engine,
    EngineClosed,
    Event,
    InvalidMessage,
    Key,
    Limits,
    Query,
    RowDifference,
    UnknownMessage,
    ViewFaulted,
    ViewIncomplete,
)
from millstream.handlers import WriteModel, applies, handles
from millstream.views import TableView, View, answers
from tests.stores import MemoryPlace
from tests.support import Seen, start, until, views_of

pytestmark = pytest.mark.anyio


class Added(Event):
    name: Key
    count: int


class Add(Command):
    name: Key
    count: int = 1


class Total(Query[int]):
    pass


class Names(Query[int]):
    pass


class Counting(WriteModel):
    @handles
    def add(self, command: Add) -> Iterator[Added]:
        yield Added(command.name, command.count)

    @applies
    def added(self, event: Added) -> None: ...


class Totals(View):
    """Its code is changed by tests: twice as much, or nothing at all of what is bad."""

    total: int = 0
    poison: ClassVar[Literal["skip"]] = "skip"
    times: ClassVar[int] = 2
    fails_at: ClassVar[int] = -1

    @applies
    def added(self, event: Added) -> None:
        if event.count == self.fails_at:
            raise ValueError("bad")
        self.total += event.count * self.times

    @answers
    def all(self, query: Total) -> int:
        return self.total


class NamesView(View):
    names: set[str] = set()
    poison: ClassVar[Literal["stop"]] = "stop"
    fails_at: ClassVar[str] = ""

    @applies
    def added(self, event: Added) -> None:
        if event.name == self.fails_at:
            raise ValueError("bad")
        self.names.add(event.name)

    @answers
    def count(self, query: Names) -> int:
        return len(self.names)


counting = App(models=[Counting], views=[Totals, NamesView], name="counting")


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The code is changed while the engine runs, as by an import of a new version."""
    return monkeypatch


async def test_it_says_what_differs_and_takes_the_place_of_the_live_state(changed: pytest.MonkeyPatch) -> None:
    seen, place = Seen(), MemoryPlace()
    async with Engine(counting, log=place.log(), observers=[seen]) as engine:
        await engine.execute_many([Add("a", number) for number in range(10)])
        changed.setattr(Totals, "times", 1)
        looked = await engine.rebuild(Totals, ask=[Total()], swap=False)
        assert (looked.differences, looked.swapped) == ([Difference(Total(), 90, 45)], False)
        assert await engine.ask(Total()) == 90
        rebuilt = await engine.rebuild("Totals", ask=[Total()])
        assert (rebuilt.position, rebuilt.differences, rebuilt.swapped) == (10, [Difference(Total(), 90, 45)], True)
        assert await engine.ask(Total()) == 45
        assert seen.names("view_rebuilt") == ["view_rebuilt"]
        receipt = await engine.execute(Add("b", 5))
        assert await engine.ask(Total(), after=receipt) == 50
        assert (await engine.rebuild(Totals, ask=[Total()])).differences == []
    async with Engine(counting, log=place.log()) as engine:
        assert await engine.ask(Total()) == 50, "from the snapshot of the new state"


class Entry(msgspec.Struct, frozen=True):
    name: str
    total: int
    since: datetime


class Book(TableView[Entry]):
    key: ClassVar = "name"
    times: ClassVar[int] = 2

    @applies
    def added(self, event: Added, about: About) -> None:
        known = self.get(event.name)
        if self.times == 1 and event.name == "gone":
            return
        self.put(Entry(event.name, (known.total if known else 0) + event.count * self.times, about.recorded_at))

    @answers
    def all(self, query: Total) -> int:
        return sum(row.total for row in self.rows())


async def test_of_a_table_it_says_which_rows_differ(changed: pytest.MonkeyPatch) -> None:
    async with Engine(App(models=[Counting], views=[Book], name="counting"), log="memory:") as engine:
        receipts = await engine.execute_many([Add("a", 1), Add("same", 0), Add("gone", 1), Add("a", 2)])
        now = (await anext(engine.follow(after=0))).about.recorded_at
        assert len(receipts) == 4
        assert (await engine.rebuild(Book)).rows_differ == 0
        changed.setattr(Book, "times", 1)
        rebuilt = await engine.rebuild(Book, swap=False)
        assert rebuilt.rows_differ == 2
        assert list(rebuilt.rows) == [
            RowDifference("a", Entry("a", 6, now), Entry("a", 3, now)),
            RowDifference("gone", Entry("gone", 2, now), None),
        ]
        assert await engine.ask(Total()) == 8
        await engine.rebuild(Book)
        assert await engine.ask(Total()) == 3


async def test_a_crash_right_after_it_does_not_bring_the_old_state_back(changed: pytest.MonkeyPatch) -> None:
    place = MemoryPlace()
    async with Engine(counting, log=place.log()) as engine:
        await engine.execute_many([Add("a", number) for number in range(10)])
    async with Engine(counting, log=place.log()) as engine:
        changed.setattr(Totals, "times", 1)
        await engine.rebuild(Totals)
        place.crash()
    async with Engine(counting, log=place.log()) as engine:
        assert await engine.ask(Total()) == 45


@pytest.mark.parametrize("how", ["cancelled", "fails"])
async def test_what_keeps_the_new_state_from_being_stored_does_not_bring_the_old_one_back(
    how: str, changed: pytest.MonkeyPatch
) -> None:
    place = MemoryPlace()
    async with Engine(counting, log=place.log()) as engine:
        await engine.execute_many([Add("a", number) for number in range(10)])
    async with Engine(counting, log=place.log()) as engine:
        changed.setattr(Totals, "times", 1)
        store = engine.log.snapshots
        with changed.context() as broken, anyio.CancelScope() as scope:

            async def add(part: str, index: int, piece: bytes) -> None:
                if how == "fails":
                    raise OSError("the disk is full")
                scope.cancel()
                await anyio.lowlevel.checkpoint()

            broken.setattr(store, "add", add)
            assert (await engine.rebuild(Totals)).swapped
        assert await engine.ask(Total()) == 45
        place.crash()
        crashed = place.store
    for _ in range(2):  # after the crash; and then after a close in good order
        async with Engine(counting, log=place.log()) as engine:
            assert await engine.ask(Total()) == 45
    assert place.store is crashed


async def test_where_the_old_snapshot_can_not_be_dropped_the_live_state_stays(changed: pytest.MonkeyPatch) -> None:
    place = MemoryPlace()
    async with Engine(counting, log=place.log()) as engine:
        await engine.execute_many([Add("a", number) for number in range(10)])
        changed.setattr(Totals, "times", 1)

        async def drop(snapshots: object) -> None:
            raise OSError("the disk is gone")

        with changed.context() as broken:
            broken.setattr(engine.log.snapshots, "drop", drop)
            with pytest.raises(OSError, match="the disk is gone"):
                await engine.rebuild(Totals)
        assert await engine.ask(Total()) == 90


async def test_it_answers_on_and_nothing_that_is_written_meanwhile_is_lost_or_applied_twice() -> None:
    limits = Limits(slice_ms_max=1e-6, view_queue_commits_max=4, batch_commands_max=3)
    async with Engine(counting, log="memory:", limits=limits) as engine, anyio.create_task_group() as group:
        await engine.execute_many([Add("a") for _ in range(300)])
        watched: list[int] = []

        async def watch() -> None:
            async with engine.watch(Total()) as found:
                while True:
                    watched.append((await anext(found)).answer)

        group.start_soon(watch)
        rebuilding = start(group, engine.rebuild(Totals))
        await until(lambda: engine.stats().views["Totals"].rebuild)
        told, written = [engine.stats().views["Totals"].rebuild], 300
        while not rebuilding.settled:
            receipt = await engine.execute(Add("a"))
            written += 1
            assert await engine.ask(Total(), after=receipt) == 2 * written
            told.append(engine.stats().views["Totals"].rebuild)
        assert rebuilding.error is None
        assert rebuilding.value.swapped
        assert 300 <= rebuilding.value.position <= written
        events = [each.events for each in told if each is not None]
        assert events == sorted(events)
        assert all(each.of >= each.events for each in told if each is not None)
        await engine.execute_many([Add("a") for _ in range(50)])
        assert await engine.ask(Total(), after=engine.position) == 2 * (written + 50)
        await until(lambda: watched[-1:] == [2 * (written + 50)])
        assert watched == sorted(watched)
        assert engine.stats().views["Totals"].rebuild is None
        group.cancel_scope.cancel()


async def test_what_was_left_out_is_there_when_the_code_is_mended(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(Totals, "fails_at", 3)
    async with Engine(counting, log="memory:") as engine:
        await engine.execute_many([Add("a", number) for number in range(5)])
        with pytest.raises(ViewIncomplete):
            await engine.ask(Total(), after=engine.position)
        changed.setattr(Totals, "fails_at", -1)
        rebuilt = await engine.rebuild(Totals)
        assert (rebuilt.left_out_before, rebuilt.left_out) == (1, 0)
        assert await engine.ask(Total()) == 20


async def test_a_view_that_has_faulted_answers_again_and_goes_on(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(NamesView, "fails_at", "b")
    async with Engine(counting, log="memory:") as engine:
        await engine.execute_many([Add("a"), Add("b"), Add("c")])
        await engine.execute(Add("d"))
        with pytest.raises(ViewFaulted):
            await engine.ask(Names(), after=engine.position)
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.rebuild(NamesView)
        changed.setattr(NamesView, "fails_at", "")
        assert (await engine.rebuild(NamesView)).position == 4
        assert await engine.ask(Names()) == 4
        receipt = await engine.execute(Add("e"))
        assert await engine.ask(Names(), after=receipt) == 5
        await until(lambda: engine.stats().views["NamesView"].status == "live")


async def test_a_state_that_faults_does_not_take_the_place_of_one_that_answers(changed: pytest.MonkeyPatch) -> None:
    async with Engine(counting, log="memory:") as engine:
        await engine.execute_many([Add("a"), Add("b")])
        assert await engine.ask(Names(), after=engine.position) == 2
        changed.setattr(NamesView, "fails_at", "b")
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.rebuild(NamesView)
        assert await engine.ask(Names()) == 2
        assert views_of(engine)[1].rebuilding is None


async def test_what_is_wrong_is_said() -> None:
    engine = Engine(counting, log="memory:")
    with pytest.raises(EngineClosed):
        await engine.rebuild(Totals)
    async with engine:
        with pytest.raises(UnknownMessage, match="Total"):
            await engine.rebuild("Total")
        with pytest.raises(InvalidMessage, match="it is answered by NamesView, and not by Totals"):
            await engine.rebuild(Totals, ask=[Names()])
        with pytest.raises(UnknownMessage, match="View"):
            await engine.rebuild(View)
        assert (await engine.rebuild(Totals)).position == 0


async def test_one_that_is_cancelled_leaves_everything_as_it_was() -> None:
    async with Engine(counting, log="memory:", limits=Limits(slice_ms_max=1e-6)) as engine:
        await engine.execute_many([Add("a") for _ in range(300)])
        for turns in range(1, 60, 7):
            async with anyio.create_task_group() as group:
                start(group, engine.rebuild(Totals))
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        assert views_of(engine)[0].rebuilding is None
        receipt = await engine.execute(Add("a"))
        assert await engine.ask(Total(), after=receipt) == 602
        assert (await engine.rebuild(Totals)).position == 301
