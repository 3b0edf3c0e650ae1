"""What follows the log for a replica: in order, not faster than its views, and through whatever happens to the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from millstream.engine import (
    App,
    Command,
    Engine,
    EngineClosed,
    EventsUnreadable,
    Limits,
    LogCorrupt,
    LogRefused,
    MemoryLog,
    Replica,
    SqliteLog,
    ViewFaulted,
)
from millstream.engine.commits.commit import Commit
from millstream.engine.health import health_of
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing import Faults, Simulation, simulate
from tests.shop import Add, Everything, Note, Notes, Shelf, Stock, StockOf, shop
from tests.support import Outcome, ScriptedLog, settled, start, views_of

pytestmark = pytest.mark.anyio

SOON = Limits(catch_up_retry_seconds=1e-6)


async def commits_of(commands: Sequence[Command], app: App = shop) -> list[Commit]:
    """The commits of an engine that executes these commands one by one."""
    log = MemoryLog()
    async with Engine(app, log=log) as engine:
        for command in commands:
            await engine.execute(command)
    return log.store.commits


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.lowlevel.checkpoint()


def told(log_lines: Sequence[Any]) -> list[Any]:
    """What the log lines tell of the replica itself."""
    return [line["event"] for line in log_lines if line["event"].startswith("replica_")]


# Not faster than its views.


@pytest.mark.parametrize(
    "limits",
    [Limits(view_queue_commits_max=4, read_bytes_max=1), Limits(view_queue_bytes_max=4 * 105, read_bytes_max=1)],
)
async def test_nothing_is_read_while_a_view_has_no_room_and_no_view_is_detached(limits: Limits) -> None:
    made = await commits_of([Add("a", 1)] * 200)
    log = ScriptedLog(MemoryStore(made[:1], "shop"))
    async with Replica(shop, log=log, limits=limits) as replica:
        shelf = views_of(replica)[0]
        async with shelf.still:
            for commit in made[1:]:
                log.inner.store.add(commit)
            await settled()
            # One is applied, one is being applied, the others wait. Or one less: if the first was taken out of a full
            # queue, there is no room again before half of it is applied.
            assert (shelf.position, replica.position) == (1, 2 + shelf.queued)
            assert 3 <= shelf.queued <= 4
            reads = log.reads_started
            await settled()
            assert log.reads_started == reads
        assert await replica.ask(StockOf("a"), after=200, timeout=30) == 200
        assert [view.detached for view in views_of(replica)] == [0, 0, 0]


async def test_a_commit_larger_than_all_that_may_wait_goes_in_alone() -> None:
    made = await commits_of([Add("a", 1), Note("x" * 1_000), Note("y" * 1_000), Add("a", 1)])
    store = MemoryStore(made[:1], "shop")
    async with Replica(shop, log=MemoryLog(store), limits=Limits(view_queue_bytes_max=500)) as replica:
        for commit in made[1:]:
            store.add(commit)
        assert await replica.ask(Notes(), after=4, timeout=30) == ("x" * 1_000, "y" * 1_000)


async def test_what_is_not_read_yet_counts_as_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.read.feed._LOOK_AHEAD_SECONDS", 0.0)
    made = await commits_of([Add("a", 1)] * 50)
    store = MemoryStore(made[:1], "shop")
    async with Replica(
        shop, log=MemoryLog(store), limits=Limits(view_queue_commits_max=1, read_bytes_max=1)
    ) as replica:
        async with views_of(replica)[0].still:
            for commit in made[1:]:
                store.add(commit)
            await settled()
            stats = replica.stats()
            assert (stats.position, stats.log_position, stats.lag_events) == (3, 50, 49)
        await replica.ask(StockOf("a"), after=50, timeout=30)
        assert replica.stats().lag_events == 0


async def test_pages_that_were_applied_are_forgotten_though_nobody_asks_how_far_it_is() -> None:
    made = await commits_of([Add("a", 1)] * 100)
    store = MemoryStore(made[:1], "shop")
    async with Replica(shop, log=MemoryLog(store)) as replica:
        for commit in made[1:]:
            store.add(commit)
            await replica.ask(StockOf("a"), after=commit.number, timeout=30)
        assert len(replica._feed._pages) <= 2


# A store that fails.


async def test_a_store_that_fails_is_tried_again_and_views_answer_meanwhile(log_lines: list[Any]) -> None:
    made = await commits_of([Add("a", 1)] * 5)
    log = ScriptedLog(MemoryStore(made[:2], "shop"))
    async with Replica(shop, log=log, limits=SOON) as replica:
        log.reads_fail = 10**6
        log.inner.store.add(made[2])
        await until(lambda: replica.status != "open")
        before = log.reads_started
        await until(lambda: log.reads_started > before + 5)
        assert replica.status == "cut off from its log"
        assert replica.stats().problem == "while reading"
        assert health_of(replica).reasons == ["it is cut off from its log"]
        assert (health_of(replica).live, health_of(replica).ready) == (True, False)
        assert await replica.ask(StockOf("a")) == 2
        async with anyio.create_task_group() as group:
            waits = start(group, replica.ask(StockOf("a"), after=3))
            await until(lambda: log.reads_started > before + 10)
            assert not waits.settled
            log.reads_fail = 0
            await until(lambda: waits.settled)
        assert waits.value == 3
        log.inner.store.add(made[3])
        assert await replica.ask(StockOf("a"), after=4, timeout=30) == 4
        assert (replica.status, replica.stats().problem) == ("open", None)
    assert told(log_lines) == ["replica_opened", "replica_cut_off", "replica_rejoined", "replica_closed"]
    (cut_off,) = [line for line in log_lines if line["event"] == "replica_cut_off"]
    assert (cut_off["position"], cut_off["error"]) == (2, "StoreBroke('while reading')")


async def test_a_replica_that_is_cut_off_is_closed_at_once() -> None:
    made = await commits_of([Add("a", 1)] * 2)
    log = ScriptedLog(MemoryStore(made[:1], "shop"))
    with anyio.fail_after(30):
        async with Replica(shop, log=log, limits=Limits(catch_up_retry_seconds=3_600)) as replica:
            log.reads_fail = 10**6
            log.inner.store.add(made[1])
            await until(lambda: replica.status != "open")
            assert await replica.ask(StockOf("a")) == 1  # what it has it answers, until it is closed
        with pytest.raises(EngineClosed):
            await replica.ask(StockOf("a"))


# A log that can't be read on.


async def test_a_damaged_commit_faults_the_views_and_everybody_hears_of_it(log_lines: list[Any]) -> None:
    made = await commits_of([Add("a", 1)] * 4)
    store = MemoryStore(made[:1], "shop")
    async with Replica(shop, log=MemoryLog(store)) as replica, anyio.create_task_group() as group:
        waits = start(group, replica.ask(StockOf("a"), after=4))
        watches = Outcome()

        async def watch() -> None:
            async with replica.watch(Everything()) as watched:
                async for _ in watched:
                    pass

        group.start_soon(watches.follow, watch())
        await settled()
        store.add(made[1])
        store.add(replace(made[2], body=made[2].body.replace(b'"count":1', b'"count":2')))
        store.add(made[3])
        await until(lambda: waits.settled and watches.settled)
        for error in (waits.error, watches.error):
            assert isinstance(error, ViewFaulted)
            assert (error.view, error.position) == ("Shelf", 3)
            assert isinstance(error.cause, LogCorrupt)
            assert error.cause.commit == 3
        assert replica.status == "unable to read its log on"
        assert replica.stats().problem == (
            "log memory: is damaged at commit 3: its digest does not match its content and the commit before it; "
            "commits 1 to 2 are whole: restore a backup"
        )
        assert health_of(replica).reasons == [
            "it is unable to read its log on",
            "view Shelf is faulted",
            "view Pinboard is faulted",
            "view Fragile is faulted",
        ]
        assert (replica.position, replica.stats().lag_events) == (2, 2)
    assert told(log_lines) == ["replica_opened", "replica_stopped", "replica_closed"]


async def test_events_of_a_newer_version_of_the_application_fault_the_views() -> None:
    made = await commits_of([Add("a", 1), Note("new")])
    older, store = App(models=[Stock], views=[Shelf], name="shop"), MemoryStore(made[:1], "shop")
    async with Replica(older, log=MemoryLog(store)) as replica:
        store.add(made[1])
        with pytest.raises(ViewFaulted) as raised:
            await replica.ask(StockOf("a"), after=2, timeout=30)
        assert isinstance(raised.value.cause, EventsUnreadable)
        assert "'Noted' is not known" in str(replica.stats().problem)
        assert replica.status == "unable to read its log on"


async def test_events_that_today_can_not_be_read_keep_a_replica_from_opening_and_all_are_named() -> None:
    made = await commits_of([Add("a", 1), Note("new"), Note("newer")])
    older = App(models=[Stock], views=[Shelf], name="shop")
    with pytest.raises(EventsUnreadable, match=r"'Noted' is not known: 2 of them, the first at position 2"):
        async with Replica(older, log=MemoryLog(MemoryStore(made, "shop"))):
            pass


# Files that are lost.


async def put(path: Path, made: Sequence[Commit], app: str = "shop") -> Path:
    """A log in a file that holds these commits."""
    log = SqliteLog(path)
    await log.open(app)
    for commit in made:
        await log.append(commit)
    await log.close()
    return path


async def test_a_file_that_is_put_back_is_followed_on(tmp_path: Path, log_lines: list[Any]) -> None:
    path, elsewhere = tmp_path / "log.db", tmp_path / "elsewhere.db"
    async with Engine(shop, log=path) as engine:
        await engine.execute(Add("a", 1))
        async with Replica(shop, log=path, limits=SOON) as replica:
            path.rename(elsewhere)
            await until(lambda: replica.status == "cut off from its log")
            assert await replica.ask(StockOf("a")) == 1
            elsewhere.rename(path)
            await until(lambda: replica.status == "open")
            receipt = await engine.execute(Add("a", 1))
            assert await replica.ask(StockOf("a"), after=receipt, timeout=30) == 2
    assert told(log_lines) == ["replica_opened", "replica_cut_off", "replica_rejoined", "replica_closed"]


@pytest.mark.parametrize("beside", [False, True])
async def test_a_copy_that_goes_on_where_the_file_was_is_followed_on(tmp_path: Path, beside: bool) -> None:
    made = await commits_of([Add("a", 1)] * 5)
    path = await put(tmp_path / "log.db", made[:2])
    copy = await put(tmp_path / "copy.db", made[:4])
    async with AsyncExitStack() as stack:
        if beside:
            await stack.enter_async_context(Engine(shop, log=path))
        replica = await stack.enter_async_context(Replica(shop, log=path, limits=SOON))
        for name in ("log.db", "log.db-wal", "log.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        copy.rename(path)
        assert await replica.ask(StockOf("a"), after=4, timeout=30) == 4
        log = SqliteLog(path)
        (tmp_path / "log.db-lock").unlink()  # the writer of the lost file has it
        await log.open("shop")
        await log.append(made[4])
        assert await replica.ask(StockOf("a"), after=5, timeout=30) == 5
        await log.close()


@pytest.mark.parametrize("older", [False, True])
async def test_another_log_in_the_place_of_the_one_that_was_read_faults_the_views(
    tmp_path: Path, older: bool, log_lines: list[Any]
) -> None:
    made, others = await commits_of([Add("a", 1)] * 3), await commits_of([Add("b", 1)] * 5)
    path = await put(tmp_path / "log.db", made)
    other = await put(tmp_path / "other.db", made[:2] if older else others)
    async with Replica(shop, log=path, limits=SOON) as replica:
        other.replace(path)
        with pytest.raises(ViewFaulted) as raised:
            await replica.ask(StockOf("a"), after=4, timeout=30)
        assert isinstance(raised.value.cause, LogRefused)
        assert replica.stats().problem == (
            f"log {path} is refused: it has no commit 3 such as was read here: another log is in its place; "
            "open the replica anew"
        )
    assert told(log_lines)[-2:] == ["replica_stopped", "replica_closed"]


async def test_another_applications_log_in_its_place_is_not_followed(tmp_path: Path) -> None:
    made = await commits_of([Add("a", 1)] * 3)
    path = await put(tmp_path / "log.db", made)
    kept = await put(tmp_path / "kept.db", made)
    other = await put(tmp_path / "other.db", [], "other")
    async with Replica(shop, log=path, limits=SOON) as replica:
        other.replace(path)
        await until(lambda: "belongs to application 'other', not to 'shop'" in str(replica.stats().problem))
        assert replica.status == "cut off from its log"
        assert await replica.ask(StockOf("a")) == 3
        kept.replace(path)
        await until(lambda: replica.status == "open")


# Any of it, at any moment.


def test_through_whatever_a_store_does_a_replica_shows_each_commit_once_and_goes_never_back() -> None:
    faults = Faults(read_fails=0.2, head_fails=0.2, open_fails=0.2, held=0.05)

    async def scenario(world: Simulation) -> None:
        log = world.log()
        limits = Limits(catch_up_retry_seconds=0.01, view_queue_commits_max=2, read_bytes_max=300, batch_commands_max=3)
        async with Engine(shop, log=log, limits=limits) as engine, AsyncExitStack() as stack:
            await engine.execute(Add("a", 1))
            beside = world.log(Faults(), store=log.store)
            replica = await stack.enter_async_context(Replica(shop, log=beside, writer=engine, limits=limits))
            beside.faults = faults
            positions = [0]
            for _ in range(30):
                outcomes = await replica.execute_many([Add("a", 1)] * world.random.randint(0, 5))
                await world.pause(0.1)
                answered = await replica.answer(StockOf("a"), after=positions[-1])
                assert answered.answer == answered.position >= positions[-1]
                positions.append(answered.position)
                if outcomes and world.random.random() < 0.5:
                    receipt: Any = outcomes[-1]
                    positions.append((await replica.answer(StockOf("a"), after=receipt)).position)
                    assert positions[-1] >= receipt.position
            assert await replica.ask(StockOf("a"), after=engine.position) == engine.position

    for seed in range(20):
        simulate(scenario, seed=seed)
