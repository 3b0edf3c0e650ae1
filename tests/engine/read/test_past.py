"""Yesterday's answers: what today's code says of the events up to an earlier commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import (
    App,
    Command,
    Engine,
    EngineClosed,
    Event,
    InvalidMessage,
    Key,
    Limits,
    MillstreamError,
    NotYetVisible,
    Query,
    Replica,
    UnknownMessage,
    ViewFaulted,
    ViewIncomplete,
)
from millstream.engine.application.validation import at_in
from millstream.engine.snapshots.part import Snapshot
from millstream.engine.stores.memory_snapshots import MemorySnapshots
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.desk import Put, Seen, desk
from tests.shop import Add, StockOf, shop
from tests.stores import MemoryPlace, Place, SqlitePlace

pytestmark = pytest.mark.anyio

EAST = timezone(timedelta(hours=12))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


async def test_it_is_what_was_answered_then() -> None:
    async with Engine(shop, log="memory:", limits=Limits(past_states_max=2)) as engine:
        then = {}
        for number in range(1, 20):
            receipt = await engine.execute(Add("a", number))
            then[receipt.position] = await engine.ask(StockOf("a"), after=receipt)
        for at in (*then, *reversed(then), 7, 7):
            assert await engine.ask(StockOf("a"), at=at) == then[at]
            answered = await engine.answer(StockOf("a"), at=at)
            assert (answered.answer, answered.position) == (then[at], at)
        assert await engine.ask(StockOf("a"), at=0) == 0
        assert await engine.ask(StockOf("a")) == then[19]


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_whole_commits_only_whatever_is_asked_in_which_order(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=12))

    async def run() -> None:
        async with Engine(shop, log="memory:", limits=Limits(past_states_max=2, read_bytes_max=300)) as engine:
            for size in sizes:
                await engine.execute_many([Add("a", 1)] * size)
            firsts = [commit.position for commit in await engine.log.read(0, 1_000_000)]
            for at in data.draw(st.lists(st.integers(1, engine.position), max_size=12)):
                whole = min([first - 1 for first in firsts if first > at], default=engine.position)
                assert (await engine.answer(StockOf("a"), at=at)).position == whole
                assert await engine.ask(StockOf("a"), at=at) == whole

    anyio.run(run)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_time_means_the_last_commit_that_is_not_after_it(kind: str, tmp_path: Any) -> None:
    place: Place = MemoryPlace() if kind == "memory" else SqlitePlace(tmp_path)
    hands = Hands()
    async with Engine(shop, log=place.log(), clock=hands) as engine:
        for _ in range(4):
            await engine.execute(Add("a", 1))
            hands.now += timedelta(minutes=10)
        for minutes, expected in ((0, 1), (9.9, 1), (10, 2), (25, 3), (30, 4), (40, 4)):
            assert await engine.ask(StockOf("a"), at=NOON + timedelta(minutes=minutes)) == expected
        with pytest.raises(InvalidMessage, match=r"2026-01-01T12:40:01\.000000Z is in the future: it is 2026"):
            await engine.ask(StockOf("a"), at=NOON + timedelta(minutes=40, seconds=1))
        with pytest.raises(InvalidMessage, match=r"is before the log's first commit: 2026-01-01T12:00:00\.000000Z"):
            await engine.ask(StockOf("a"), at=NOON - timedelta(seconds=1))
        hands.now = NOON  # it is set back: what the log holds is no future
        assert await engine.ask(StockOf("a"), at=NOON + timedelta(minutes=30)) == 4
        hands.now = NOON + timedelta(minutes=40)
        with pytest.raises(InvalidMessage, match="is a time without a zone"):
            await engine.ask(StockOf("a"), at=datetime(2026, 1, 1))  # noqa: DTZ001
    if kind == "sqlite":
        async with Replica(shop, log=place.log(), clock=hands) as replica:
            assert await replica.ask(StockOf("a"), at=NOON + timedelta(minutes=15)) == 2
            assert await replica.ask(StockOf("a"), at=3) == 3


async def test_what_is_wrong_is_said() -> None:
    async with Engine(shop, log="memory:") as engine:
        receipt = await engine.execute(Add("a", 1))
        with pytest.raises(InvalidMessage, match="position 2 is above the head of the log, which is at 1"):
            await engine.ask(StockOf("a"), at=2)
        with pytest.raises(InvalidMessage, match="position -1 is before the log"):
            await engine.ask(StockOf("a"), at=-1)
        with pytest.raises(InvalidMessage, match="not both"):
            await engine.ask(StockOf("a"), at=1, after=receipt)
        with pytest.raises(InvalidMessage, match="no receipt, no answer and no position"):
            await engine.ask(StockOf("a"), at="1")  # type: ignore[arg-type]
        with pytest.raises(UnknownMessage):
            await engine.ask(Seen(), at=1)
        for moment in (datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), datetime(1, 1, 1, tzinfo=EAST)):
            with pytest.raises(InvalidMessage, match="is no time that a log can have"):
                await engine.ask(StockOf("a"), at=moment)
        assert await engine.ask(StockOf("a"), at=receipt) == 1
    with pytest.raises(EngineClosed):
        await engine.ask(StockOf("a"), at=1)


async def test_what_today_leaves_out_is_left_out_of_yesterday_too() -> None:
    async with Engine(desk("park"), log="memory:") as engine:
        await engine.execute_many([Put("a", "1"), Put("a", "bad"), Put("b", "2")])
        with pytest.raises(ViewIncomplete) as raised:
            await engine.ask(Seen(), at=3)
        assert raised.value.parked == 1
        assert await engine.ask(Seen(), at=3, incomplete=True) == ("a 1", "b 2")
    async with Engine(desk("stop"), log="memory:") as engine:
        await engine.execute(Put("a", "1"))
        await engine.execute(Put("a", "bad"))
        assert await engine.ask(Seen(), at=1) == ("a 1",)
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.ask(Seen(), at=2)


class Counted(Event):
    key: Key


class Count(Command):
    key: Key


class Total(Query[int]):
    pass


class Counts(WriteModel):
    @handles
    def count(self, command: Count) -> Iterator[Counted]:
        yield Counted(command.key)

    @applies
    def counted(self, event: Counted) -> None: ...


class Slow(View):
    total: int = 0

    @applies
    def counted(self, event: Counted) -> None:
        self.total += 1

    @answers
    def all(self, query: Total) -> int:
        return self.total


counts = App(models=[Counts], views=[Slow], name="counts")


async def test_whoever_gives_up_leaves_what_was_made_to_the_next() -> None:
    limits = Limits(slice_ms_max=1e-6, read_bytes_max=500, batch_commands_max=5)
    async with Engine(counts, log="memory:", limits=limits) as engine:
        await engine.execute_many([Count(f"{number}") for number in range(500)])
        reached, tries = [0], 0
        while True:
            tries += 1
            try:
                assert await engine.ask(Total(), at=500, timeout=0.0 if tries < 5 else 0.003) == 500
                break
            except NotYetVisible as error:
                reached.append(error.position)
                named = error.view, error.after
        assert named == ("Slow", 500)
        assert reached == sorted(reached)
        assert tries >= 5
        assert await engine.ask(Total(), at=250) == 250


async def test_large_commits_are_got_through_by_whoever_asks_often_enough() -> None:
    async with Engine(counts, log="memory:", limits=Limits(slice_ms_max=0.01)) as engine:
        await engine.execute_many([Count(f"{number}") for number in range(5_000)])
        tries = 0
        while True:
            tries += 1
            assert tries < 500
            with suppress(NotYetVisible):
                assert await engine.ask(Total(), at=5_000, timeout=0.002) == 5_000
                break


async def test_whoever_asks_while_the_engine_closes_is_told_so(tmp_path: Path) -> None:
    outcomes: list[BaseException | None] = []

    async def ask(engine: Engine, at: int) -> None:
        try:
            await engine.ask(Total(), at=at)
        except MillstreamError as error:
            outcomes.append(error)

    limits = Limits(slice_ms_max=1e-6, read_bytes_max=300)
    async with anyio.create_task_group() as group, Engine(counts, log=tmp_path / "log.db", limits=limits) as engine:
        await engine.execute_many([Count(f"{number}") for number in range(3_000)])
        for at in range(3_000, 0, -30):
            group.start_soon(ask, engine, at)
        await anyio.lowlevel.checkpoint()
    assert {type(error) for error in outcomes} == {EngineClosed}


async def test_no_more_wait_than_may() -> None:
    async with Engine(counts, log="memory:", limits=Limits(view_waiters_max=3, slice_ms_max=1e-6)) as engine:
        await engine.execute_many([Count(f"{number}") for number in range(300)])
        kinds: list[str] = []

        async def ask(at: int) -> None:
            try:
                await engine.ask(Total(), at=at)
                kinds.append("answered")
            except MillstreamError as error:
                kinds.append(type(error).__name__)

        async with anyio.create_task_group() as group:
            for at in range(5):
                group.start_soon(ask, 300 - at)
        assert sorted(kinds) == ["ViewBehind", "ViewBehind", "answered", "answered", "answered"]


async def test_many_who_ask_for_the_same_wait_for_one_state() -> None:
    async with Engine(counts, log="memory:") as engine:
        await engine.execute_many([Count(f"{number}") for number in range(300)])
        found = []

        async def ask(at: int) -> None:
            found.append((at, await engine.ask(Total(), at=at)))

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(ask, 100 + number % 6)
        ends = [commit.position - 1 for commit in (await engine.log.read(0, 1_000_000))[1:]] + [300]
        assert all(total == min(end for end in ends if end >= at) for at, total in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17", 17),
        ("2026-01-01T12:00Z", NOON),
        ("2026-01-01T13:00+01:00", NOON),
    ],
)
def test_a_text_is_a_position_or_a_time(text: str, expected: object) -> None:
    assert at_in(text) == expected


@pytest.mark.parametrize("text", ["2026-01-01T12:00", "2026-01-01"])
def test_a_time_in_a_text_has_a_zone(text: str) -> None:
    with pytest.raises(InvalidMessage, match="is a time without a zone"):
        at_in(text)


@pytest.mark.parametrize("text", ["", "-1", "yesterday", "1.5", "\u0661"])
def test_another_text_is_neither(text: str) -> None:
    with pytest.raises(InvalidMessage, match="neither a position nor a time"):
        at_in(text)


# From snapshots.


class Steps(View):
    """Says how many events were applied, to any of its states."""

    applied: ClassVar[int] = 0
    total: int = 0

    @applies
    def counted(self, event: Counted) -> None:
        Steps.applied += 1
        self.total += 1

    @answers
    def all(self, query: Total) -> int:
        return self.total


steps = App(models=[Counts], views=[Steps], name="counts")


def other_steps() -> type[View]:
    """The same view as other code has it."""

    class Steps(View):
        other: int = 0
        total: int = 0

        @applies
        def counted(self, event: Counted) -> None:
            count_one()
            self.total += 1

        @answers
        def all(self, query: Total) -> int:
            return self.total

    return Steps


def count_one() -> None:
    Steps.applied += 1


Stepped = other_steps()


#: A hundred commands are one commit, however slow the machine is.
UNHURRIED = Limits(slice_ms_max=60_000)


async def live_three_times(place: Place) -> None:
    for _ in range(3):
        async with Engine(steps, log=place.log(), limits=UNHURRIED) as engine:
            await engine.execute_many([Count(f"{number}") for number in range(100)])


async def applied_by(asked: Engine | Replica, at: int) -> int:
    Steps.applied = 0
    answered = await asked.answer(Total(), at=at)
    assert answered.answer == answered.position
    return Steps.applied


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_state_is_made_from_the_latest_snapshot_from_before_it(kind: str, tmp_path: Path) -> None:
    place: Place = MemoryPlace() if kind == "memory" else SqlitePlace(tmp_path)
    await live_three_times(place)
    limits = Limits(batch_commands_max=10, past_states_max=1, slice_ms_max=60_000)
    async with Engine(steps, log=place.log(), limits=limits) as engine:
        await engine.execute_many([Count("x")] * 50)
        taken_up = {at: await applied_by(engine, at) for at in (100, 200, 300, 330, 350, 250)}
        assert taken_up == {100: 0, 200: 0, 300: 0, 330: 30, 350: 50, 250: 0}  # 201 to 300 are one commit
    if kind == "sqlite":
        async with Replica(steps, log=place.log(), limits=limits) as replica:
            assert await applied_by(replica, 330) == 30
            assert await applied_by(replica, 200) == 0
        async with Replica(steps, log=place.log(), snapshots=False) as replica:
            assert await applied_by(replica, 330) == 330
    async with Engine(steps, log=place.log(), snapshots=False) as engine:
        assert await applied_by(engine, 330) == 330


class DroppedMeanwhile(MemorySnapshots):
    """Another process drops a snapshot between the look at what there is and the look into it."""

    dropping = 0

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        if self.dropping:
            self.dropping -= 1
            await self.drop([snapshot])
        return await super().pieces(snapshot, start)


@pytest.mark.parametrize(("dropping", "applied"), [(1, 100), (2, 200), (3, 300), (9, 300)])
async def test_a_snapshot_that_another_process_drops_meanwhile_is_no_damage(
    dropping: int, applied: int, log_lines: list[Any]
) -> None:
    place = MemoryPlace()
    place.store.snapshots = store = DroppedMeanwhile()
    await live_three_times(place)
    async with Engine(steps, log=place.log()) as engine:
        store.dropping = dropping
        assert await applied_by(engine, 300) == applied
        store.dropping = 0
    assert not [line for line in log_lines if line["event"] == "snapshot_set_aside"]


async def test_where_a_log_was_put_back_a_later_snapshot_does_not_push_out_a_new_one() -> None:
    place = MemoryPlace()
    await live_three_times(place)
    del place.store.commits[1:]
    for _ in range(2):
        Steps.applied = 0
        async with Engine(steps, log=place.log(), limits=Limits(snapshots_kept=1)) as engine:
            await engine.execute(Count("x"))
    kept = [each.head.position for each in await place.store.snapshots.kept() if each.part == "view Steps"]
    assert kept == [102]
    assert Steps.applied == 1


async def test_no_more_snapshots_are_kept_than_are_wanted_and_those_of_the_code_before_go_on_being_there() -> None:
    place = MemoryPlace()
    await live_three_times(place)
    store = place.store.snapshots
    assert [each.head.position for each in await store.kept() if each.part == "view Steps"] == [300, 200, 100]
    async with Engine(steps, log=place.log(), limits=Limits(snapshots_kept=2)) as engine:
        await engine.execute(Count("x"))
    assert [each.head.position for each in await store.kept() if each.part == "view Steps"] == [301, 300]
    assert len([each for each in await store.kept() if each.part == "ledger"]) == 1


async def test_two_versions_of_a_view_keep_snapshots_side_by_side() -> None:
    place, old, new = MemoryPlace(), steps, App(models=[Counts], views=[Stepped], name="counts")
    await live_three_times(place)
    for app, first in ((new, 300), (old, 0), (new, 0), (old, 0)):
        Steps.applied = 0
        async with Engine(app, log=place.log()) as engine:
            assert Steps.applied == first
            assert await engine.ask(Total()) == 300
            assert await applied_by(engine, 200) == (0 if app is old else 200)


async def test_a_snapshot_that_can_not_be_read_leaves_an_older_one(log_lines: list[Any]) -> None:
    place = MemoryPlace()
    await live_three_times(place)
    latest = next(each for each in await place.store.snapshots.kept() if each.part == "view Steps")
    (pieces,) = [kept.pieces for kept in place.store.snapshots._whole if kept.snapshot == latest]
    pieces[0] = b"no piece"
    async with Engine(steps, log=place.log()) as engine:
        assert await engine.ask(Total()) == 300
    opened = [line for line in log_lines if line["event"] == "opened"][-1]
    assert opened["replayed"] == 100
    assert [line["part"] for line in log_lines if line["event"] == "snapshot_set_aside"] == ["view Steps"]
    assert next(each for each in await place.store.snapshots.kept() if each.part == "view Steps") == latest
