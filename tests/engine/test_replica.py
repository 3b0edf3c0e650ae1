"""A replica answers what the log says: at once, later, again and again, and forwards what it can't do itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import (
    Answered,
    App,
    Command,
    DefinitionError,
    Engine,
    EngineClosed,
    Gateway,
    ImpureHandler,
    Limits,
    LogRefused,
    MemoryLog,
    NotLeader,
    NotYetVisible,
    Query,
    Replica,
    ReplicaStats,
    ViewFaulted,
    ViewStats,
)
from millstream.engine.health import health_of
from millstream.engine.server.backend import Backend
from millstream.engine.stats import Health
from millstream.engine.stores.capabilities import snapshots_of
from millstream.engine.stores.memory import MemoryStore
from millstream.views import View, answers, applies
from tests.desk import Put, Seen, desk
from tests.engine.stores.sqlite import children
from tests.engine.stores.sqlite.children import child
from tests.shop import (
    Add,
    Added,
    Book,
    Break,
    Move,
    Note,
    Notes,
    Nothing,
    Stock,
    StockOf,
    Take,
    shop,
)
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import Outcome, settled, start, views_of

pytestmark = pytest.mark.anyio
#: For what happens in a process of its own, whatever loop waits for it here.
once = pytest.mark.parametrize("anyio_backend", ["asyncio"])

PULSE = "millstream.engine.stores.sqlite.pulse.LOOK_SECONDS"
NEVER = 3_600.0


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


@asynccontextmanager
async def both(place: Place, app: App = shop, **options: Any) -> AsyncIterator[tuple[Engine, Replica]]:
    engine = Engine(app, log=place.log(), **options)
    async with engine, Replica(app, log=place.log(), writer=engine, **options) as replica:
        yield engine, replica


async def states(running: Engine | Replica, position: int) -> list[Any]:
    """The views' states at a position that all of them reach, or the position and error at which one faulted."""
    found: list[Any] = []
    for view in views_of(running):
        try:
            await view.reach(position, 10)
            found.append(view.read.state)
        except ViewFaulted as error:
            found.append((error.position, repr(error.cause)))
    return found


def opened(log_lines: Sequence[Any]) -> int:
    """How many events the last replica had to replay when it was opened."""
    return int([line for line in log_lines if line["event"] == "replica_opened"][-1]["replayed"])


def named(log_lines: Sequence[Any], prefix: str) -> list[Any]:
    return [line["event"] for line in log_lines if line["event"].startswith(prefix)]


# Answers and tokens.


async def test_a_replica_answers_what_was_there_and_what_comes(place: Place, log_lines: list[Any]) -> None:
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute_many([Add("a", 1), Note("one")])
        async with Replica(shop, log=place.log()) as replica:
            assert await replica.ask(StockOf("a")) == 1
            assert await replica.answer(Notes()) == Answered(("one",), 2)
            assert replica.answer_now(StockOf("a"), 2, False) == (1, 2)
            assert replica.answer_now(StockOf("a"), 3, False) is None
            receipt = await engine.execute(Add("a", 2))
            assert await replica.ask(StockOf("a"), after=receipt, timeout=10) == 3
            assert replica.position == 3
    assert named(log_lines, "replica") == ["replica_opened", "replica_closed"]
    assert opened(log_lines) == 2


async def test_a_token_of_the_writer_or_of_another_replica_is_one_here(place: Place) -> None:
    async with both(place) as (engine, first), Replica(shop, log=place.log()) as second:
        receipt = await first.execute(Add("a", 1))
        answered = await second.answer(StockOf("a"), after=receipt, timeout=10)
        assert answered == Answered(1, 1)
        assert await first.ask(StockOf("a"), after=answered, timeout=10) == 1
        assert await engine.ask(StockOf("a"), after=answered, timeout=10) == 1
        with pytest.raises(NotYetVisible):
            await second.ask(StockOf("a"), after=2, timeout=0.01)


async def test_who_has_a_token_does_not_wait_for_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PULSE, NEVER)
    async with both(SqlitePlace(tmp_path)) as (_, replica):
        for count in range(1, 20):
            receipt = await replica.execute(Add("a", 1))
            assert await replica.ask(StockOf("a"), after=receipt, timeout=10) == count


async def test_a_view_that_leaves_events_out_says_so_on_a_replica_too(place: Place) -> None:
    async with both(place, desk("park")) as (engine, replica):
        for text in ("good", "bad", "good"):
            await replica.execute(Put("a", text))
        await replica.ask(Seen(), after=3, timeout=10, incomplete=True)
        await engine.ask(Seen(), after=3, timeout=10, incomplete=True)
        assert [parked.position for parked in replica.parked()] == [2, 3]
        assert replica.parked() == engine.parked()


async def test_a_watch_on_a_replica_goes_on_from_writer_to_writer(place: Place) -> None:
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute(Add("a", 1))
    async with Replica(shop, log=place.log()) as replica, replica.watch(StockOf("a"), every=True) as watched:
        seen: list[tuple[int, int]] = []
        for _ in range(3):
            with anyio.fail_after(10):
                answered = await anext(watched)
            seen.append((answered.answer, answered.position))
            async with Engine(shop, log=place.log()) as engine:
                await engine.execute(Add("b", 1))
                await engine.execute(Add("a", 1))
    assert seen == [(1, 1), (2, 3), (3, 5)]


class Emptied(Query[int]):
    pass


class Leaky(View):
    stock: dict[str, int] = {}

    @applies
    def added(self, event: Added) -> None:
        self.stock[event.item] = event.count

    @answers
    def stock_of(self, query: StockOf) -> int:
        return self.stock.get(query.item, 0)

    @answers
    def emptied(self, query: Emptied) -> int:
        self.stock.clear()
        return 0


leaky = App(models=[Stock, Book], views=[Leaky], name="shop")


async def test_an_answer_that_changes_the_view_is_found_out(place: Place) -> None:
    async with both(place, leaky, check_purity=True) as (_, replica):
        receipt = await replica.execute(Add("a", 1))
        assert await replica.ask(StockOf("a"), after=receipt, timeout=10) == 1
        with pytest.raises(ImpureHandler, match=r"Leaky\.emptied"):
            await replica.ask(Emptied())
        with pytest.raises(ViewFaulted):
            await replica.ask(StockOf("a"))


# Commands.


async def test_a_replica_without_a_writer_takes_no_commands(place: Place) -> None:
    async with Engine(shop, log=place.log()), Replica(shop, log=place.log()) as replica:
        with pytest.raises(DefinitionError, match=r"such as Client\('unix://shop.sock'\), not a text"):
            Replica(shop, log="shop.db", writer="unix://shop.sock")  # type: ignore[arg-type]
        with pytest.raises(NotLeader, match="send them to the writer, whose address it was not given") as raised:
            await replica.execute(Add("a", 1))
        assert raised.value.address is None
        assert [type(each) for each in await replica.execute_many([Add("a", 1), Add("b", 1)])] == [NotLeader] * 2
        assert replica.position == 0


async def test_a_replica_is_a_gateway_and_what_a_server_serves(place: Place) -> None:
    async with both(place) as (engine, replica):
        backends: list[Backend] = [engine, replica]
        async with Replica(shop, log=place.log(), writer=replica) as another:
            chained: Gateway = another
            receipt = await chained.execute(Add("a", 1), command_id="one")
            assert await chained.ask(StockOf("a"), after=receipt, timeout=10) == 1
            (again,) = await chained.execute_many([Add("a", 1)], command_ids=["one"])
            assert getattr(again, "repeated", False)
        await replica.ask(StockOf("a"), after=1, timeout=10)
        await engine.ask(StockOf("a"), after=1, timeout=10)
        assert [health_of(backend) for backend in backends] == [
            Health(True, True, "writer", 1, 0, []),
            Health(True, True, "replica", 1, 0, []),
        ]


# Opening.


async def test_a_replica_begins_with_the_writers_snapshots(place: Place, log_lines: list[Any]) -> None:
    every = Limits(snapshot_events_every=10, batch_commands_max=1)
    async with Engine(shop, log=place.log(), limits=every) as engine:
        await engine.execute_many([Add("a", 1)] * 25)
        while engine.stats().snapshot_position < 20:
            await anyio.lowlevel.checkpoint()
        async with Replica(shop, log=place.log()) as replica:
            assert opened(log_lines) <= 5
            assert await states(replica, 25) == await states(engine, 25)
    async with Replica(shop, log=place.log()) as replica:
        assert opened(log_lines) == 0
        assert await replica.ask(StockOf("a")) == 25
    async with Replica(shop, log=place.log(), snapshots=False) as replica:
        assert opened(log_lines) == 25
        assert await replica.ask(StockOf("a")) == 25
    assert named(log_lines, "snapshot_set") == named(log_lines, "snapshots_un") == []


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)


def spoil(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE pieces SET data = x'00'")
    db.close()


def be_strange(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE snapshots SET pieces = 'many'")
    db.close()


def be_foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text)")
    db.close()


def be_newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()


def be_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "lines"),
    [
        (Path.unlink, []),
        (damage, ["snapshots_unavailable"]),
        (spoil, ["snapshot_set_aside"] * 3),
        (be_strange, ["snapshot_set_aside"]),
        (be_foreign, ["snapshots_unavailable"]),
        (be_newer, ["snapshots_unavailable"]),
        (be_folder, ["snapshots_unavailable"]),
        (lambda path: path.write_text("these are my notes" * 1_000), ["snapshots_unavailable"]),
    ],
)
async def test_snapshots_that_are_no_good_are_left_as_they_are_and_the_log_is_replayed(
    tmp_path: Path, log_lines: list[Any], harm: Callable[[Path], object], lines: list[str]
) -> None:
    place = SqlitePlace(tmp_path)
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute_many([Add("a", 1), Note("one")])
        expected = await states(engine, 2)
    harm(tmp_path / "first.db-snapshots")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    log_lines.clear()
    async with Replica(shop, log=place.log()) as replica:
        assert await states(replica, 2) == expected
        assert opened(log_lines) == 2
    assert named(log_lines, "snapshot") == lines
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


async def test_a_snapshot_that_is_replaced_while_it_is_read_is_read_to_its_end(
    tmp_path: Path, log_lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = SqlitePlace(tmp_path)
    limits = Limits(snapshot_events_every=10, batch_commands_max=1)
    async with Engine(shop, log=place.log(), limits=limits) as engine:
        await engine.execute_many([Add("a", 1)] * 10)
        while engine.stats().snapshot_position < 10:
            await anyio.lowlevel.checkpoint()
        log = place.log()
        pieces = snapshots_of(log).pieces

        async def slow(snapshot: Any, start: int) -> Any:
            monkeypatch.undo()
            await engine.execute_many([Add("a", 1)] * 10)
            while engine.stats().snapshot_position < 20:
                await anyio.lowlevel.checkpoint()
            return await pieces(snapshot, start)

        monkeypatch.setattr(log.snapshots, "pieces", slow)
        async with Replica(shop, log=log) as replica:
            assert opened(log_lines) == 10
            assert await states(replica, 20) == await states(engine, 20)
    assert named(log_lines, "snapshot_set") == []


async def test_following_changes_nothing_in_the_folder(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute(Add("a", 1))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    async with Replica(shop, log=place.log()) as replica:
        assert await replica.ask(StockOf("a")) == 1
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


async def test_a_replica_makes_no_write_models(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute(Add("a", 1))

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a replica decides nothing")

    monkeypatch.setattr("millstream.engine.write.parts.ModelPart.__init__", never)
    async with Replica(shop, log=place.log()) as replica:
        assert await replica.ask(StockOf("a")) == 1


async def test_what_is_no_log_of_the_application_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(LogRefused, match="there"):
        async with Replica(shop, log=place.log()):
            pass
    async with Engine(shop, log=place.log()):
        pass
    other = App(models=[Stock, Book], views=[Counts], name="other")
    with pytest.raises(LogRefused, match=r"belongs to application 'shop', not to 'other'; give App\(name=…\) the name"):
        async with Replica(other, log=place.log()):
            pass
    async with Engine(shop, log=place.log()):
        pass


async def test_a_replica_is_opened_once_and_used_while_it_is_open(place: Place) -> None:
    async with Engine(shop, log=place.log()):
        replica = Replica(shop, log=place.log())
        assert replica.status == "not open yet"
        with pytest.raises(EngineClosed, match="not open yet"):
            await replica.ask(StockOf("a"))
        with pytest.raises(EngineClosed, match="not open yet"):
            await replica.execute(Add("a", 1))
        async with replica:
            assert replica.status == "open"
        assert replica.status == "closed"
        with pytest.raises(EngineClosed, match="closed"):
            await replica.ask(StockOf("a"))
        with pytest.raises(EngineClosed, match="closed and can't be opened again: make a new Replica"):
            async with replica:
                pass


# Closing.


async def test_closing_answers_everybody_and_leaves_nothing_behind(place: Place) -> None:
    async with Engine(shop, log=place.log()) as engine, anyio.create_task_group() as group:
        await engine.execute(Add("a", 1))
        before = asyncio.all_tasks()
        with anyio.CancelScope() as scope:
            async with Replica(shop, log=place.log()) as replica:
                waits = start(group, replica.ask(StockOf("a"), after=100))
                watches = Outcome()
                watching = replica.watch(StockOf("a"))

                async def watch() -> None:
                    async with watching as answers:
                        async for _ in answers:
                            pass

                group.start_soon(watches.follow, watch())
                await settled()
                scope.cancel()
                await anyio.sleep_forever()
        assert replica.status == "closed"
        while not (waits.settled and watches.settled):
            await anyio.lowlevel.checkpoint()
        assert (waits.kind, watches.kind) == ("EngineClosed", "EngineClosed")
        await settled()
        assert {task for task in asyncio.all_tasks() if "millstream" in task.get_name()} <= before


# How far behind it is.


class CountOf(Query[int]):
    pass


class Counts(View):
    count: int = 0

    @applies
    def added(self, event: Added) -> None:
        self.count += 1

    @answers
    def count_of(self, query: CountOf) -> int:
        return self.count


async def test_a_replica_says_how_far_behind_it_is() -> None:
    store, times = MemoryStore(), iter(range(1, 60))
    now = datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC)
    app = App(models=[Stock, Book], views=[Counts], name="shop")
    async with (
        Engine(app, log=MemoryLog(store), clock=lambda: datetime(2026, 1, 1, 0, 0, next(times), tzinfo=UTC)) as engine,
        Replica(app, log=MemoryLog(store), clock=lambda: now) as replica,
    ):
        receipt = await engine.execute(Add("a", 1))
        await replica.ask(CountOf(), after=receipt)
        level = ViewStats("live", 1, 0, 0, 0)
        assert replica.stats() == ReplicaStats("open", None, 1, 1, 1, 0, 0.0, {"Counts": level})
        async with views_of(replica)[0].still:
            for _ in range(3):
                await engine.execute(Add("a", 1))
            await settled()
            behind = ViewStats("live", 1, 3, 2, 0)  # one of them is being applied
            since = 60.0 - datetime.fromisoformat(store.commits[1].recorded_at).second
            assert replica.stats() == ReplicaStats("open", None, 4, 4, 4, 3, since, {"Counts": behind})
            assert health_of(replica).lag_events == 3
        await replica.ask(CountOf(), after=4)
        assert replica.stats() == ReplicaStats("open", None, 4, 4, 4, 0, 0.0, {"Counts": ViewStats("live", 4, 0, 0, 0)})


# Other processes.


@once
async def test_a_replica_follows_a_writer_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with child(children.keep_shop, tmp_path) as process:
        assert process.said() == 0
        process.go_on(["a"])
        assert process.said() == [1]
        process.kill()
    async with Replica(shop, log=tmp_path / "log.db") as replica:
        assert await replica.ask(StockOf("a")) == 1
        position = 1
        for _ in range(3):
            with child(children.keep_shop, tmp_path) as process:
                assert process.said() == position
                process.go_on(["a"] * 1_000 + ["b"])
                position = process.said()[-1]
                assert await replica.ask(StockOf("b"), after=position, timeout=10) == (position - 1) // 1_001
                assert (
                    await replica.ask(StockOf("a"), after=position, timeout=10) == (position - 1) // 1_001 * 1_000 + 1
                )
                process.kill()
        with child(children.keep_shop, tmp_path) as process:
            assert process.said() == position
            process.end()
        assert replica.status == "open"
        assert replica.stats().lag_events == 0
    assert position == 3_004


# Replay ≡ live.


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Add, st.sampled_from("abc"), st.integers(1, 5)),
    st.builds(Take, st.sampled_from("abc"), st.integers(1, 5)),
    st.builds(Move, st.sampled_from("abc"), st.sampled_from("abc")),
    st.builds(Note, st.text(max_size=3)),
    st.builds(Nothing, st.sampled_from("abc")),
    st.builds(Break, st.sampled_from(["fine", "fine", "fine", "view"])),
)


@settings(max_examples=60)
@given(
    st.lists(st.lists(COMMANDS, max_size=12), min_size=1, max_size=6),
    st.integers(1, 5),
    st.sampled_from([1, 200, 10**6]),
    st.sampled_from([1e-6, 2.0]),
    st.sampled_from([3, 10**6]),
)
def test_under_any_history_replicas_that_start_at_any_moment_hold_what_the_writer_holds(
    rounds: list[list[Command]], queue: int, read_bytes_max: int, slice_ms_max: float, every: int
) -> None:
    limits = Limits(
        view_queue_commits_max=queue,
        read_bytes_max=read_bytes_max,
        slice_ms_max=slice_ms_max,
        batch_commands_max=2,
        snapshot_events_every=every,
    )

    async def both() -> None:
        store = MemoryStore()
        async with Engine(shop, log=MemoryLog(store), limits=limits) as engine, anyio.create_task_group() as group:
            replicas: list[Replica] = []
            done = anyio.Event()

            async def replicate() -> None:
                async with Replica(shop, log=MemoryLog(store), limits=limits) as replica:
                    replicas.append(replica)
                    await done.wait()

            for commands in rounds:
                group.start_soon(replicate)
                await engine.execute_many(commands)
            while len(replicas) < len(rounds):
                await anyio.lowlevel.checkpoint()
            expected = await states(engine, engine.position)
            for replica in replicas:
                while replica.position < engine.position:
                    await anyio.lowlevel.checkpoint()
                assert await states(replica, engine.position) == expected
                assert [view.detached for view in views_of(replica)] == [0, 0, 0]
            done.set()

    anyio.run(both)
