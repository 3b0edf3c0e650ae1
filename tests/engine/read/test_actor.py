"""A view's actor: whole commits, in order, each once, however slow it is and however often it is detached."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from millstream.engine import (
    App,
    CommitFailed,
    Engine,
    EngineClosed,
    Event,
    Fenced,
    InvalidMessage,
    Limits,
    MemoryLog,
    NotYetVisible,
    OutcomeUnknown,
    Query,
    ViewBehind,
    ViewFaulted,
)
from millstream.engine.stores.memory import MemoryStore
from millstream.views import View, answers, applies
from tests.shop import Add, Added, Book, Break, Broke, Everything, Note, Noted, Notes, Stock, StockOf, shop
from tests.support import (
    AT_ONCE,
    ScriptedLog,
    Step,
    published,
    settled,
    start,
    views_held,
    views_of,
)

pytestmark = pytest.mark.anyio


class Seen(Query[tuple[int, ...]]):
    pass


class Recorder(View):
    """Every count that it saw, in order: nothing missing and nothing doubled shows in it."""

    counts: list[int] = []

    @applies
    def added(self, event: Added) -> None:
        self.counts.append(event.count)

    @answers
    def seen(self, query: Seen) -> tuple[int, ...]:
        return tuple(self.counts)


recorded = App(models=[Stock, Book], views=[Recorder], name="shop")


def adds(start: int, count: int) -> list[Add]:
    return [Add("a", number) for number in range(start, start + count)]


async def test_a_view_that_is_too_slow_is_detached_catches_up_and_misses_nothing(log_lines: list[Any]) -> None:
    limits = Limits(view_queue_commits_max=2, batch_commands_max=1, slice_ms_max=1e-6)
    async with Engine(recorded, log="memory:", limits=limits) as engine:
        view = views_of(engine)[0]
        decoded_commits: list[Any] = []
        view.offer, offer = decoded_commits.append, view.offer  # type: ignore[method-assign,assignment]
        await engine.execute_many(adds(1, 20))
        for decoded in decoded_commits:  # all at once, before its task can run: far more than its queue holds
            offer(decoded)
        view.offer = offer  # type: ignore[method-assign]
        assert (view.status, view.queued, view.lag) == ("catching up", 0, 20)
        receipts = await engine.execute_many(adds(21, 20))
        assert await engine.ask(Seen(), after=40) == tuple(range(1, 41))
        assert len(receipts) == 20
        await settled()
        stats = engine.stats().views["Recorder"]
        assert (stats.status, stats.position, stats.lag_events) == ("live", 40, 0)
        assert stats.detached >= 1
    events = [line["event"] for line in log_lines]
    assert events.count("view_detached") >= 1
    assert events.count("view_caught_up") == events.count("view_detached")


async def test_the_writer_does_not_wait_for_a_view_that_catches_up() -> None:
    log = ScriptedLog()
    limits = Limits(view_queue_commits_max=1, batch_commands_max=1, catch_up_retry_seconds=0.001)
    async with Engine(recorded, log=log, limits=limits) as engine:
        view = views_of(engine)[0]
        log.reads_fail = 10**9
        view.resync(published(engine))
        await engine.execute_many(adds(1, 50))
        assert engine.stats().views["Recorder"].lag_events == 50
        assert await engine.ask(Seen()) == ()
        log.reads_fail = 0
        assert await engine.ask(Seen(), after=50, timeout=5) == tuple(range(1, 51))


async def test_a_queue_is_bounded_in_bytes_too() -> None:
    limits = Limits(view_queue_bytes_max=1_000, batch_commands_max=1)
    async with Engine(recorded, log="memory:", limits=limits) as engine:
        view = views_of(engine)[0]
        decoded_commits: list[Any] = []
        view.offer, offer = decoded_commits.append, view.offer  # type: ignore[method-assign,assignment]
        await engine.execute_many(adds(1, 50))
        view.offer = offer  # type: ignore[method-assign]
        held = 0
        for decoded in decoded_commits:
            offer(decoded)
            held = max(held, view.queued)
        assert 1 < held < 15
        assert await engine.ask(Seen(), after=50) == tuple(range(1, 51))


async def test_a_commit_larger_than_the_queue_is_taken_when_nothing_else_waits() -> None:
    limits = Limits(view_queue_bytes_max=1)
    async with Engine(recorded, log="memory:", limits=limits) as engine:
        receipt = await engine.execute(Add("a", 7))
        assert await engine.ask(Seen(), after=receipt) == (7,)
        assert engine.stats().views["Recorder"].detached == 0


async def test_an_answer_never_shows_half_a_commit() -> None:
    """A commit of many events is applied in slices; whoever asks in between waits for the end of it."""
    log = ScriptedLog()
    limits = Limits(slice_ms_max=1e-6)
    async with Engine(recorded, log=log, limits=limits) as engine, anyio.create_task_group() as group:
        seen: list[int] = []

        async def ask_all_the_time() -> None:
            while True:
                seen.append(len(await engine.ask(Seen())))
                await anyio.lowlevel.checkpoint()

        log.hold()  # so that commits grow to their limit while the first is written
        writing = start(group, engine.execute_many(adds(1, 1_000)))
        await settled()
        group.start_soon(ask_all_the_time)
        log.release()
        while views_of(engine)[0].position < 1_000:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert writing.kind in ("list", "waiting")
    boundaries = [*(commit.position - 1 for commit in log.commits), 1_000]
    assert max(end - begin for begin, end in pairwise(boundaries)) > 64  # more than a view applies at a time
    assert set(seen) <= set(boundaries)


async def test_a_view_that_has_nothing_to_do_with_a_commit_moves_on_without_a_task_switch() -> None:
    async with Engine(shop, log="memory:") as engine:
        receipt = await engine.execute(Note("hi"))
        shelf = views_of(engine)[0]
        assert (shelf.position, shelf.queued) == (receipt.position, 0)
        assert await engine.ask(Notes(), after=receipt) == ("hi",)


async def test_asking_for_a_position_waits_for_it_and_no_longer_than_it_is_told() -> None:
    async with Engine(shop, log="memory:") as engine, anyio.create_task_group() as group:
        await engine.execute(Add("a", 1))
        await settled()
        async with views_held(engine):
            receipt = await engine.execute(Add("a", 1))
            outcome = start(group, engine.ask(StockOf("a"), after=receipt))
            await settled()
            assert outcome.kind == "waiting"
            with pytest.raises(NotYetVisible, match=r"view Shelf is at position 1 and did not reach 2 within 0.01 s"):
                await engine.ask(StockOf("a"), after=2, timeout=0.01)
        await settled()
        assert outcome.value == 2


async def test_as_many_queries_as_the_limit_says_may_wait_for_a_view() -> None:
    async with (
        Engine(shop, log="memory:", limits=Limits(view_waiters_max=2)) as engine,
        anyio.create_task_group() as group,
    ):
        async with views_held(engine):
            receipt = await engine.execute(Add("a", 1))
            waiting = [start(group, engine.ask(StockOf("a"), after=receipt)) for _ in range(2)]
            await settled()
            with pytest.raises(ViewBehind, match=r"2 queries already wait for it, view_waiters_max=2"):
                await engine.ask(StockOf("a"), after=1)
            views_of(engine)[1].position = 0  # another view has its own limit; cancelled, a query leaves no trace
            with anyio.move_on_after(0.01):
                await engine.ask(Notes(), after=1)
            assert len(views_of(engine)[1]._waiting) == 0
        await settled()
        assert [outcome.value for outcome in waiting] == [1, 1]


async def test_whoever_waits_for_a_view_hears_that_it_faulted_or_closed() -> None:
    log = ScriptedLog()
    async with (
        anyio.create_task_group() as group,
        Engine(shop, log=log, limits=Limits(drain_seconds_max=0.01)) as engine,
    ):
        async with views_held(engine):
            fragile = start(group, engine.ask(Broke("fine"), after=await engine.execute(Break("view"))))
            await settled()
            assert fragile.kind == "waiting"
        await settled()
        assert isinstance(fragile.error, ViewFaulted)
        log.hold()
        start(group, engine.execute(Add("a", 1)))
        await settled()
        shelf = start(group, engine.ask(StockOf("a"), after=2))
        await settled()
        assert shelf.kind == "waiting"
    assert isinstance(shelf.error, EngineClosed)


async def test_a_position_above_the_head_is_refused_at_once_and_a_receipts_never() -> None:
    async with Engine(shop, log="memory:") as engine, anyio.create_task_group() as group:
        with pytest.raises(InvalidMessage) as raised:
            await engine.ask(StockOf("a"), after=1)
        assert str(raised.value) == (
            "after is not valid: position 1 is above the head of the log, which is at 0: "
            "give a receipt or an answer of this log, as it is now"
        )
        with pytest.raises(InvalidMessage, match="position 1,000,000,000 is above"):
            await engine.answer(StockOf("a"), after=10**9)
        with pytest.raises(InvalidMessage, match="position 1 is above"):
            async with engine.watch(StockOf("a"), after=1):
                pass
        assert len(views_of(engine)[0]._waiting) == 0

        async def told_at_once() -> None:
            receipt = await engine.execute(Add("a", 1))
            seen.append(await engine.ask(StockOf("a"), after=receipt) >= receipt.position)

        seen: list[bool] = []
        for _ in range(100):
            group.start_soon(told_at_once)
    assert seen == [True] * 100


async def test_a_position_that_is_being_written_is_waited_for_as_a_replica_may_have_shown_it() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        log.hold()
        adding = start(group, engine.execute(Add("a", 1)))
        await settled()
        asked = start(group, engine.ask(StockOf("a"), after=1))
        with pytest.raises(InvalidMessage, match="position 2 is above the head of the log, which is at 1"):
            await engine.ask(StockOf("a"), after=2)
        await settled()
        assert (adding.kind, asked.kind) == ("waiting", "waiting")
        log.release()
        await settled()
        assert asked.value == 1


@pytest.mark.parametrize("step", ["refused", "lost"])
async def test_who_waits_for_a_position_whose_commit_fails_is_told_that_it_is_above_the_head(step: Step) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        first = await engine.execute(Add("a", 1))
        async with views_held(engine):
            log.steps.append(step)
            log.hold()
            adding = start(group, engine.execute(Add("a", 1)))
            await settled()
            there, asked = (start(group, engine.ask(StockOf("a"), after=after)) for after in (first, 2))
            watched = start(group, engine.watch(StockOf("a"), after=2).__aenter__())
            await settled()
            assert (adding.kind, asked.kind, watched.kind) == ("waiting", "waiting", "waiting")
            log.release()
            await settled()
        assert adding.kind == "CommitFailed"
        assert "position 2 is above the head of the log, which is at 1" in str(asked.error)
        assert (asked.kind, watched.kind, there.value) == ("InvalidMessage", "InvalidMessage", 1)


async def test_a_position_in_doubt_is_waited_for_and_one_that_was_refused_is_above_the_head() -> None:
    log = ScriptedLog()
    limits = Limits(store_retry_seconds=AT_ONCE)
    async with Engine(shop, log=log, limits=limits) as engine, anyio.create_task_group() as group:
        log.steps.extend(["refused", "written"])
        with pytest.raises(CommitFailed):
            await engine.execute(Add("a", 1))
        await settled()
        with pytest.raises(InvalidMessage, match="position 1 is above the head of the log, which is at 0"):
            await engine.ask(StockOf("a"), after=1)
        log.heads_fail = log.probes_fail = 2
        with pytest.raises(OutcomeUnknown):
            await engine.execute(Add("a", 1))
        await settled()
        asked = start(group, engine.ask(StockOf("a"), after=1))
        await settled()
        assert asked.kind == "waiting"
        log.heads_fail = log.probes_fail = 0
        assert (await engine.execute(Add("a", 1))).position == 2
        await settled()
        assert asked.value == 1


async def test_a_writer_that_is_fenced_does_not_know_the_head_and_refuses_no_position() -> None:
    store = MemoryStore()
    async with Engine(shop, log=MemoryLog(store)) as engine:
        await engine.execute(Add("a", 1))
        store.commits.append(store.commits[0])
        with pytest.raises(Fenced):
            await engine.execute(Add("a", 1))
        with pytest.raises(NotYetVisible):
            await engine.ask(StockOf("a"), after=2, timeout=0.01)


@pytest.mark.parametrize("nonsense", ["7", 7.0, (), object])
async def test_what_is_no_token_is_refused_by_name(nonsense: Any) -> None:
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(InvalidMessage, match=r"after is not valid: .* is no receipt, no answer and no position"):
            await engine.ask(StockOf("a"), after=nonsense)
        with pytest.raises(InvalidMessage, match="is no receipt"):
            async with engine.watch(StockOf("a"), after=nonsense):
                pass


async def test_a_view_that_faults_while_it_catches_up_stays_faulted(log_lines: list[Any]) -> None:
    async with Engine(shop, log="memory:") as engine:
        fragile = views_of(engine)[2]
        fragile.resync(published(engine))
        receipt = await engine.execute(Break("view"))
        with pytest.raises(ViewFaulted, match="position 1"):
            await engine.ask(Broke("fine"), after=receipt)
        fragile.resync(published(engine))
        assert engine.stats().views["Fragile"].status == "faulted"
        await engine.execute(Add("a", 1))
        assert await engine.ask(Everything()) == {"a": 1}


async def test_a_log_that_is_damaged_under_a_view_faults_it_and_says_so() -> None:
    store = MemoryStore()
    async with Engine(recorded, log=MemoryLog(store)) as engine:
        await engine.execute(Add("a", 1))
        view = views_of(engine)[0]
        await settled()
        view.offer, offer = (lambda decoded: None), view.offer  # type: ignore[method-assign]
        await engine.execute(Add("a", 2))
        store.commits[1] = store.commits[0]
        view.offer = offer  # type: ignore[method-assign]
        view.resync(published(engine))
        with pytest.raises(ViewFaulted, match=r"LogCorrupt\('memory:', 2, 'commit 1 stands where 2 should'"):
            await engine.ask(Seen(), after=2)


async def test_the_view_at_the_edge_of_joining_takes_each_commit_once() -> None:
    """Commits arrive while the last page is applied: they are in the queue and in the log."""
    limits = Limits(view_queue_commits_max=8, batch_commands_max=1, read_bytes_max=1, slice_ms_max=1e-6)
    async with Engine(recorded, log="memory:", limits=limits) as engine:
        for start_at in range(1, 200, 20):
            views_of(engine)[0].resync(published(engine))
            await engine.execute_many(adds(start_at, 20))
        assert await engine.ask(Seen(), after=200) == tuple(range(1, 201))


def test_events_that_a_view_does_not_apply_are_not_its_business() -> None:
    assert set(Recorder.__appliers__) == {Added}
    assert issubclass(Noted, Event)
