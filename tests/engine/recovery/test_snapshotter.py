"""When snapshots are taken, of what, and what happens when that is interrupted or fails."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from millstream.engine import App, CommitFailed, Engine, Limits, Log, MemoryLog, Observer, Query, SqliteLog, ViewFaulted
from millstream.engine.commits.commit import Head
from millstream.engine.observers import Observers
from millstream.engine.recovery.catalog import Catalog
from millstream.engine.recovery.recovery import Recovery
from millstream.engine.recovery.snapshotter import Snapshotter
from millstream.engine.snapshots.part import Snapshot
from millstream.engine.stores.capabilities import snapshots_of
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.stores.memory_snapshots import MemorySnapshots
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.stores.sqlite.snapshots import SqliteSnapshots
from millstream.engine.testing.stores.snapshot_conformance import begin, read
from millstream.handlers import WriteModel
from millstream.views import View, answers, applies
from tests.shop import Add, Added, Book, Break, Broke, Broken, Fragile, Note, Pinboard, Shelf, Stock, StockOf, shop
from tests.stores import MemoryPlace, SqlitePlace
from tests.support import ScriptedLog, StoreBroke, engine_state, is_deciding, new_parts, settled, start, write_state

pytestmark = pytest.mark.anyio

PARTS = ["ledger", "model Book", "model Stock", "view Fragile", "view Pinboard", "view Shelf"]
EVERY_FIVE = Limits(snapshot_events_every=5)


async def until(happens: Callable[[], object]) -> None:
    """Wait for what takes its rests, and so is not over when nobody else moves."""
    with anyio.fail_after(20):
        while not happens():
            await anyio.lowlevel.checkpoint()


def told(log_lines: Sequence[Any], event: str) -> list[Any]:
    return [line for line in log_lines if line["event"] == event]


def opened(log_lines: Sequence[Any]) -> int:
    return int(told(log_lines, "opened")[-1]["replayed"])


async def kept(store: SnapshotStore) -> dict[str, int]:
    """The commit that each part's latest snapshot was taken at."""
    return {snapshot.part: snapshot.head.number for snapshot in reversed(await store.kept())}


# Snapshots beside the running engine.


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryPlace | SqlitePlace:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


async def test_snapshots_are_taken_while_callers_go_on_and_are_there_after_a_crash(
    place: MemoryPlace | SqlitePlace, log_lines: list[Any]
) -> None:
    async with Engine(shop, log=place.log(), limits=EVERY_FIVE) as engine:
        for count in range(1, 26):
            await engine.execute(Add("a", count))
        await until(lambda: told(log_lines, "snapshots_taken"))
        for count in range(26, 31):
            await engine.execute(Add("a", count))
        await until(lambda: engine.stats().snapshot_position >= 30)
        await engine.execute(Add("a", 31))
        was = engine_state(engine)
        place.crash()
    assert [line["position"] for line in told(log_lines, "snapshots_taken")][-1] == 30
    assert {line["parts"] for line in told(log_lines, "snapshots_taken")} == {6}
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine) == was
        assert await engine.ask(StockOf("a")) == 31 * 32 // 2
    assert opened(log_lines) == 1


async def test_a_snapshot_is_due_when_so_many_events_are_in_none_also_across_openings(log_lines: list[Any]) -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 1)] * 4)
        await settled()
        assert told(log_lines, "snapshots_taken") == []
        place.crash()
    async with Engine(shop, log=place.log(), limits=EVERY_FIVE) as engine:
        await settled()
        assert told(log_lines, "snapshots_taken") == []
        await engine.execute(Add("a", 1))
        await until(lambda: told(log_lines, "snapshots_taken"))
        place.crash()
    async with Engine(shop, log=place.log(), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 1)] * 4)
        place.crash()
    async with Engine(shop, log=place.log(), limits=Limits(snapshot_events_every=4)) as engine:
        await until(lambda: len(told(log_lines, "snapshots_taken")) == 2)
        assert engine.stats().snapshot_position == 9


async def test_what_is_not_durable_is_in_no_snapshot(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=EVERY_FIVE) as engine, anyio.create_task_group() as group:
        await engine.execute_many([Add("a", 1)] * 4)
        log.hold()
        start(group, engine.execute(Add("a", 10)))
        await settled()
        start(group, engine.execute(Add("a", 100)))
        start(group, engine.execute(Add("a", 1_000)))
        await settled()
        log.release()  # for the one that is being written
        log.hold()
        await until(lambda: told(log_lines, "snapshots_taken"))
        assert is_deciding(engine)
        assert write_state(engine).models[0] == Stock({"a": 1_114}), "ahead of the log by what is being written"
        assert set((await kept(log.snapshots)).values()) == {2}
        (stock,) = [each for each in await log.snapshots.kept() if each.part == "model Stock"]
        state = Stock()
        for piece in await read(log.snapshots, stock):
            state.restore(piece)
        assert state == Stock({"a": 14})
        log.release()


async def test_a_commit_that_fails_while_a_snapshot_is_taken_is_not_in_it(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=EVERY_FIVE) as engine, anyio.create_task_group() as group:
        await engine.execute_many([Add("a", 1)] * 5)
        log.hold()
        failing = start(group, engine.execute(Add("a", 100)))
        await until(lambda: told(log_lines, "snapshots_taken"))
        log.steps.append("refused")
        log.release()
        await settled()
        assert failing.kind == "CommitFailed"
        await engine.execute(Add("a", 7))
        assert await engine.ask(StockOf("a"), after=6) == 12
    async with Engine(shop, log=MemoryLog(log.inner.store)) as engine:
        assert await engine.ask(StockOf("a")) == 12


# Interrupted.


class Held:
    """Lets whoever stores a piece or finishes a snapshot wait while the gate is there."""

    def __init__(self) -> None:
        self.gate: anyio.Event | None = None
        self.waiting = 0

    async def wait(self) -> None:
        if self.gate is not None:
            self.waiting += 1
            await self.gate.wait()


class HeldMemory(MemorySnapshots):
    def __init__(self, held: Held, at: str) -> None:
        super().__init__()
        self.held, self.at = held, at

    def __deepcopy__(self, _: Any) -> MemorySnapshots:
        copy = MemorySnapshots()
        copy._whole, copy._begun = list(self._whole), {part: list(made) for part, made in self._begun.items()}
        return copy

    async def add(self, part: str, index: int, piece: bytes) -> None:
        await super().add(part, index, piece)
        if self.at == "add":
            await self.held.wait()

    async def finish(self, snapshot: Snapshot) -> None:
        if self.at == "finish":
            await self.held.wait()
        await super().finish(snapshot)

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        if self.at == "pieces":
            await self.held.wait()
        return await super().pieces(snapshot, start)


class HeldSqlite(SqliteSnapshots):
    def __init__(self, path: str, held: Held, at: str) -> None:
        super().__init__(path)
        self.held, self.at = held, at

    async def add(self, part: str, index: int, piece: bytes) -> None:
        await super().add(part, index, piece)
        if self.at == "add":
            await self.held.wait()

    async def finish(self, snapshot: Snapshot) -> None:
        if self.at == "finish":
            await self.held.wait()
        await super().finish(snapshot)


class HeldLog(SqliteLog):
    """A log in SQLite whose snapshots wait."""

    def __init__(self, path: Path, held: Held, at: str) -> None:
        super().__init__(path)
        self.held_snapshots = HeldSqlite(f"{path}-snapshots", held, at)

    @property
    def snapshots(self) -> SnapshotStore:
        return self.held_snapshots


def held_log(place: MemoryPlace | SqlitePlace, held: Held, at: str) -> Log:
    if isinstance(place, SqlitePlace):
        return HeldLog(place.path, held, at)
    store = HeldMemory(held, at)
    store._whole = place.store.snapshots._whole
    place.store.snapshots = store
    return place.log()


@asynccontextmanager
async def interrupted(place: MemoryPlace | SqlitePlace, at: str, held: Held) -> AsyncIterator[Engine]:
    """An engine with five events in snapshots and five more, whose keeper waits in the middle of the next one."""
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
    held.gate = anyio.Event()
    async with Engine(shop, log=held_log(place, held, at), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 10)] * 5)
        await until(lambda: held.waiting)
        yield engine


@pytest.mark.parametrize("at", ["add", "finish"])
async def test_a_crash_in_the_middle_of_a_snapshot_leaves_the_one_before(
    place: MemoryPlace | SqlitePlace, log_lines: list[Any], at: str
) -> None:
    held = Held()
    async with interrupted(place, at, held) as engine:
        await engine.execute(Add("a", 100))
        place.crash()
        held.gate = None
    async with Engine(shop, log=place.log()) as engine:
        assert await engine.ask(StockOf("a")) == 155
    assert opened(log_lines) == 6
    assert told(log_lines, "snapshot_set_aside") == []
    async with Engine(shop, log=place.log()) as engine:
        assert await engine.ask(StockOf("a")) == 155
    assert opened(log_lines) == 0


@pytest.mark.parametrize("at", ["add", "finish"])
async def test_closing_in_the_middle_of_a_snapshot_takes_one_of_the_state_at_closing(
    place: MemoryPlace | SqlitePlace, log_lines: list[Any], at: str
) -> None:
    held = Held()
    async with interrupted(place, at, held) as engine:
        await engine.execute(Add("a", 100))
        held.gate = None  # for whoever comes now; the keeper waits on
    assert told(log_lines, "snapshots_taken") == []
    assert told(log_lines, "snapshot_failed") == []
    async with Engine(shop, log=place.log()) as engine:
        assert await engine.ask(StockOf("a")) == 155
        store = snapshots_of(engine.log)
        assert await kept(store) == dict.fromkeys(PARTS, 3)
    assert opened(log_lines) == 0
    assert told(log_lines, "snapshot_set_aside") == []


async def test_callers_and_queries_go_on_while_the_store_of_snapshots_does_not(log_lines: list[Any]) -> None:
    held, place = Held(), MemoryPlace()
    async with interrupted(place, "finish", held) as engine:
        for _ in range(20):
            receipt = await engine.execute(Add("a", 1))
            assert await engine.ask(StockOf("a"), after=receipt) == receipt.position + 45
        assert told(log_lines, "snapshots_taken") == []
        assert held.gate is not None
        held.gate.set()
        await until(lambda: len(told(log_lines, "snapshots_taken")) == 2)
        assert [line["position"] for line in told(log_lines, "snapshots_taken")] == [10, 30]


async def test_a_state_that_is_lost_is_rebuilt_while_the_keeper_reads_the_same_snapshots(log_lines: list[Any]) -> None:
    held, store = Held(), MemoryStore()
    async with Engine(shop, log=MemoryLog(store)) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
    snapshots = HeldMemory(held, "pieces")
    snapshots._whole = store.snapshots._whole
    store.snapshots = snapshots
    log = ScriptedLog(store)
    async with Engine(shop, log=log, limits=EVERY_FIVE) as engine:
        held.gate = anyio.Event()
        await engine.execute_many([Add("a", 10)] * 5)
        await until(lambda: held.waiting)
        snapshotter, held.gate = held.gate, None
        log.steps.append("refused")
        with pytest.raises(CommitFailed):
            await engine.execute(Add("a", 1_000))
        with anyio.fail_after(5):
            receipt = await engine.execute(Add("a", 100))
        assert await engine.ask(StockOf("a"), after=receipt) == 155
        assert told(log_lines, "snapshots_taken") == []
        snapshotter.set()
        await until(lambda: told(log_lines, "snapshots_taken"))
    assert told(log_lines, "snapshot_set_aside") == []


# The garbage collector.


@pytest.fixture
def thresholds() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    yield 701, 11, 12
    gc.set_threshold(*before)


async def test_only_young_objects_are_collected_while_a_second_state_is_there(
    thresholds: tuple[int, int, int], log_lines: list[Any]
) -> None:
    held, place = Held(), MemoryPlace()
    async with interrupted(place, "finish", held) as engine:
        assert gc.get_threshold() == (701, 2**31 - 1, 2**31 - 1)
        assert gc.isenabled()
        assert held.gate is not None
        held.gate.set()
        await until(lambda: told(log_lines, "snapshots_taken"))
        await until(lambda: gc.get_threshold() == thresholds)
        assert await engine.ask(StockOf("a")) == 55


async def test_the_collector_is_as_it_was_after_a_snapshot_that_was_interrupted_or_failed(
    thresholds: tuple[int, int, int],
) -> None:
    async with interrupted(MemoryPlace(), "finish", held := Held()):
        held.gate = None
    assert gc.get_threshold() == thresholds
    store = MemoryStore(snapshots=Failing("kept"))
    async with Engine(shop, log=MemoryLog(store), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await settled()
    assert gc.get_threshold() == thresholds


async def test_whoever_changes_the_collector_meanwhile_is_not_overruled(thresholds: tuple[int, int, int]) -> None:
    async with interrupted(MemoryPlace(), "finish", held := Held()):
        gc.set_threshold(900, 5, 5)
        held.gate = None
    assert gc.get_threshold() == (900, 5, 5)


# Failures.


class Failing(MemorySnapshots):
    """Fails at what it is told to, for the parts that it is told."""

    def __init__(self, method: str = "", parts: Sequence[str] = PARTS) -> None:
        super().__init__()
        self.method, self.parts = method, parts
        self.finished: list[tuple[str, int]] = []

    def _look(self, method: str, part: str) -> None:
        if self.method == method and part in self.parts:
            raise StoreBroke(f"{method} {part}")

    async def kept(self) -> Sequence[Snapshot]:
        self._look("kept", PARTS[0])
        return await super().kept()

    async def add(self, part: str, index: int, piece: bytes) -> None:
        self._look("add", part)
        await super().add(part, index, piece)

    async def finish(self, snapshot: Snapshot) -> None:
        self._look("finish", snapshot.part)
        await super().finish(snapshot)
        self.finished.append((snapshot.part, snapshot.head.number))


@pytest.mark.parametrize("method", ["add", "finish"])
async def test_a_store_that_fails_is_logged_for_each_part_and_asked_again_when_the_next_one_is_due(
    log_lines: list[Any], method: str
) -> None:
    store = Failing(method)
    async with Engine(shop, log=MemoryLog(MemoryStore(snapshots=store)), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: len(told(log_lines, "snapshot_failed")) == 6)
        assert sorted(line["part"] for line in told(log_lines, "snapshot_failed")) == PARTS
        assert told(log_lines, "snapshot_failed")[0]["error"] == f"StoreBroke('{method} model Stock')"
        assert engine.stats().snapshot_position == 0
        assert await engine.ask(StockOf("a")) == 5
        store.method = ""
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: told(log_lines, "snapshots_taken"))
        assert engine.stats().snapshot_position == 10
        assert await kept(store) == dict.fromkeys(PARTS, 2)
    assert len(told(log_lines, "snapshot_failed")) == 6


async def test_one_part_that_can_not_be_stored_does_not_keep_the_others_from_it(log_lines: list[Any]) -> None:
    store = Failing("add", ["model Stock", "view Shelf"])
    async with Engine(shop, log=MemoryLog(MemoryStore(snapshots=store)), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: told(log_lines, "snapshots_taken"))
        assert told(log_lines, "snapshots_taken")[0]["parts"] == 4
        assert await kept(store) == dict.fromkeys(sorted(set(PARTS) - {"model Stock", "view Shelf"}), 1)
        assert engine.stats().snapshot_position == 0


async def test_a_store_that_can_not_say_what_it_holds_fails_the_snapshot_and_not_the_engine(
    log_lines: list[Any],
) -> None:
    store = Failing("kept")
    async with Engine(shop, log=MemoryLog(MemoryStore(snapshots=store)), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: told(log_lines, "snapshot_failed"))
        assert await engine.ask(StockOf("a")) == 5
    assert {line["part"] for line in told(log_lines, "snapshot_failed")} == {"all"}


async def test_a_log_that_can_not_be_read_fails_the_snapshot_and_the_next_one_is_taken(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=EVERY_FIVE) as engine:
        log.reads_fail = 1
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: told(log_lines, "snapshot_failed"))
        assert [(line["part"], line["error"]) for line in told(log_lines, "snapshot_failed")] == [
            ("all", "StoreBroke('while reading')")
        ]
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: told(log_lines, "snapshots_taken"))


class Counted(Query[int]):
    pass


class Odd(View):
    """Can't be put into pieces when it has counted to an odd number. Tells how often it was given an event."""

    count: int = 0
    given: ClassVar[int] = 0

    @applies
    def added(self, event: Added) -> None:
        self.count += event.count
        Odd.given += 1

    @answers
    def counted(self, query: Counted) -> int:
        return self.count

    def snapshot(self) -> Iterator[bytes]:
        if self.count % 2:
            raise ArithmeticError(f"{self.count} is odd")
        yield b"count=%d" % self.count

    def restore(self, piece: bytes) -> None:
        self.count = int(piece.removeprefix(b"count="))


odd_shop = App(models=[Stock, Book], views=[Odd], name="shop")


async def test_a_state_that_can_not_be_put_into_pieces_is_not_made_again_until_closing(log_lines: list[Any]) -> None:
    log, Odd.given = ScriptedLog(), 0
    async with Engine(odd_shop, log=log, limits=EVERY_FIVE) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: told(log_lines, "snapshots_taken"))
        assert [(line["part"], line["error"]) for line in told(log_lines, "snapshot_failed")] == [
            ("view Odd", "ArithmeticError('5 is odd')")
        ]
        assert engine.stats().snapshot_position == 0
        assert Odd.given == 5 + 5, "live, and beside it"
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: len(told(log_lines, "snapshots_taken")) == 2)
        assert Odd.given == 10 + 5, "only live"
        assert engine.stats().snapshot_position == 10
    assert len(told(log_lines, "snapshot_failed")) == 1
    assert await kept(log.snapshots) == {"ledger": 2, "model Book": 2, "model Stock": 2, "view Odd": 2}
    async with Engine(odd_shop, log=MemoryLog(log.inner.store)) as engine:
        assert await engine.ask(Counted()) == 10
    assert opened(log_lines) == 0


class Tally(WriteModel):
    """Has no snapshots. Tells how often it was given an event."""

    given: ClassVar[int] = 0

    @applies
    def added(self, event: Added) -> None:
        Tally.given += 1

    def snapshot(self) -> None:
        return None


async def test_a_write_model_without_snapshots_is_not_made_beside_the_live_one(log_lines: list[Any]) -> None:
    log, Tally.given = ScriptedLog(), 0
    app = App(models=[Tally, Stock, Book], views=[Shelf], name="shop")
    async with Engine(app, log=log, limits=EVERY_FIVE) as engine:
        for _ in range(2):
            await engine.execute_many([Add("a", 1)] * 5)
            await until(lambda: engine.stats().snapshot_position == engine.stats().writer.position)
        assert len(told(log_lines, "snapshots_taken")) == 2
        assert Tally.given == 10
        before = log.reads_started
        await engine.execute_many([Add("a", 1)] * 5)
        await until(lambda: engine.stats().snapshot_position == 15)
        assert log.reads_started - before == 2, "what came after the snapshots, the end"
    assert await kept(log.snapshots) == dict.fromkeys(["ledger", "model Book", "model Stock", "view Shelf"], 3)


# Of what.


async def test_nothing_is_stored_when_nothing_has_moved(log_lines: list[Any]) -> None:
    store = Failing()
    place = MemoryPlace()
    place.store.snapshots = store
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
    assert len(store.finished) == 6
    for every in (1, 5, 1_000):
        async with Engine(shop, log=place.log(), limits=Limits(snapshot_events_every=every)) as engine:
            await settled()
    assert len(store.finished) == 6
    assert told(log_lines, "snapshots_taken") == []


async def test_an_empty_log_has_no_snapshots() -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), limits=Limits(snapshot_events_every=1)):
        await settled()
    assert list(await place.store.snapshots.kept()) == []


async def test_a_snapshot_that_is_due_again_while_nothing_has_moved_stores_nothing(log_lines: list[Any]) -> None:
    place, store = MemoryPlace(), Failing()
    async with Engine(shop, log=place.log(), snapshots=False) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
    catalog = Catalog(store, place.log(), Observer())
    snapshotter = Snapshotter(
        Recovery(shop, place.log(), EVERY_FIVE, catalog),
        catalog,
        EVERY_FIVE,
        new=lambda: new_parts(shop, EVERY_FIVE),
        live=list,
        saved=0,
        observer=Observers(),
    )
    running = asyncio.create_task(snapshotter.run())
    snapshotter.start(Head(1, 5))
    await until(lambda: snapshotter.position == 5)
    snapshotter.position = 0
    snapshotter.resync(Head(1, 10))
    await until(lambda: snapshotter.position == 5)
    snapshotter.stop()
    await running
    assert len(store.finished) == 6
    assert len(told(log_lines, "snapshots_taken")) == 1


async def test_the_states_at_closing_are_what_is_stored(place: MemoryPlace | SqlitePlace, log_lines: list[Any]) -> None:
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute_many([Add("a", 2), Note("one"), Add("b", 1)], command_ids=["1", "2", "3"])
        await engine.execute(Add("a", 3))
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine)[0][:3] == [Stock({"a": 5, "b": 1}), Book(["one"], 3), {"a": 2, "b": 1}]
        assert [receipt.command_id for _, receipt in engine_state(engine)[0][3]] == ["1", "2", "3"]
        assert engine_state(engine)[1] == [Shelf({"a": 5, "b": 1}), Pinboard(["one"]), Fragile()]
        assert await kept(snapshots_of(engine.log)) == dict.fromkeys(PARTS, 2)
    assert opened(log_lines) == 0


async def test_a_view_that_has_faulted_keeps_the_snapshot_from_before_and_all_others_go_on(
    log_lines: list[Any],
) -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Break("fine")] * 5)
        await until(lambda: told(log_lines, "snapshots_taken"))
        await engine.execute(Break("view"))
        await engine.execute_many([Break("fine")] * 5)
        await until(lambda: len(told(log_lines, "snapshots_taken")) == 2)
        assert told(log_lines, "snapshots_taken")[1]["parts"] == 5
        with pytest.raises(ViewFaulted):
            await engine.ask(Broke("fine"))
    assert await kept(place.store.snapshots) == {**dict.fromkeys(PARTS, 3), "view Fragile": 1}
    async with Engine(shop, log=place.log()) as engine:
        with pytest.raises(ViewFaulted, match="view Fragile faulted at position 6"):
            await engine.ask(Broke("fine"))
    assert opened(log_lines) == 6
    assert await kept(place.store.snapshots) == {**dict.fromkeys(PARTS, 3), "view Fragile": 1}


class Mended(View):
    """The shop's Fragile, which can apply everything now."""

    seen: int = 0

    @applies
    def broken(self, event: Broken) -> None:
        self.seen += 1

    @answers
    def answer(self, query: Broke) -> str:
        return f"{query.how} {self.seen}"


Mended.__name__ = "Fragile"
mended_shop = App(models=[Stock, Book], views=[Shelf, Pinboard, Mended], name="shop")


async def test_a_view_that_has_faulted_within_a_commit_is_stored_neither_meanwhile_nor_at_closing(
    log_lines: list[Any],
) -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), limits=EVERY_FIVE) as engine:
        await engine.execute_many([Break("fine")] * 3)
        await engine.execute_many([Break("fine"), Break("fine"), Break("view")])
        await until(lambda: told(log_lines, "snapshots_taken"))
        assert "view Fragile" not in await kept(place.store.snapshots)
    assert "view Fragile" not in await kept(place.store.snapshots)
    async with Engine(mended_shop, log=place.log()) as engine:
        assert await engine.ask(Broke("fine")) == "fine 6"


async def test_a_store_that_was_found_damaged_gets_everything_anew(log_lines: list[Any]) -> None:
    store, place = Failing(), MemoryPlace()
    place.store.snapshots = store
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute_many([Add("a", 1)] * 3)
    (stock,) = [each for each in await store.kept() if each.part == "model Stock"]
    await begin(store, "model Stock", [piece + b"?" for piece in await read(store, stock)])
    await store.finish(stock)
    store.finished.clear()
    async with Engine(shop, log=place.log()):
        pass
    assert sorted(store.finished) == [(part, 1) for part in PARTS]


async def test_everything_is_stored_anew_beside_a_running_engine_too(log_lines: list[Any]) -> None:
    store, place = Failing(), MemoryPlace()
    place.store.snapshots = store
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute_many([Add("a", 1)] * 3)
    (stock,) = [each for each in await store.kept() if each.part == "model Stock"]
    await begin(store, "model Stock", [])
    await store.finish(stock)
    store.finished.clear()
    async with Engine(shop, log=place.log(), limits=Limits(snapshot_events_every=3)) as engine:
        await until(lambda: told(log_lines, "snapshots_taken"))
        assert sorted(store.finished) == [(part, 1) for part in PARTS]
    assert len(store.finished) == 6, "what was stored anew is not stored once more at closing"


async def test_a_part_is_put_into_pieces_once_for_each_snapshot() -> None:
    calls: list[int] = []

    class Eager(View):
        adds: int = 0

        @applies
        def added(self, event: Added) -> None:
            self.adds += 1

        def snapshot(self) -> Iterator[bytes] | None:
            calls.append(self.adds)
            return super().snapshot()

    place = MemoryPlace()
    async with Engine(App(models=[Stock, Book], views=[Eager], name="shop"), log=place.log()) as engine:
        await engine.execute_many([Add("a", 1)] * 10)
    assert calls.count(10) == 1
