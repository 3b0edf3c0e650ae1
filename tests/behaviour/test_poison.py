"""Views that park or skip what they can't apply, in a running engine: what queries hear, and what outlives a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import msgspec
import pytest

from millstream.engine import (
    About,
    Engine,
    EngineClosed,
    Event,
    InvalidMessage,
    Key,
    Limits,
    MemoryLog,
    Parked,
    UnknownMessage,
    ViewFaulted,
    ViewIncomplete,
)
from millstream.engine.application.sides import Poison
from millstream.engine.commits.commit import Commit
from millstream.engine.read import state
from millstream.engine.snapshots.part import Sealing, Snapshot
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.stores.memory_snapshots import MemorySnapshots
from millstream.handlers import Retired
from tests.desk import Counted, Placed, Put, Said, Say, Seen, Swap, desk
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import (
    Row,
    ScriptedLog,
    StoreBroke,
    published,
    sealed_rows,
    settled,
    start,
    views_held,
    views_of,
)

pytestmark = pytest.mark.anyio

CAUSE = 'ValueError("can\'t take bad")'


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


def lines(log_lines: list[Any], *events: str) -> list[tuple[str, int]]:
    return [(line["event"], line["position"]) for line in log_lines if line["event"] in events]


async def until(happens: Callable[[], object]) -> None:
    """Wait for what takes its rests, and so is not over when nobody else moves."""
    with anyio.fail_after(20):
        while not happens():
            await anyio.lowlevel.checkpoint()


def left_out(engine: Engine) -> list[tuple[int, str | None, str]]:
    return [(parked.position, parked.key, parked.cause) for parked in engine.parked()]


BAD = [Put("a", "1"), Put("a", "bad"), Put("b", "1"), Put("a", "2"), Say("bad"), Say("hi")]
LEFT_OUT = [(2, "a", CAUSE), (4, "a", ""), (5, None, "LookupError('bad')")]
ALL = ("a 1", "a bad", "b 1", "a 2", "bad", "hi")


# What queries hear.


async def test_an_answer_without_parked_events_says_so_unless_that_will_do(log_lines: list[Any]) -> None:
    async with Engine(desk(), log=MemoryLog()) as engine:
        await engine.execute(Put("a", "1"))
        assert await engine.ask(Seen(), after=1) == ("a 1",)
        await engine.execute_many(BAD[1:])
        with pytest.raises(
            ViewIncomplete, match="view Shelves at position 6 has left out 3 parked and 0 skip"
        ) as raised:
            await engine.ask(Seen(), after=6)
        assert (raised.value.view, raised.value.position) == ("Shelves", 6)
        assert (raised.value.parked, raised.value.skipped) == (3, 0)
        assert raised.value.answer == ("a 1", "b 1", "hi")
        assert await engine.ask(Seen(), after=6, incomplete=True) == ("a 1", "b 1", "hi")
        assert await engine.ask(Counted(), after=6) == 4  # the view beside it is complete
        now = engine.parked()[0].about.recorded_at
        about = [
            About(position=2, recorded_at=now, command="Put", key="a"),
            About(position=4, recorded_at=now, command="Put", key="a"),
            About(position=5, recorded_at=now, command="Say"),
        ]
        assert engine.parked() == [
            Parked("Shelves", 2, "a", Placed("a", "bad"), CAUSE, 1, about[0]),
            Parked("Shelves", 4, "a", Placed("a", "2"), "", 1, about[1]),
            Parked("Shelves", 5, None, Said("bad"), "LookupError('bad')", 1, about[2]),
        ]
        stats = engine.stats().views
        assert (stats["Shelves"].status, stats["Shelves"].parked, stats["Shelves"].skipped) == ("live", 3, 0)
        assert (stats["Tally"].parked, stats["Tally"].skipped) == (0, 0)
    assert lines(log_lines, "event_parked") == [("event_parked", 2), ("event_parked", 5)]


async def test_what_is_left_out_for_good_is_counted_and_what_waited_behind_it_is_applied() -> None:
    place = MemoryPlace()
    async with Engine(desk("park"), log=place.log()) as engine:
        await engine.execute_many(BAD)
        with pytest.raises(ViewIncomplete):
            await engine.ask(Seen(), after=6)
        assert [each.position for each in await engine.skip_parked("Shelves", 2)] == [5]
        with pytest.raises(ViewIncomplete, match="has left out 1 parked and 1 skipped events") as raised:
            await engine.ask(Seen())
        assert raised.value.answer == ("a 1", "b 1", "hi", "a 2")
        with pytest.raises(InvalidMessage, match="view Shelves has parked no event at position 2"):
            await engine.skip_parked("Shelves", 2)
        with pytest.raises(UnknownMessage):
            await engine.skip_parked("Shelf", 2)
        place.crash()
    async with Engine(desk("park"), log=place.log()) as engine:  # the snapshot was kept at once
        assert [each.position for each in engine.parked()] == [5]
        assert await engine.skip_parked("Shelves", 5) == []
        with pytest.raises(ViewIncomplete, match="has left out 0 parked and 2 skipped events"):
            await engine.ask(Seen())


async def test_an_answer_without_skipped_events_says_so_too(log_lines: list[Any]) -> None:
    async with Engine(desk("skip"), log=MemoryLog()) as engine:
        await engine.execute_many(BAD)
        with pytest.raises(ViewIncomplete, match="has left out 0 parked and 2 skipped events") as raised:
            await engine.ask(Seen(), after=6)
        assert raised.value.answer == ("a 1", "b 1", "a 2", "hi")
        assert engine.parked() == await engine.replay_parked() == []
        assert (engine.stats().views["Shelves"].parked, engine.stats().views["Shelves"].skipped) == (0, 2)
    assert lines(log_lines, "event_skipped") == [("event_skipped", 2), ("event_skipped", 5)]


async def test_a_view_that_stops_is_faulted_as_ever_and_parks_nothing() -> None:
    async with Engine(desk("stop"), log=MemoryLog()) as engine:
        await engine.execute_many(BAD)
        with pytest.raises(ViewFaulted, match="view Shelves faulted at position 2: ValueError"):
            await engine.ask(Seen(), after=6, incomplete=True)
        assert engine.parked() == await engine.replay_parked() == []
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.replay_parked("Shelves")


async def test_a_query_still_waits_for_its_position() -> None:
    async with Engine(desk(), log=MemoryLog()) as engine, anyio.create_task_group() as group:
        async with views_held(engine):
            await engine.execute_many([Put("a", "bad"), Put("a", "2")])
            early = start(group, engine.ask(Seen(), after=2, incomplete=True))
            await settled()
            assert early.kind == "waiting"
        await settled()
        assert early.value == ()
        async with views_held(engine):
            later = start(group, engine.ask(Seen(), after=await engine.execute(Put("b", "1"))))
            await settled()
        await settled()
        assert isinstance(later.error, ViewIncomplete)
        assert (later.error.position, later.error.answer) == (3, ("b 1",))


async def test_an_answer_never_shows_half_a_commit_in_which_something_was_parked() -> None:
    log = ScriptedLog()
    limits = Limits(slice_ms_max=1e-6)
    with mock.patch.object(state, "_STRIDE", 1):
        async with Engine(desk(), log=log, limits=limits) as engine, anyio.create_task_group() as group:
            answers: set[int] = set()

            async def ask_all_the_time() -> None:
                while True:
                    answers.add(len(await engine.ask(Seen(), incomplete=True)))
                    await anyio.lowlevel.checkpoint()

            log.hold()
            commands = [Put(f"{number}", "bad" if number % 3 else "good") for number in range(60)]
            start(group, engine.execute_many(commands))
            await settled()
            group.start_soon(ask_all_the_time)
            log.release()
            await until(lambda: views_of(engine)[0].position == 60)
            group.cancel_scope.cancel()
    ends = [0, *(commit.position - 1 for commit in log.commits[1:]), 60]
    assert max(end - begin for begin, end in pairwise(ends)) > 3
    assert len(answers) > 1
    assert answers <= {len([number for number in range(end) if number % 3 == 0]) for end in ends}


# Trying again.


async def test_a_mended_view_applies_what_it_had_parked(log_lines: list[Any]) -> None:
    fails = {"bad"}
    async with Engine(desk(fails=fails), log=MemoryLog()) as engine:
        await engine.execute_many(BAD)
        await engine.ask(Seen(), after=6, incomplete=True)
        assert left_out(engine) == LEFT_OUT == [(p.position, p.key, p.cause) for p in await engine.replay_parked()]
        fails.clear()
        assert await engine.replay_parked("Tally") == []
        assert left_out(engine) == LEFT_OUT
        assert await engine.replay_parked("Shelves") == []
        assert await engine.ask(Seen()) == ("a 1", "b 1", "hi", "a bad", "a 2", "bad")
        await engine.execute(Put("a", "3"))
        assert (await engine.ask(Seen(), after=7))[-1] == "a 3"
    replays = [line for line in log_lines if line["event"] == "parked_replayed"]
    assert [(line["view"], line["events"], line["parked"]) for line in replays] == [
        ("Shelves", 0, 3),
        ("Shelves", 3, 0),
    ]


async def test_only_an_open_engine_and_a_view_that_is_there_can_try_again() -> None:
    engine = Engine(desk(), log=MemoryLog())
    with pytest.raises(EngineClosed, match="not open yet"):
        await engine.replay_parked()
    async with engine:
        with pytest.raises(
            UnknownMessage, match="application 'desk' has no view 'Shelf', but 'Shelves'; it has: Shelves, Tally"
        ):
            await engine.replay_parked("Shelf")
    with pytest.raises(EngineClosed):
        await engine.replay_parked()


async def test_trying_again_waits_until_a_commit_is_whole() -> None:
    fails = {"bad"}
    limits = Limits(slice_ms_max=1e-6)
    with mock.patch.object(state, "_STRIDE", 1):
        async with Engine(desk(fails=fails), log=(log := ScriptedLog()), limits=limits) as engine:
            await engine.execute(Put("a", "bad"))
            await engine.ask(Seen(), after=1, incomplete=True)
            async with anyio.create_task_group() as group:
                log.hold()
                start(group, engine.execute_many([Put(f"{number}", "1") for number in range(30)]))
                await settled()
                log.release()
                await until(lambda: not views_of(engine)[0].ready)
                fails.clear()
                assert await engine.replay_parked() == []
                assert views_of(engine)[0].read.is_whole
            seen = await engine.ask(Seen(), after=31)
            before = [commit.position - 2 for commit in log.commits[1:]]  # the first event was parked
            assert len(before) < 5
            assert seen.index("a bad") in {*before, 30}


# After a restart.


@pytest.mark.parametrize("end", ["closed", "crashed"])
async def test_what_is_parked_outlives_the_engine_and_a_mended_view_applies_it_for_good(
    place: Place, end: str, log_lines: list[Any]
) -> None:
    async with Engine(desk(), log=place.log()) as engine:
        await engine.execute_many(BAD)
        await engine.ask(Seen(), after=6, incomplete=True)
    async with Engine(desk(fails=()), log=place.log()) as engine:  # the same view, mended
        assert left_out(engine) == LEFT_OUT
        assert engine.parked()[1].event == Placed("a", "2")
        with pytest.raises(ViewIncomplete):
            await engine.ask(Seen())
        await engine.execute(Put("a", "3"))
        await engine.ask(Seen(), after=7, incomplete=True)
        assert left_out(engine) == [*LEFT_OUT, (7, "a", "")]
        assert await engine.replay_parked() == []
        if end == "crashed":
            place.crash()
    expected = ("a 1", "b 1", "hi", "a bad", "a 2", "a 3", "bad")
    async with Engine(desk(), log=place.log()) as engine:  # even one that could not apply them now
        assert engine.parked() == []
        assert await engine.ask(Seen()) == expected
    assert lines(log_lines, "event_parked", "snapshot_set_aside") == [("event_parked", 2), ("event_parked", 5)]


async def test_without_snapshots_a_mended_view_applies_all_in_the_order_of_the_log(place: Place) -> None:
    async with Engine(desk(), log=place.log()) as engine:
        await engine.execute_many(BAD)
    async with Engine(desk(fails=()), log=place.log(), snapshots=False) as engine:
        assert engine.parked() == []
        assert await engine.ask(Seen()) == ALL


async def test_a_view_whose_code_version_was_raised_is_made_anew_in_the_order_of_the_log(place: Place) -> None:
    async with Engine(desk(), log=place.log()) as engine:
        await engine.execute_many(BAD)
    async with Engine(desk(fails=(), version=2), log=place.log()) as engine:
        assert engine.parked() == []
        assert await engine.ask(Seen()) == ALL


@pytest.mark.parametrize("snapshots", [True, False])
async def test_what_was_skipped_stays_counted(place: Place, snapshots: bool, log_lines: list[Any]) -> None:
    async with Engine(desk("skip"), log=place.log()) as engine:
        await engine.execute_many(BAD)
    async with Engine(desk("skip"), log=place.log(), snapshots=snapshots) as engine:
        assert engine.stats().views["Shelves"].skipped == 2
        with pytest.raises(ViewIncomplete, match="0 parked and 2 skipped"):
            await engine.ask(Seen())
    again = [] if snapshots else [("event_skipped", 2), ("event_skipped", 5)]
    assert lines(log_lines, "event_skipped") == [("event_skipped", 2), ("event_skipped", 5), *again]


async def test_a_view_parks_while_the_log_is_replayed(log_lines: list[Any]) -> None:
    place = MemoryPlace()
    async with Engine(desk("stop", fails=()), log=place.log()) as engine:
        await engine.execute_many(BAD)
    async with Engine(desk(), log=place.log(), snapshots=False) as engine:
        assert left_out(engine) == LEFT_OUT
        assert await engine.ask(Seen(), incomplete=True) == ("a 1", "b 1", "hi")
    assert lines(log_lines, "event_parked") == [("event_parked", 2), ("event_parked", 5)]


async def test_a_view_parks_while_it_catches_up_from_the_log(log_lines: list[Any]) -> None:
    limits = Limits(batch_commands_max=1)
    async with Engine(desk(), log=MemoryLog(), limits=limits) as engine:
        view = views_of(engine)[0]
        decoded_commits: list[Any] = []
        view.offer, offer = decoded_commits.append, view.offer  # type: ignore[method-assign,assignment]
        await engine.execute_many(BAD)
        view.offer = offer  # type: ignore[method-assign]
        view.resync(published(engine))
        assert await engine.ask(Seen(), after=6, incomplete=True) == ("a 1", "b 1", "hi")
        assert left_out(engine) == LEFT_OUT
    assert lines(log_lines, "event_parked") == [("event_parked", 2), ("event_parked", 5)]


# How much may be parked.


async def test_a_view_that_would_park_too_much_is_faulted_until_it_may_park_more() -> None:
    place = MemoryPlace()
    async with Engine(desk(), log=place.log(), limits=Limits(view_parked_max=2)) as engine:
        await engine.execute_many([Put("a", "bad"), Put("a", "1")])
        await engine.ask(Seen(), after=2, incomplete=True)
        await engine.execute_many([Swap("b", "a", "2"), Put("c", "1")])
        with pytest.raises(
            ViewFaulted, match=r"position 5: OverflowError\('more than view_parked_max=2 events are parked"
        ):
            await engine.ask(Seen(), after=3, incomplete=True)
        with pytest.raises(ViewFaulted):
            await engine.replay_parked("Shelves")
        assert len(await engine.replay_parked()) == 3
        assert await engine.ask(Counted(), after=6) == 5
    async with Engine(desk(fails=()), log=place.log(), limits=Limits(view_parked_max=3)) as engine:
        assert await engine.replay_parked() == []
        assert sorted(await engine.ask(Seen())) == ["a 1", "a 2", "a bad", "b 2", "c 1"]


async def test_a_faulted_view_is_not_stored_and_loses_nothing() -> None:
    """What it had parked before is in the last snapshot; half of a commit never is."""
    place = MemoryPlace()
    async with Engine(desk(), log=place.log(), limits=Limits(view_parked_max=1)) as engine:
        await engine.execute(Put("a", "bad"))
        await engine.ask(Seen(), after=1, incomplete=True)
    async with Engine(desk(fails=()), log=place.log(), limits=Limits(view_parked_max=1)) as engine:
        await engine.execute(Swap("b", "a", "2"))
        with pytest.raises(ViewFaulted, match="position 4"):
            await engine.ask(Seen(), after=2)
        await engine.replay_parked()
        place.crash()
    async with Engine(desk(fails=()), log=place.log()) as engine:
        assert left_out(engine) == [(1, "a", CAUSE), (4, "a", "")]
        assert await engine.ask(Seen(), incomplete=True) == ("b 2",)


# What snapshots hold.


class GatedLog(ScriptedLog):
    """A log whose reads wait while they are held."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.gate: anyio.Event | None = None

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        if self.gate is not None:
            await self.gate.wait()
        return await super().read(after, bytes_max)


async def test_a_snapshot_that_was_begun_before_does_not_bring_back_what_was_parked(log_lines: list[Any]) -> None:
    place, fails = MemoryPlace(), {"bad"}
    async with Engine(desk(fails=fails), log=place.log()) as engine:
        await engine.execute_many([Put("a", "bad"), Put("b", "bad")])
        await engine.ask(Seen(), after=2, incomplete=True)
    log = GatedLog(place.store)
    async with (
        Engine(desk(fails=fails), log=log, limits=Limits(snapshot_events_every=1)) as engine,
        anyio.create_task_group() as group,
    ):
        log.gate = anyio.Event()
        await engine.execute(Put("c", "1"))
        await settled()
        reads = log.reads_started
        fails.clear()
        replay = start(group, engine.replay_parked())
        await settled()
        log.gate.set()
        log.gate = None
        await until(lambda: replay.settled and "snapshots_taken" in [line["event"] for line in log_lines])
        assert log.reads_started > reads  # the snapshot was under way, from the state in which they are parked
        assert replay.value == []
        place.crash()
    async with Engine(desk(fails=fails), log=place.log()) as engine:
        assert engine.parked() == []
        assert await engine.ask(Seen()) == ("c 1", "a bad", "b bad")
    assert lines(log_lines, "event_parked") == [("event_parked", 1), ("event_parked", 2)]


@pytest.mark.parametrize("policy", ["park", "skip"])
async def test_snapshots_taken_meanwhile_say_nothing_again(policy: Poison, log_lines: list[Any]) -> None:
    async with Engine(desk(policy), log=MemoryLog(), limits=Limits(snapshot_events_every=2)) as engine:
        for taken in (1, 2, 3):
            await engine.execute_many(BAD[2 * taken - 2 : 2 * taken])
            await until(lambda: [line["event"] for line in log_lines].count("snapshots_taken") == taken)  # noqa: B023
        assert len(engine.parked()) == (3 if policy == "park" else 0)
    line = "event_parked" if policy == "park" else "event_skipped"
    assert lines(log_lines, "event_parked", "event_skipped") == [(line, 2), (line, 5)]


class Refusing(MemorySnapshots):
    """Takes nothing while it is told not to."""

    refuses = False

    async def finish(self, snapshot: Snapshot) -> None:
        if self.refuses:
            raise StoreBroke("it takes no snapshots")
        await super().finish(snapshot)


async def test_what_could_not_be_stored_when_it_was_replayed_is_stored_at_closing(log_lines: list[Any]) -> None:
    snapshots, fails = Refusing(), {"bad"}
    place = MemoryPlace()
    place.store.snapshots = snapshots
    async with Engine(desk(fails=fails), log=place.log()) as engine:
        await engine.execute(Put("a", "bad"))
    async with Engine(desk(fails=fails), log=place.log()) as engine:
        fails.clear()
        snapshots.refuses = True
        assert await engine.replay_parked() == []
        assert [line["part"] for line in log_lines if line["event"] == "snapshot_failed"] == ["view Shelves"]
        snapshots.refuses = False
    async with Engine(desk(), log=place.log()) as engine:
        assert engine.parked() == []
        assert await engine.ask(Seen()) == ("a bad",)


async def test_a_view_that_was_stopped_in_the_middle_of_a_commit_is_not_stored() -> None:
    place = MemoryPlace()
    with mock.patch.object(state, "_STRIDE", 1):
        log = ScriptedLog(place.store)
        async with Engine(desk(), log=log, limits=Limits(slice_ms_max=1e-6)) as engine:
            async with anyio.create_task_group() as group:
                log.hold()
                writing = start(group, engine.execute_many([Put(f"{number}", "1") for number in range(20)]))
                await settled()
                log.release()
                await until(lambda: not views_of(engine)[0].ready)
                engine._tasks[0].cancel()
            with pytest.raises(EngineClosed):
                await engine.ask(Seen())
            assert not views_of(engine)[0].read.is_whole
        assert len(writing.value) == 20
    async with Engine(desk(), log=place.log()) as engine:
        assert await engine.ask(Seen()) == tuple(f"{number} 1" for number in range(20))


OLDER = msgspec.Raw(b'[{"type":"Older","item":"a"}]')


class Older(Retired):
    item: Key

    def upcast(self) -> Iterator[Event]:
        yield Placed(self.item, "bad")


class Old(Retired, tag="Older"):
    """The same one, a version of the application later: it has come to mean something else."""

    item: Key

    def upcast(self) -> Iterator[Event]:
        yield Said("from before")


async def test_parked_events_that_cannot_be_read_any_more_are_found_in_the_log_again(log_lines: list[Any]) -> None:
    place = MemoryPlace()
    old = sealed_rows((await place.log().head()), "2026-01-01T00:00:00.000000Z", [Row("Put", "a", events=OLDER)])
    place.store.commits.append(old)
    async with Engine(desk(retired=[Older]), log=place.log()) as engine:
        assert left_out(engine) == [(1, "a", CAUSE)]
    snapshots = place.store.snapshots
    (snapshot,) = [each for each in await snapshots.kept() if each.part == "view Shelves"]
    sealing, notes = Sealing(), snapshot.notes.replace(b'"what":"bad"', b'"was":"bad"')
    assert notes != snapshot.notes
    for index, piece in enumerate(await snapshots.pieces(snapshot, 0)):
        await snapshots.add(snapshot.part, index, piece)
        sealing.add(piece)
    await snapshots.finish(sealing.seal(snapshot.part, snapshot.head, snapshot.fingerprint, notes))
    await snapshots.drop([snapshot])
    async with Engine(desk(retired=[Old]), log=place.log()) as engine:
        assert engine.parked() == []
        assert await engine.ask(Seen()) == ("from before",)
    (line,) = [line for line in log_lines if line["event"] == "snapshot_set_aside"]
    assert line["part"] == "view Shelves"
    assert line["reason"].startswith("what it has parked can't be read: ")
