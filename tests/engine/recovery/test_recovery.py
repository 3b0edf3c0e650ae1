"""States from snapshots and the log: whatever is wrong with a snapshot, the answer is the log's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from millstream.engine import App, Command, CommitFailed, Engine, Limits, LogCorrupt, MemoryLog, MillstreamError, Query
from millstream.engine.observers import Observer
from millstream.engine.snapshots.part import Sealing, Snapshot
from millstream.engine.stores.capabilities import snapshots_of
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.stores.memory_snapshots import MemorySnapshots
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.testing.stores.snapshot_conformance import begin, read
from millstream.handlers import WriteModel, applies
from millstream.views import View, answers
from tests import shop as shop_module
from tests.loops import one_loop
from tests.shop import (
    Add,
    Added,
    Book,
    Break,
    Fragile,
    Move,
    Note,
    Nothing,
    Pinboard,
    Stock,
    StockOf,
    Take,
    Taken,
    shop,
)
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import ScriptedLog, StoreBroke, engine_state, views_of

pytestmark = pytest.mark.anyio

PARTS = ["model Stock", "model Book", "ledger", "view Shelf", "view Pinboard", "view Fragile"]
NOT_TODAYS = "its shape, its events or its code version are not today's"
COMMANDS: list[Command] = [
    Add("a", 5),
    Note("one"),
    Take("a", 2),
    Move("a", "b"),
    Break("fine"),
    Note("two"),
    Add("a", 1),
]


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


async def live(place: Place, commands: Sequence[Command] = COMMANDS, app: App = shop, **options: Any) -> Any:
    """Open, execute, close; returns the state as it was live."""
    async with Engine(app, log=place.log(), **options) as engine:
        for index, command in enumerate(commands):
            await engine.execute(command, command_id=f"{engine.stats().writer.commit} {index}")
        for view in views_of(engine):
            await view.reach(engine.position, 5)
        return engine_state(engine)


async def replayed(commits: Sequence[Any], app: App = shop) -> Any:
    """The state that the log alone makes."""
    async with Engine(app, log=MemoryLog(MemoryStore(list(commits), app.name)), snapshots=False) as engine:
        return engine_state(engine)


def opened(log_lines: Sequence[Any]) -> int:
    """How many events the last opening had to replay."""
    return int([line for line in log_lines if line["event"] == "opened"][-1]["replayed"])


def set_aside(log_lines: Sequence[Any]) -> list[tuple[str, str]]:
    return [(line["part"], line["reason"]) for line in log_lines if line["event"] == "snapshot_set_aside"]


# A snapshot that does not fit.


Kept: TypeAlias = tuple[Snapshot, list[bytes]]


def sealed(snapshot: Snapshot, made: list[bytes]) -> Kept:
    """These pieces as if they had been finished so."""
    sealing = Sealing()
    for piece in made:
        sealing.add(piece)
    return sealing.seal(snapshot.part, snapshot.head, snapshot.fingerprint, snapshot.notes), made


HARMS: dict[str, tuple[Callable[[Snapshot, list[bytes]], Kept], str]] = {
    "another fingerprint": (lambda snapshot, made: (replace(snapshot, fingerprint="other"), made), NOT_TODAYS),
    "a damaged piece": (lambda snapshot, made: (snapshot, [*made[:-1], made[-1][:-1] + b"\x07"]), "are damaged"),
    "a damaged name": (lambda snapshot, made: (snapshot, [b"\xff" + made[0], *made[1:]]), "are damaged"),
    "a piece too few": (lambda snapshot, made: (snapshot, made[:-1]), "is missing"),
    "pieces in another order": (lambda snapshot, made: (snapshot, [*made[1:], made[0] + b"\x00"]), "are damaged"),
    "another checksum": (lambda snapshot, made: (replace(snapshot, checksum=bytes(32)), made), "are damaged"),
    "another position": (
        lambda snapshot, made: (replace(snapshot, head=replace(snapshot.head, position=3)), made),
        "are damaged",
    ),
    "other notes": (lambda snapshot, made: (replace(snapshot, notes=b"[0,[]]"), made), "are damaged"),
    "another digest": (
        lambda snapshot, made: (replace(snapshot, head=replace(snapshot.head, digest=bytes(32))), made),
        "the log has no such commit 7",
    ),
    "a commit that is not there yet": (
        lambda snapshot, made: (replace(snapshot, head=replace(snapshot.head, number=70_000)), made),
        "the log has no such commit 70,000",
    ),
    "a commit that never is": (
        lambda snapshot, made: (replace(snapshot, head=replace(snapshot.head, number=-70_000)), made),
        "the log has no such commit -70,000",
    ),
    "a field that is no more": (lambda snapshot, made: sealed(snapshot, [*made, b"gone=\x07"]), "'gone'"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("harm", HARMS)
async def test_a_snapshot_that_is_wrong_is_set_aside_and_its_part_alone_made_from_the_log(
    log_lines: list[Any], part: str, harm: str
) -> None:
    place, (spoil, reason) = MemoryPlace(), HARMS[harm]
    was = await live(place)
    store = place.store.snapshots
    (snapshot,) = [each for each in await store.kept() if each.part == part]
    spoiled, made = spoil(snapshot, await read(store, snapshot))
    await begin(store, part, made)
    await store.finish(spoiled)
    log_lines.clear()
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine) == was
    assert was == await replayed(place.store.commits)
    ((named, said),) = set_aside(log_lines)
    assert named == part
    assert reason in said
    async with Engine(shop, log=place.log()) as engine:  # closing has stored a good one in its place
        assert engine_state(engine) == was
    assert opened(log_lines) == 0
    assert len(set_aside(log_lines)) == 1


async def test_a_snapshot_that_fits_is_used_and_nothing_is_replayed(place: Place, log_lines: list[Any]) -> None:
    was = await live(place)
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine) == was
        assert engine.stats().snapshot_position == 8
    assert (opened(log_lines), set_aside(log_lines)) == (0, [])


async def test_without_snapshots_everything_is_replayed_and_none_is_taken(place: Place, log_lines: list[Any]) -> None:
    was = await live(place, snapshots=False)
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine) == was
    assert opened(log_lines) == 8


async def test_snapshots_of_a_log_that_was_deleted_are_set_aside(tmp_path: Path, log_lines: list[Any]) -> None:
    place = SqlitePlace(tmp_path)
    await live(place)
    place.path.unlink()
    (_, _, *_), (shelf, *_) = await live(place, [Add("z", 1)])
    assert shelf.stock == {"z": 1}
    assert sorted(set_aside(log_lines)) == [(part, "the log has no such commit 7") for part in sorted(PARTS)]


async def test_snapshots_of_a_later_state_are_set_aside_when_an_older_copy_of_the_log_is_put_back(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    place = SqlitePlace(tmp_path)
    await live(place, COMMANDS[:3])
    copy = place.path.read_bytes()
    await live(place, COMMANDS[3:])
    place.path.write_bytes(copy)
    (stock, *_), (shelf, *_) = await live(place, [Take("a", 1), Note("other")] * 3)
    assert (stock.stock, shelf.stock) == ({"a": 0}, {"a": 0})
    assert sorted(set_aside(log_lines)) == [(part, "the log has no such commit 7") for part in sorted(PARTS)]
    async with Engine(shop, log=place.log()) as engine:
        assert await engine.ask(StockOf("a")) == 0
    assert len(set_aside(log_lines)) == 6


async def test_snapshots_of_another_log_are_set_aside(tmp_path: Path, log_lines: list[Any]) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = SqlitePlace(tmp_path / "one"), SqlitePlace(tmp_path / "two")
    await live(one)
    was = await live(two, [Add("z", 1)] * 9)
    Path(f"{two.path}-snapshots").write_bytes(Path(f"{one.path}-snapshots").read_bytes())
    async with Engine(shop, log=two.log()) as engine:
        assert engine_state(engine) == was
    assert sorted(set_aside(log_lines)) == [(part, "the log has no such commit 7") for part in sorted(PARTS)]


class BrokenStore(MemorySnapshots):
    """Fails where it is told to."""

    def __init__(self, *methods: str) -> None:
        super().__init__()
        self.methods = methods

    def _look(self, method: str) -> None:
        if method in self.methods:
            raise StoreBroke(f"while it was to {method}")

    async def open(self, observer: Observer | None = None) -> None:
        self._look("open")

    async def kept(self) -> Sequence[Snapshot]:
        self._look("kept")
        return await super().kept()

    async def pieces(self, snapshot: Snapshot, start: int) -> Sequence[bytes]:
        self._look("pieces")
        return await super().pieces(snapshot, start)

    async def add(self, part: str, index: int, piece: bytes) -> None:
        self._look("add")
        await super().add(part, index, piece)

    async def finish(self, snapshot: Snapshot) -> None:
        self._look("finish")
        await super().finish(snapshot)


@pytest.mark.parametrize(
    ("method", "events"),
    [
        ("open", ["snapshots_unavailable"]),
        ("kept", ["snapshot_set_aside", "snapshot_failed"]),
        ("pieces", ["snapshot_set_aside"] * 6),
        ("add", ["snapshot_failed"] * 6),
        ("finish", ["snapshot_failed"] * 6),
    ],
)
async def test_a_store_that_fails_fails_nothing_else(log_lines: list[Any], method: str, events: list[str]) -> None:
    place, store = MemoryPlace(), BrokenStore()
    place.store.snapshots = store
    await live(place)
    log_lines.clear()
    store.methods = (method,)
    was = await live(place, [Add("a", 3), Note("three")])
    assert was == await replayed(place.store.commits)
    assert [line["event"] for line in log_lines if line["event"].startswith("snapshot")] == events
    store.methods = ()
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine) == was


# Parts that are at different commits.


async def whole(store: SnapshotStore) -> dict[str, Kept]:
    """Everything that a store holds."""
    return {snapshot.part: (snapshot, await read(store, snapshot)) for snapshot in await store.kept()}


async def holding(kept: Sequence[Kept]) -> MemorySnapshots:
    store = MemorySnapshots()
    for snapshot, made in kept:
        await begin(store, snapshot.part, made)
        await store.finish(snapshot)
    return store


ITEMS = st.sampled_from(["a", "b", "c"])
DEEDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Add, ITEMS, st.integers(1, 9)),
    st.builds(Take, ITEMS, st.integers(1, 9)),
    st.builds(Move, ITEMS, ITEMS),
    st.builds(Note, st.text(st.characters(exclude_categories=["Cs"]), max_size=3)),
    st.builds(Nothing, ITEMS),
    st.just(Break("fine")),
    st.just(Break("view")),
)
LIVES = st.lists(st.lists(DEEDS, max_size=8), min_size=1, max_size=4)


async def several_lives(
    lives: list[list[Command]], chosen: list[int], every: int, batched: bool
) -> tuple[Any, Any, list[Any]]:
    """Live several times; then begin with snapshots of different lives, and with none."""
    store, stages = MemoryStore(), [dict[str, Kept]()]
    for number, commands in enumerate(lives):
        limits = Limits(snapshot_events_every=every, batch_commands_max=3)
        async with Engine(shop, log=MemoryLog(store), limits=limits) as engine:
            ids = [f"{number} {index // 2}" if index % 3 else f"{number} {index}" for index in range(len(commands))]
            if batched:
                await engine.execute_many(commands, command_ids=ids)
            else:
                for command in commands:
                    try:
                        await engine.execute(command)
                    except MillstreamError as error:
                        assert not isinstance(error, CommitFailed)  # noqa: PT017 - a refusal is as good as a receipt
        stages.append(await whole(store.snapshots))
    mixed = [stages[stage % len(stages)].get(part) for part, stage in zip(PARTS, chosen, strict=True)]
    some = await holding([kept for kept in mixed if kept is not None])
    async with Engine(shop, log=MemoryLog(MemoryStore(list(store.commits), "shop", snapshots=some))) as engine:
        faults = [view.read.fault and view.read.fault[0] for view in views_of(engine)]
        return engine_state(engine), faults, store.commits


@settings(max_examples=60)
@given(LIVES, st.lists(st.integers(0, 4), min_size=6, max_size=6), st.sampled_from([1, 3, 10**6]), st.booleans())
def test_parts_from_snapshots_of_any_moments_meet_where_the_log_alone_leads(
    lives: list[list[Command]], chosen: list[int], every: int, batched: bool
) -> None:
    async def both() -> None:
        found, faults, commits = await several_lives(lives, chosen, every, batched)
        async with Engine(shop, log=MemoryLog(MemoryStore(list(commits), "shop")), snapshots=False) as engine:
            sound = [view.read.fault is None for view in views_of(engine)]
            assert faults == [view.read.fault and view.read.fault[0] for view in views_of(engine)]
            models, views = engine_state(engine)
        assert found[0] == models
        assert [state for state, is_sound in zip(found[1], sound, strict=True) if is_sound] == [
            state for state, is_sound in zip(views, sound, strict=True) if is_sound
        ]

    anyio.run(both)


async def test_only_the_parts_whose_snapshots_are_gone_meet_again_events_that_the_others_have(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    place = SqlitePlace(tmp_path)
    was = await live(place)
    db = sqlite3.connect(f"{place.path}-snapshots")
    db.execute("DELETE FROM snapshots WHERE part IN ('model Stock', 'view Shelf', 'ledger')")
    db.commit()
    db.close()
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine) == was
    assert (opened(log_lines), set_aside(log_lines)) == (8, [])


# A class that has changed.


class Shelf(View):
    """As in the shop, with one field more."""

    stock: dict[str, int] = {}
    changes: int = 0

    @applies
    def added(self, event: Added) -> None:
        self.stock[event.item] = self.stock.get(event.item, 0) + event.count
        self.changes += 1

    @applies
    def taken(self, event: Taken) -> None:
        self.stock[event.item] -= event.count
        self.changes += 1

    @answers
    def stock_of(self, query: StockOf) -> int:
        return self.stock.get(query.item, 0)


def changed(name: str, code_version: int, without: str = "") -> type[View]:
    """The shop's Shelf with another version, or with one method less."""
    base = shop_module.Shelf
    methods = {key: value for key, value in vars(base).items() if key in ("added", "taken", "stock_of")}
    methods.pop(without, None)
    fields = {"__annotations__": {"stock": "dict[str, int]"}, "stock": {}}
    made: Any = type(View)
    view: type[View] = made(name, (View,), {"__module__": __name__, "code_version": code_version, **fields, **methods})
    return view


@pytest.mark.parametrize(
    "shelf",
    [Shelf, changed("Shelf", code_version=2), changed("Shelf", code_version=1, without="taken")],
    ids=["a new field", "another code version", "an event less"],
)
async def test_a_view_that_has_changed_is_made_anew_and_nothing_else_is(
    place: Place, log_lines: list[Any], shelf: type[View]
) -> None:
    await live(place)
    later = App(models=[Stock, Book], views=[shelf, Pinboard, Fragile], name="shop")
    async with Engine(later, log=place.log()) as engine:
        found = engine_state(engine)
    assert set_aside(log_lines) == [
        ("view Shelf", f"the snapshot of view Shelf does not fit: {NOT_TODAYS}; the log makes the state again")
    ]
    async with Engine(later, log=place.log(), snapshots=False) as engine:
        assert engine_state(engine) == found
    async with Engine(later, log=place.log()) as engine:
        assert engine_state(engine) == found
    assert (opened(log_lines), len(set_aside(log_lines))) == (0, 1)


async def test_a_view_of_the_same_shape_keeps_its_snapshot(place: Place, log_lines: list[Any]) -> None:
    was = await live(place)
    same = App(models=[Stock, Book], views=[changed("Shelf", 1), Pinboard, Fragile], name="shop")
    async with Engine(same, log=place.log()) as engine:
        assert engine_state(engine)[1][0].stock == was[1][0].stock
    assert (opened(log_lines), set_aside(log_lines)) == (0, [])


async def test_a_new_view_is_made_from_the_whole_log_and_a_removed_one_leaves_nothing_once_the_log_has_grown(
    place: Place, log_lines: list[Any]
) -> None:
    few = App(models=[Stock, Book], views=[Pinboard], name="shop")
    await live(place, app=few)
    was = await live(place, [])
    assert (opened(log_lines), set_aside(log_lines)) == (8, [])
    assert was[1][0].stock == {"a": 1, "b": 3}
    await live(place, [], app=few)
    limits = Limits(snapshot_events_every=2)
    for grown, there in ((3, True), (2, True), (0, False)):  # 8 events before; a snapshot at 8 is of use up to 12
        async with Engine(few, log=place.log(), limits=limits) as engine:
            kept = {snapshot.part for snapshot in await snapshots_of(engine.log).kept()}
            assert ("view Shelf" in kept) is there
            await engine.execute_many([Add("a", 1)] * grown)
    assert kept == {"ledger", "model Book", "model Stock", "view Pinboard"}


# States that msgspec does not know.


class Counted(Query[int]):
    pass


class Own(View):
    """Holds what msgspec does not know, and says itself how it is put aside."""

    counts: set[int] | complex = 0j

    @applies
    def added(self, event: Added) -> None:
        assert isinstance(self.counts, complex)
        self.counts += complex(event.count, 1)

    @answers
    def counted(self, query: Counted) -> int:
        assert isinstance(self.counts, complex)
        return int(self.counts.real)

    def snapshot(self) -> Iterator[bytes]:
        assert isinstance(self.counts, complex)
        yield b"real %d" % self.counts.real
        yield b"imag %d" % self.counts.imag

    def restore(self, piece: bytes) -> None:
        assert isinstance(self.counts, complex)
        name, _, number = piece.partition(b" ")
        self.counts += complex(int(number), 0) if name == b"real" else complex(0, int(number))


class Without(Own):
    def snapshot(self) -> None:  # type: ignore[override]
        return None


class Neither(View):
    count: complex = 0j

    @applies
    def added(self, event: Added) -> None:
        self.count += event.count

    @answers
    def counted(self, query: Counted) -> int:
        return int(self.count.real)


class Raising(Own):
    def snapshot(self) -> Iterator[bytes]:
        yield b"real 3"
        raise ArithmeticError("half way")


def with_view(view: type[View]) -> App:
    return App(models=[Stock, Book], views=[view], name="shop")


@pytest.mark.parametrize(
    ("view", "failed", "again"),
    [
        (Own, [], 0),
        (Without, [], 8),
        (Neither, ["TypeError('Encoding objects of type complex is unsupported')"], 8),
        (Raising, ["ArithmeticError('half way')"], 8),
    ],
)
async def test_a_state_that_msgspec_does_not_know_has_its_own_snapshots_or_none(
    place: Place, log_lines: list[Any], view: type[View], failed: list[str], again: int
) -> None:
    app = with_view(view)
    for attempt in range(1, 4):
        async with Engine(app, log=place.log()) as engine:
            if attempt == 1:
                for command in COMMANDS:
                    await engine.execute(command)
            assert await engine.ask(Counted(), after=8) == 9
        assert [line["error"] for line in log_lines if line["event"] == "snapshot_failed"] == failed * (
            1 if attempt == 1 else attempt
        )
        assert set_aside(log_lines) == []
    assert opened(log_lines) == again


class Tally(WriteModel):
    """A write model without snapshots beside models that have some."""

    added: int = 0

    @applies
    def count(self, event: Added) -> None:
        self.added += event.count

    def snapshot(self) -> None:
        return None


async def test_a_write_model_without_snapshots_is_replayed_and_those_beside_it_are_not(
    place: Place, log_lines: list[Any]
) -> None:
    app = App(models=[Stock, Tally, Book], views=[Pinboard], name="shop")
    was = await live(place, app=app)
    async with Engine(app, log=place.log()) as engine:
        assert engine_state(engine) == was
        assert engine_state(engine)[0][1] == Tally(9)
        assert engine.stats().snapshot_position == 8
    assert opened(log_lines) == 8


# How much of the log is looked at.


def change(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


DAMAGE = "UPDATE commits SET body = replace(body, '\"count\":1', '\"count\":9') WHERE number = {}"


@pytest.mark.parametrize(
    ("number", "seen"), [(1, False), (14, False), (15, True), (16, True), (19, True), (20, True), (22, True)]
)
async def test_damage_in_the_last_commits_is_found_though_a_snapshot_makes_reading_them_needless(
    tmp_path: Path, log_lines: list[Any], number: int, seen: bool
) -> None:
    place, limits = SqlitePlace(tmp_path), Limits(verify_commits_min=8)
    await live(place, [Add("a", 1)] * 20)
    await live(place, [Add("a", 1)] * 2, snapshots=False)
    change(place.path, DAMAGE.format(number))
    if seen:
        with pytest.raises(LogCorrupt, match=f"is damaged at commit {number}: its digest does not match"):
            async with Engine(shop, log=place.log(), limits=limits):
                pass
    else:
        async with Engine(shop, log=place.log(), limits=limits) as engine:
            assert await engine.ask(StockOf("a")) == 22
        assert opened(log_lines) == 2
    with pytest.raises(LogCorrupt, match=f"is damaged at commit {number}: its digest does not match"):
        async with Engine(shop, log=place.log(), snapshots=False):
            pass


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM commits WHERE number = 12", "at commit 12: "),
        ("UPDATE commits SET body = 'nothing' WHERE number = 12", "at commit 12: its body is not that of a commit"),
        ("UPDATE commits SET digest = zeroblob(32) WHERE number = 12", "at commit 13: its digest does not match"),
        ("UPDATE commits SET position = position + 1 WHERE number = 12", "at commit 13: its first event has position"),
    ],
)
async def test_the_commit_before_those_that_are_checked_is_what_they_are_checked_against(
    tmp_path: Path, statement: str, problem: str
) -> None:
    place = SqlitePlace(tmp_path)
    await live(place, [Add("a", 1)] * 20)
    change(place.path, statement)
    with pytest.raises(LogCorrupt, match=problem):
        async with Engine(shop, log=place.log(), limits=Limits(verify_commits_min=8)):
            pass


# A state that is lost while the engine runs.


async def test_a_rebuild_after_a_failed_commit_replays_only_what_came_after_the_snapshot(log_lines: list[Any]) -> None:
    store = MemoryStore()
    for _ in range(2):
        async with Engine(shop, log=ScriptedLog(store)) as engine:
            await engine.execute_many([Add("a", 1)] * 10)
    log = ScriptedLog(store)
    async with Engine(shop, log=log) as engine:
        await engine.execute_many([Add("a", 1)] * 3)
        log.steps.append("refused")
        with pytest.raises(CommitFailed):
            await engine.execute(Add("a", 100))
        await engine.execute(Take("a", 23))
        assert await engine.ask(StockOf("a"), after=24) == 0
        was = engine_state(engine)
    ((replay, events),) = [(line["replayed"], line["events"]) for line in log_lines if line["event"] == "state_rebuilt"]
    assert (replay, events) == (3, 23)
    assert was == await replayed(store.commits)


async def test_a_rebuild_without_a_store_of_snapshots_replays_everything(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, snapshots=False) as engine:
        await engine.execute_many([Add("a", 1)] * 10)
        log.steps.append("refused")
        with pytest.raises(CommitFailed):
            await engine.execute(Add("a", 100))
        await engine.execute(Take("a", 10))
    assert [line["replayed"] for line in log_lines if line["event"] == "state_rebuilt"] == [10]


# A file of snapshots that is damaged.


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def zeroed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(min(300, len(data) - at)) + data[at + 300 :]


def cut(data: bytes, at: int) -> bytes:
    return data[:at]


@one_loop
@pytest.mark.parametrize("harm", [flipped, zeroed, cut])
async def test_wherever_the_file_of_snapshots_is_damaged_the_engine_opens_with_the_right_state(
    tmp_path: Path, log_lines: list[Any], harm: Callable[[bytes, int], bytes]
) -> None:
    place = SqlitePlace(tmp_path)
    was = await live(place, [Note("x" * 3_000)] * 8 + COMMANDS)
    file = Path(f"{place.path}-snapshots")
    data = file.read_bytes()
    assert len(data) > 10 * 4096
    for step in range(24):
        at = (len(data) - 1) * step // 23
        file.write_bytes(harm(data, at))
        log_lines.clear()
        async with Engine(shop, log=place.log()) as engine:
            assert engine_state(engine) == was
        told = [line["event"] for line in log_lines if line["event"].startswith("snapshot")]
        assert opened(log_lines) == 0 or told or (harm is cut and at < 512), "less than a header is an empty file"
        for _ in range(2):
            async with Engine(shop, log=place.log()) as engine:
                assert engine_state(engine) == was
        assert opened(log_lines) == 0, "it is mended by then"
